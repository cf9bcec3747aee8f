// SPDX-License-Identifier: Apache-2.0
#include "record/published.h"

#include <algorithm>
#include <limits>
#include <set>

#include "ledger/encoding.h"
#include "ledger/model_signature.h"
#include "record/provenance.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kTextBytesMax = int64_t{256} << 20;  // tokenizer, manifest: as verify reads them
constexpr int64_t kTensorBytes = 20;                   // weights, masters, moments of one parameter
constexpr int64_t kShardTokensMax = int64_t{1} << 40;  // and documents: times 8 they fit
constexpr size_t kNameMax = 128;

constexpr std::string_view kStateFiles[] = {"config.json",
                                            "generation_config.json",
                                            "README.md",
                                            "tokenizer.json",
                                            "tokenizer_config.json",
                                            "model.safetensors",
                                            "state/optimizer.safetensors",
                                            "state/cursor.json"};

int64_t bytes_max_of(std::string_view file, int64_t parameters) {
  const bool is_long = file.starts_with("tokenizer") || file == kBillFile;
  if (!file.ends_with(".safetensors")) return is_long ? kTextBytesMax : kRecordBytesMax;
  const int64_t most = std::numeric_limits<int64_t>::max() / kTensorBytes;
  return kTensorBytes * std::min(parameters, most - kTextBytesMax) + (int64_t{16} << 20);
}

std::string shortened(const std::string& name) {
  std::string out;
  for (const char c : name.substr(0, 60)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

std::vector<PublishedFile> published_claims(const RunHistory& history) {
  const Commitment amended = history.amended();
  return {{"recipe.toml", amended.recipe_sha256, kTextBytesMax},
          {"tokenizer.json", amended.tokenizer_sha256, kTextBytesMax},
          {"tokenizer_config.json", amended.tokenizer_config_sha256, kTextBytesMax},
          {"data/manifest.json", amended.manifest_sha256, kTextBytesMax}};
}

Result<std::vector<PublishedFile>> published_shards(const data::Manifest& manifest) {
  std::vector<PublishedFile> out;
  std::set<std::string> names = {"manifest.json"};
  for (const data::ManifestSource& source : manifest.sources)
    for (const data::ManifestSplit* split : {&source.train, &source.validation})
      for (const data::ManifestShard& shard : split->shards) {
        const std::string starts = data::starts_name(shard.file);
        const std::string weights = data::weights_name(shard.file);
        for (const std::string& name : {shard.file, starts, weights})
          // A source may be named in any script; what leads elsewhere is refused.
          if (name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos ||
              name[0] == '.' || name.size() > 255 || !names.insert(name).second)
            return fail("data/manifest.json names the shard {}, twice or not plainly",
                        shortened(name));
        if (shard.tokens > kShardTokensMax || shard.documents > kShardTokensMax)
          return fail("data/{}: more tokens than this program verifies", shortened(shard.file));
        out.push_back({"data/" + shard.file, shard.sha256, shard.tokens * manifest.token_bytes});
        out.push_back({"data/" + starts, shard.starts_sha256, shard.documents * 8});
        if (shard.has_weights())
          out.push_back({"data/" + weights, shard.weights_sha256, shard.tokens * 4});
      }
  return out;
}

bool is_file_of_state(std::string_view path, bool checkpoint) {
  return std::find(std::begin(kStateFiles), std::end(kStateFiles), path) != std::end(kStateFiles) ||
         path == "record.json" || (checkpoint && (path == kProvenanceFile || path == kBillFile));
}

Result<std::vector<PublishedFile>> published_state(const formats::Record& record, bool checkpoint,
                                                   int64_t parameters, const std::string& where) {
  std::vector<PublishedFile> out;
  for (const auto& [name, sha256] : record.files) {
    const bool is_listed = name != "record.json" && name != kProvenanceFile;
    if (!is_listed || !is_file_of_state(name, checkpoint))
      return fail("{} lists {}, which is no file of a stored state", where, shortened(name));
    out.push_back({name, sha256, bytes_max_of(name, parameters)});
  }
  return out;
}

Status check_state_names(const fs::path& directory, bool checkpoint, int64_t parameters) {
  std::error_code code;
  fs::recursive_directory_iterator it(directory, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const std::string name = it->path().lexically_relative(directory).generic_string();
    const fs::file_type type = it->symlink_status(code).type();
    const bool signatures = checkpoint && name == ledger::kCosignaturesDirectory;
    if (signatures) it.disable_recursion_pending();  // ledger/cosignatures.h has their rule
    const bool is_ours = type == fs::file_type::directory
                             ? name == "state" || signatures
                             : type == fs::file_type::regular &&
                                   (is_file_of_state(name, checkpoint) ||
                                    (checkpoint && name == ledger::kModelSignatureFile));
    if (!is_ours)
      return fail("{} is no part of a stored state: such a directory has files of its own only",
                  it->path().string());
    if (type != fs::file_type::regular) continue;
    const uintmax_t size = it->file_size(code);
    if (!code && size > static_cast<uintmax_t>(bytes_max_of(name, parameters)))
      return fail("{} has {} bytes: no state of {} parameters has as many", it->path().string(),
                  size, parameters);
  }
  if (code) return fail("cannot list {}: {}", directory.string(), code.message());
  return {};
}

Status check_model_signature(const RunHistory& history, const StoredState& state,
                             std::string_view text, const std::string& where) {
  NAITE_ASSIGN(const ledger::ModelKey key,
               ledger::ModelKey::parse_public(history.commitment.model_key));
  NAITE_ASSIGN(const ledger::ModelSignature signature, ledger::ModelSignature::parse(text, where));
  if (!signature.is_signed_by(key)) return fail("{} is not signed by the key of the log", where);
  if (ledger::to_hex(signature.manifest.digest()) != state.manifest)
    return fail("{} signs other files", where);
  const std::string name = state.directory.substr(state.directory.find('/') + 1);
  NAITE_ASSIGN(const std::string statement, ledger::model_statement(signature.manifest, name));
  NAITE_ASSIGN(const std::string expected, signature.text());
  if (text == expected && signature.payload == statement) return {};
  return fail("{} is spelled otherwise than naite does", where);
}

}  // namespace naite::record
