// SPDX-License-Identifier: Apache-2.0
#pragma once
// SHA-256 (OpenSSL), incremental.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace naite {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(const void* data, size_t bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  // The digest; the object is spent afterwards.
  Digest digest();
  // The digest as 64 lower-case hexadecimal digits; the object is spent afterwards.
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Digest sha256(std::string_view data);
std::string sha256_hex(std::string_view data);
// Once `stop`, if given, is set, it ends with an error: files can be large.
Result<std::string> sha256_file(const std::filesystem::path& path,
                                const std::atomic<bool>* stop = nullptr);

}  // namespace naite
