// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace naite {

namespace {

// Found once: OpenSSL looks an algorithm up by name, which takes longer than to hash a small file.
const EVP_MD* algorithm() {
  static const EVP_MD* const found = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return found;
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  NAITE_CHECK(EVP_DigestInit_ex(context_->evp, algorithm(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(const void* data, size_t bytes) {
  NAITE_CHECK(EVP_DigestUpdate(context_->evp, data, bytes) == 1);
}

Digest Sha256::digest() {
  Digest out{};
  NAITE_CHECK(EVP_DigestFinal_ex(context_->evp, out.data(), nullptr) == 1);
  return out;
}

std::string Sha256::hex() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest()) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Digest sha256(std::string_view data) {
  Sha256 hash;
  hash.update(data);
  return hash.digest();
}

std::string sha256_hex(std::string_view data) {
  Sha256 hash;
  hash.update(data);
  return hash.hex();
}

Result<std::string> sha256_file(const std::filesystem::path& path, const std::atomic<bool>* stop) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(errno, "cannot read {}", path.string());
  Sha256 hash;
  std::array<char, size_t{1} << 15> buffer;
  ssize_t n = 0;
  bool stopped = false;
  do {
    n = ::read(descriptor, buffer.data(), buffer.size());
    if (n > 0) hash.update(buffer.data(), static_cast<size_t>(n));
    stopped = stop != nullptr && stop->load();
  } while (!stopped && (n > 0 || (n < 0 && errno == EINTR)));
  const int error = errno;
  ::close(descriptor);
  if (stopped) return unable("interrupted while {} was checked; start again", path.string());
  if (n < 0) return system_error(error, "cannot read {}", path.string());
  return hash.hex();
}

}  // namespace naite
