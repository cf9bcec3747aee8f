// SPDX-License-Identifier: Apache-2.0
#pragma once
// The published arithmetics: in which order the terms of a product enter its accumulators. All else
// that decides a bit (types, functions, lanes, columns) is the same in every one of them. An
// arithmetic is never edited: another order is another name and another line of the table.
// docs/NUMERICS.md says what each of them touches, and why.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace naite::kernels {

// What a chain takes in one step: the exact products of `terms` neighbouring terms of k and the
// accumulator, each cut towards zero `cut` bits below the largest and then added exactly. One term
// and no cut is the fused multiply-add, rounded to nearest; tensor cores that take 16 terms and
// keep 25 bits would be {16, 25}.
struct Inner {
  int terms = 1;
  int cut = 0;
  bool operator==(const Inner&) const = default;
};

struct Range {
  int64_t begin, end;
};

struct Arithmetic {
  std::string_view name;
  Inner inner;
  // A width that ranks may divide is summed in so many contiguous pieces, joined by the binary
  // tree. A power of two.
  int64_t pieces = 1;

  // What piece number `index` has of `count` terms. Units of `unit` neighbouring terms (a pair, a
  // head) stay whole, the last one may be shorter; pieces differ by one unit at most, and where
  // units are fewer than pieces, some are empty.
  constexpr Range piece(int64_t index, int64_t count, int64_t unit = 2) const {
    const int64_t units = (count + unit - 1) / unit;
    return {index * units / pieces * unit, std::min(count, (index + 1) * units / pieces * unit)};
  }
  bool operator==(const Arithmetic& other) const { return name == other.name; }
};

inline constexpr std::array kArithmetics = {Arithmetic{"chain-1", {}, 1},
                                            Arithmetic{"chain-8", {}, 8}};
inline constexpr const Arithmetic& kChain1 = kArithmetics[0];
inline constexpr const Arithmetic& kChain8 = kArithmetics[1];

const Arithmetic* find_arithmetic(std::string_view name);  // nullptr: nobody published it
std::vector<std::string> arithmetic_names();

}  // namespace naite::kernels
