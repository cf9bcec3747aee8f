// SPDX-License-Identifier: Apache-2.0
#pragma once
// A source file as a stream of bytes, unpacked if its name ends in .gz or .zst (in any case), with
// the SHA-256 of the file as it lies on the disk. Memory is bounded: by the window that a .zst asks
// for, 2 GiB at most, which is touched only as far as the file fills it. A file that expands beyond
// all reason is refused: see kExpansionMax. A name that promises what the bytes are not is an error
// that says what they are.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "base/base.h"

namespace naite::data {

// Text compresses some tens of times. More than this, after the first kExpansionFree bytes, is a
// file made to fill disks.
inline constexpr int64_t kExpansionMax = 250;
inline constexpr int64_t kExpansionFree = int64_t{64} << 20;

enum class Packing { kNone, kGzip, kZstd };
// By the name alone.
Packing packing_of(const std::filesystem::path& path);

// Opens for reading, without waiting for anybody; `descriptor` is the caller's to close, on failure
// too, unless it is negative. Pipes and devices are refused. Returns the size in bytes.
Result<int64_t> open_regular(const std::filesystem::path& path, int& descriptor);
// The file's ending in lower case, the one of the packing left out: ".txt" of "A.TXT.GZ".
std::string ending_of(const std::filesystem::path& path);

class InputStream {
 public:
  static Result<InputStream> open(const std::filesystem::path& path);
  InputStream(InputStream&&) noexcept;
  ~InputStream();

  // Fills the front of `buffer`; 0 at the end. Fewer bytes than asked for do not mean the end.
  Result<size_t> read(std::span<char> buffer);

  int64_t file_bytes() const;       // read from the disk so far
  std::string sha256();             // of the whole file: call once, after the end
  int64_t unpacking_bytes() const;  // memory that a .zst took

  struct State;

 private:
  explicit InputStream(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
