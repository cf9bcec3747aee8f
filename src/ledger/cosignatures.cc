// SPDX-License-Identifier: Apache-2.0
#include "ledger/cosignatures.h"

namespace naite::ledger {

namespace fs = std::filesystem;

namespace {

constexpr size_t kIdDigits = 16;
constexpr size_t kFilesMax = 200;
constexpr uintmax_t kBundleBytesMax = uintmax_t{16} << 20;

Result<std::string> read_small_file(const fs::path& path) {
  std::error_code code;
  if (fs::symlink_status(path, code).type() != fs::file_type::regular)
    return fail("{} is missing or no plain file", path.string());
  if (const uintmax_t size = fs::file_size(path, code); code || size > kBundleBytesMax)
    return fail("{} has {} bytes, at most {} are allowed", path.string(), size, kBundleBytesMax);
  return read_file(path);
}

Result<ModelKey> read_key(const fs::path& path) {
  NAITE_ASSIGN(const std::string pem, read_small_file(path));
  Result<ModelKey> key = ModelKey::parse_public(pem);
  if (!key) return fail("{}: {}", path.string(), key.error().message);
  if (pem != key->public_pem() || cosignature_id(*key) != path.stem().string())
    return fail("{} is not the key that its name says", path.string());
  return key;
}

}  // namespace

std::string cosignature_id(const ModelKey& key) { return key.hint().substr(0, kIdDigits); }

Result<std::vector<ModelCosignature>> read_cosignatures(const fs::path& directory) {
  const fs::path folder = directory / kCosignaturesDirectory;
  std::vector<ModelCosignature> out;
  std::error_code code;
  const fs::file_type type = fs::symlink_status(folder, code).type();
  if (type == fs::file_type::not_found) return out;
  if (type != fs::file_type::directory) return fail("{} is no folder", folder.string());
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(folder));
  if (names.size() > kFilesMax) return fail("{}: more than {} files", folder.string(), kFilesMax);
  for (const std::string& name : names) {
    const fs::path file = folder / name;
    if (name.starts_with(".tmp-")) continue;  // of a process that was killed
    if (!name.ends_with(".sig") && !name.ends_with(".pub"))
      return fail("{} is no signature and no key", file.string());
    NAITE_ASSIGN(const ModelKey key, read_key(fs::path(file).replace_extension(".pub")));
    if (name.ends_with(".pub")) continue;
    NAITE_ASSIGN(const std::string text, read_small_file(file));
    NAITE_ASSIGN(ModelSignature signature, ModelSignature::parse(text, file.string()));
    NAITE_ASSIGN(const std::string expected, signature.text());
    NAITE_ASSIGN(const std::string statement,
                 model_statement(signature.manifest, directory.filename().string()));
    if (text != expected || signature.payload != statement)
      return fail("{} is over other files, or spelled otherwise than naite does", file.string());
    if (!signature.is_signed_by(key))
      return fail("{} is not signed by the key beside it", file.string());
    out.push_back({key, std::move(signature)});
  }
  return out;
}

Status write_cosignature(const fs::path& directory, const ModelManifest& manifest,
                         const ModelKey& key) {
  NAITE_ASSIGN(const std::string bundle, sign_model(manifest, directory.filename().string(), key));
  const fs::path folder = directory / kCosignaturesDirectory;
  NAITE_TRY(make_directories(folder));
  NAITE_TRY(write_file(folder / (cosignature_id(key) + ".pub"), key.public_pem()));
  return write_file(folder / (cosignature_id(key) + ".sig"), bundle);
}

}  // namespace naite::ledger
