// SPDX-License-Identifier: Apache-2.0
#pragma once
// The scalar arithmetic of the contract: what one fp32 operation, one transcendental function and
// one sum are, bit for bit. The reference backend is written with these; vector code repeats them.
// Templates on float (the contract) and double (derivative checks, no rounding promises).
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "base/bytes.h"
#include "base/math.h"

namespace naite::kernels {

// fma(a, b, c) in fp32 with one rounding, without fma hardware: the product of two floats is exact
// in double; the sum is rounded to odd there, which makes the second rounding to float correct
// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using
// rounding to odd", IEEE Transactions on Computers 57, 2008). The float mode does the flush.
inline float fma(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = static_cast<double>(c);
  const double sum = product + addend;
  // Two-sum: the exact error of the addition.
  const double back = sum - product;
  const double error = (product - (sum - back)) + (addend - back);
  uint64_t bits = std::bit_cast<uint64_t>(sum);
  if (error != 0.0 && (bits & 1) == 0 && std::isfinite(sum)) {
    // Inexact and even: step to the odd neighbour on the side where the exact value lies.
    const bool away = (error > 0.0) == (sum > 0.0);
    bits = away ? bits + 1 : bits - 1;
  }
  return static_cast<float>(std::bit_cast<double>(bits));
}
inline double fma(double a, double b, double c) { return a * b + c; }

// 2^x for x in [-100, 127]; +0 below -100; 127 above 127; NaN for NaN. Degree-6 minimax polynomial,
// relative error 1e-8 before rounding.
inline float exp2(float x) {
  if (x < -100.0f) return 0.0f;
  const float clamped = x > 127.0f ? 127.0f : x;
  constexpr float kMagic = 12582912.0f;  // 1.5 x 2^23: adding it rounds to an integer
  const float shifted = clamped + kMagic;
  const float n = shifted - kMagic;
  const float r = clamped - n;
  float p = 0x1.44138ap-13f;
  p = fma(p, r, 0x1.5f0890p-10f);
  p = fma(p, r, 0x1.3b2a54p-7f);
  p = fma(p, r, 0x1.c6af6cp-5f);
  p = fma(p, r, 0x1.ebfbe0p-3f);
  p = fma(p, r, 0x1.62e430p-1f);
  p = fma(p, r, 1.0f);
  // The low bits of `shifted` hold n; a NaN makes a meaningless scale and stays a NaN.
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(exponent);
}
inline double exp2(double x) { return x < -1000.0 ? 0.0 : std::exp2(x); }

// log2 of a positive normal number: log2 m = s (c0 + c1 s^2 + ...), s = (m - 1) / (m + 1).
inline float log2(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  int32_t exponent = static_cast<int32_t>(bits >> 23) - 127;
  float m = std::bit_cast<float>((bits & 0x007fffffu) | 0x3f800000u);
  if (m > 1.41421354f) {
    m = m * 0.5f;
    exponent = exponent + 1;
  }
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  float p = 0.320598900f;       // 2 log2(e) / 9
  p = fma(p, z, 0.412198573f);  // 2 log2(e) / 7
  p = fma(p, z, 0.577078044f);  // 2 log2(e) / 5
  p = fma(p, z, 0.961796701f);  // 2 log2(e) / 3
  p = fma(p, z, 2.88539004f);   // 2 log2(e)
  const float result = fma(s, p, static_cast<float>(exponent));
  return x == x ? result : x;
}
inline double log2(double x) { return std::log2(x); }

template <class Real>
Real sigmoid(Real x) {
  return Real{1} / (Real{1} + exp2(-(x * static_cast<Real>(kLog2E))));
}

// The sum rule. term(i, lane) returns the lane with element i added (lane + x[i], or
// fma(a[i], b[i], lane)).
template <class Real, class Term>
Real block_sum(int64_t begin, int64_t end, Term term) {
  Real lanes[16] = {};
  for (int64_t i = begin; i < end; ++i) {
    Real& lane = lanes[(i - begin) & 15];
    lane = term(i, lane);
  }
  for (int step = 8; step >= 1; step /= 2)
    for (int i = 0; i < step; ++i) lanes[i] = lanes[i] + lanes[i + step];
  return lanes[0];
}

// Joins value(first) .. value(first + count - 1) as a binary tree over the index: neighbours first,
// an odd one passes through to the next level.
template <class Real, class Value>
Real tree_sum(int64_t first, int64_t count, Value value) {
  if (count == 1) return value(first);
  int64_t left = 1;  // the largest power of two below count: the left half of the tree
  while (left * 2 < count) left *= 2;
  const Real a = tree_sum<Real>(first, left, value);
  const Real b = tree_sum<Real>(first + left, count - left, value);
  return a + b;
}

// Muon's five Newton-Schulz steps Z <- a Z + Z (b A + c A A), A = Z' Z. Together they take every
// singular value in [0.003, 1] into [0.978, 1.145].
inline constexpr float kNewtonSchulz[5][3] = {{4.0848f, -6.8946f, 2.9270f},
                                              {3.9505f, -6.3029f, 2.6377f},
                                              {3.7418f, -5.5913f, 2.3037f},
                                              {2.8769f, -3.1427f, 1.2046f},
                                              {2.8366f, -3.0525f, 1.2012f}};
inline constexpr float kMuonEpsilon = 1e-7f;

inline constexpr int64_t kSumBlock = 4096;
inline constexpr int64_t kColumnBlock = 64;
inline int64_t column_blocks(int64_t rows) { return (rows + kColumnBlock - 1) / kColumnBlock; }

template <class Real, class Term>
Real sum(int64_t count, Term term) {
  if (count == 0) return Real{0};
  const int64_t blocks = (count + kSumBlock - 1) / kSumBlock;
  const Real total = tree_sum<Real>(0, blocks, [&](int64_t block) {
    const int64_t begin = block * kSumBlock;
    const int64_t end = begin + kSumBlock < count ? begin + kSumBlock : count;
    return block_sum<Real>(begin, end, term);
  });
  return total + Real{0};
}

}  // namespace naite::kernels
