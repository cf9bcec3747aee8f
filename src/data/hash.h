// SPDX-License-Identifier: Apache-2.0
#pragma once
// A fast 64-bit hash for tables in memory and for choosing documents: multiply and fold, in the
// manner of wyhash. The value is part of what a manifest stands for (the validation split and the
// finding of duplicates use it), so it must never change. It resists no adversary.
#include <cstdint>
#include <cstring>
#include <string_view>

namespace naite::data {

inline uint64_t fold_multiply(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0) {
  constexpr uint64_t kA = 0x9e3779b97f4a7c15ull, kB = 0xd6e8feb86659fd93ull;
  const auto load = [](const char* p, size_t size) {
    uint64_t word = 0;
    std::memcpy(&word, p, size);
    return word;
  };
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t h = fold_multiply(seed ^ kA, left ^ kB);
  for (; left > 8; p += 8, left -= 8) h = fold_multiply(h ^ load(p, 8), kB);
  uint64_t tail = 0;
  if (left == 8) {
    tail = load(p, 8);
  } else if (left >= 4) {
    tail = load(p, 4) | load(p + left - 4, 4) << 32;
  } else if (left > 0) {
    tail = load(p, 1) | load(p + left / 2, 1) << 8 | load(p + left - 1, 1) << 16;
  }
  h = fold_multiply(h ^ tail, kA);
  return fold_multiply(h ^ kB, kA);
}

}  // namespace naite::data
