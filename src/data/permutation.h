// SPDX-License-Identifier: Apache-2.0
#pragma once
// A random order of 0..size-1 in which any place can be asked for by itself: a Feistel network over
// the next power of four, walked until it lands inside (Black & Rogaway, "Ciphers with arbitrary
// finite domains", CT-RSA 2002). The round function is Philox.
#include <array>
#include <bit>
#include <cstdint>

#include "base/base.h"

namespace naite::data {

class Permutation {
 public:
  Permutation(int64_t size, const std::array<uint32_t, 2>& key)
      : size_(static_cast<uint64_t>(size)), key_(key) {
    NAITE_CHECK(size >= 1, "a permutation of {}", size);
    half_bits_ = (std::bit_width(size_ - 1) + 1) / 2;
    mask_ = (uint64_t{1} << half_bits_) - 1;
  }

  int64_t at(int64_t index) const {
    NAITE_DEBUG_CHECK(index >= 0 && static_cast<uint64_t>(index) < size_, "{} of {}", index, size_);
    uint64_t value = static_cast<uint64_t>(index);
    do value = encrypt(value);
    while (value >= size_);
    return static_cast<int64_t>(value);
  }

 private:
  static constexpr uint32_t kRounds = 6;

  uint64_t encrypt(uint64_t value) const {
    uint64_t left = value >> half_bits_, right = value & mask_;
    for (uint32_t round = 0; round < kRounds; ++round) {
      const PhiloxBlock mixed = philox4x32(
          {static_cast<uint32_t>(right), static_cast<uint32_t>(right >> 32), round, 0}, key_);
      const uint64_t next = left ^ ((uint64_t{mixed[1]} << 32 | mixed[0]) & mask_);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  uint64_t size_, mask_;
  int half_bits_;
  std::array<uint32_t, 2> key_;
};

}  // namespace naite::data
