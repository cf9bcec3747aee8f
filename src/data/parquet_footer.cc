// SPDX-License-Identifier: Apache-2.0
#include "data/parquet_footer.h"

#include <cstdint>

namespace naite::data {

namespace {

// thrift/doc/specs/thrift-compact-protocol.md
enum Type : uint8_t {
  kEnd = 0,
  kTrue = 1,
  kFalse = 2,
  kByte = 3,
  kInt64 = 6,  // 4 to 6 are integers of variable length
  kDouble = 7,
  kBinary = 8,
  kList = 9,
  kSet = 10,
  kMap = 11,
  kStruct = 12,
};

// Walks over a struct and adds up what its lists become in memory; false where bytes are missing or
// mean nothing.
class Walk {
 public:
  explicit Walk(std::string_view bytes) : bytes_(bytes) {}

  bool structure(int depth) {
    constexpr int kDepthMax = 32;
    if (depth > kDepthMax) return false;
    for (;;) {
      uint8_t header = 0;
      if (!byte(header)) return false;
      if (header == kEnd) return true;
      uint64_t ignored = 0;
      if (header >> 4 == 0 && !number(ignored)) return false;  // the field's number
      const uint8_t type = header & 15;
      if (type != kTrue && type != kFalse && !value(type, depth)) return false;
      if (too_large()) return true;
    }
  }

  bool too_large() const { return memory_ > kParquetFooterMemory; }

 private:
  bool value(uint8_t type, int depth) {
    uint64_t ignored = 0;
    if (type >= kTrue && type <= kByte) return skip(1);
    if (type > kByte && type <= kInt64) return number(ignored);
    if (type == kDouble) return skip(8);
    if (type == kBinary) return number(ignored) && skip(ignored);
    if (type == kList || type == kSet) return list(depth);
    return type == kStruct && structure(depth + 1);  // no map occurs in a footer
  }

  bool list(int depth) {
    uint8_t header = 0;
    if (!byte(header)) return false;
    uint64_t count = header >> 4;
    if (count == 15 && !number(count)) return false;
    if (count > bytes_.size() - at_) return false;  // each takes a byte at least
    const uint8_t type = header & 15;
    constexpr int64_t kStructBytes = 700, kOtherBytes = 32;
    memory_ += static_cast<int64_t>(count) * (type == kStruct ? kStructBytes : kOtherBytes);
    for (uint64_t i = 0; i < count && !too_large(); ++i)
      if (!value(type, depth)) return false;
    return true;
  }

  bool byte(uint8_t& value) {
    if (at_ == bytes_.size()) return false;
    value = static_cast<uint8_t>(bytes_[at_++]);
    return true;
  }

  bool number(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t next = 0;
      if (!byte(next)) return false;
      value |= static_cast<uint64_t>(next & 127) << shift;
      if (next < 128) return true;
    }
    return false;
  }

  bool skip(uint64_t size) {
    if (size > bytes_.size() - at_) return false;
    at_ += size;
    return true;
  }

  std::string_view bytes_;
  size_t at_ = 0;
  int64_t memory_ = 0;
};

}  // namespace

Status check_parquet_footer(std::string_view footer) {
  Walk walk(footer);
  const bool whole = walk.structure(0);
  if (walk.too_large())
    return fail(
        "a Parquet footer that needs more than {} MiB of memory: write the file with "
        "larger row groups",
        kParquetFooterMemory >> 20);
  if (!whole) return fail("damaged Parquet: its footer cannot be read: fetch it again");
  return {};
}

}  // namespace naite::data
