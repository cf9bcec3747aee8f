// SPDX-License-Identifier: Apache-2.0
#include "ledger/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ledger/encoding.h"

namespace naite::ledger {

namespace fs = std::filesystem;

// O_EXCL: whatever stands there stays. The file has its final mode from the first moment on.
Status write_new_file(const fs::path& path, std::string_view content, int mode) {
  const int descriptor =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (descriptor < 0)
    return errno == EEXIST ? fail("{} exists; keys are never overwritten", path.string())
                           : fail("cannot write {}: {}", path.string(), std::strerror(errno));
  const bool written =
      ::write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()) &&
      ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  if (!written) return fail("cannot write {}: {}", path.string(), std::strerror(error));
  return {};
}

Result<std::string> read_private_file(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0)
    return fail("cannot read {}: {}; `naite key new` makes keys", path.string(),
                std::strerror(errno));
  if ((info.st_mode & 077) != 0)
    return fail("{} can be read by others; run: chmod 600 {}", path.string(), path.string());
  return read_file(path);
}

Result<Keys> make_keys(const fs::path& directory, std::string_view name) {
  NAITE_ASSIGN(Signer log, Signer::make(name));
  NAITE_ASSIGN(ModelKey model, ModelKey::make());
  NAITE_TRY(make_directories(directory));
  for (const char* file : {"log.key", "log.vkey", "model.key", "model.pub"})
    if (fs::exists(fs::symlink_status(directory / file)))
      return fail("{} exists; keys are never overwritten", (directory / file).string());
  NAITE_ASSIGN(const std::string private_pem, model.private_pem());
  NAITE_TRY(write_new_file(directory / "log.key", log.skey() + "\n", 0600));
  NAITE_TRY(write_new_file(directory / "log.vkey", log.verifier().vkey() + "\n", 0644));
  NAITE_TRY(write_new_file(directory / "model.key", private_pem, 0600));
  NAITE_TRY(write_new_file(directory / "model.pub", model.public_pem(), 0644));
  return Keys{std::move(log), std::move(model)};
}

Result<Keys> load_keys(const fs::path& directory) {
  NAITE_ASSIGN(const std::string log_text, read_private_file(directory / "log.key"));
  NAITE_ASSIGN(const std::string model_text, read_private_file(directory / "model.key"));
  Result<Signer> log = Signer::parse(log_text);
  if (!log) return fail("{}: {}", (directory / "log.key").string(), log.error().message);
  Result<ModelKey> model = ModelKey::parse_private(model_text);
  if (!model) return fail("{}: {}", (directory / "model.key").string(), model.error().message);
  return Keys{*std::move(log), *std::move(model)};
}

std::string random_hex(size_t num_bytes) {
  NAITE_CHECK(sodium_init() >= 0, "libsodium cannot start");
  std::string bytes(num_bytes, '\0');
  randombytes_buf(bytes.data(), bytes.size());
  return to_hex(bytes);
}

}  // namespace naite::ledger
