// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/bf16_dot.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "base/base.h"

namespace naite::kernels::cpu {

namespace {

struct Vectors {
  alignas(64) uint32_t a[16];  // pairs of bf16, the even element in the low half
  alignas(64) uint32_t b[16];
  alignas(64) float c[16];
  alignas(64) float result[16];
  alignas(32) uint16_t rounded[16];
};

__attribute__((noinline, target("avx512f,avx512bw,avx512bf16"))) void dot(Vectors& v) {
  const __m512bh a = (__m512bh)_mm512_load_si512(v.a);
  const __m512bh b = (__m512bh)_mm512_load_si512(v.b);
  const __m512 c = _mm512_load_ps(v.c);
  _mm512_store_ps(v.result, _mm512_dpbf16_ps(c, a, b));
  _mm256_store_si256(reinterpret_cast<__m256i*>(v.rounded), (__m256i)_mm512_cvtneps_pbh(c));
}

__attribute__((noinline, target("fma"))) float scalar_fma(float a, float b, float c) {
  return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}

bool same_value(float a, float b) {
  if (a != a || b != b) return a != a && b != b;  // the contract leaves NaN payloads open
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

bool lanes_agree(Vectors& v) {
  dot(v);
  for (int i = 0; i < 16; ++i) {
    const auto element = [](uint32_t pair, int which) {
      return std::bit_cast<float>(which == 1 ? pair & 0xffff0000u : pair << 16);
    };
    float chain = scalar_fma(element(v.a[i], 1), element(v.b[i], 1), v.c[i]);
    chain = scalar_fma(element(v.a[i], 0), element(v.b[i], 0), chain);
    if (!same_value(chain, v.result[i]) || v.rounded[i] != float_to_bf16(v.c[i])) return false;
  }
  return true;
}

class Random {  // xorshift, Marsaglia 2003: any stream will do here
 public:
  uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>(state_ >> 16);
  }
  // A bf16 whose exponent field lies in [low, high].
  uint32_t bf16(uint32_t low, uint32_t high) {
    return (next() & 0x807fu) | ((low + next() % (high - low + 1)) << 7);
  }
  uint32_t pair(uint32_t low, uint32_t high) { return bf16(low, high) | (bf16(low, high) << 16); }
  float single(uint32_t low, uint32_t high) {
    return std::bit_cast<float>((next() & 0x807fffffu) | ((low + next() % (high - low + 1)) << 23));
  }

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15u;
};

}  // namespace

bool bf16_dot_keeps_the_contract() {
  // Exponent fields of a, b and c for each kind of case.
  struct Kind {
    uint32_t a_low, a_high, b_low, b_high, c_low, c_high;
  };
  constexpr Kind kKinds[] = {
      {117, 137, 117, 137, 117, 137},  // ordinary numbers
      {50, 80, 50, 80, 0, 6},          // sums around 2^-126: flushed after rounding or not
      {0, 3, 100, 135, 0, 3},          // subnormal inputs count as zero
      {55, 72, 40, 72, 1, 1},          // products far below the sum: sticky bits at 2^-126
      {180, 200, 170, 200, 245, 254},  // around overflow
      {0, 255, 0, 255, 0, 255},        // anything, infinities and NaN included
  };
  Random random;
  Vectors v;
  for (const Kind& kind : kKinds) {
    for (int round = 0; round < 800; ++round) {
      for (int i = 0; i < 16; ++i) {
        v.a[i] = random.pair(kind.a_low, kind.a_high);
        v.b[i] = random.pair(kind.b_low, kind.b_high);
        v.c[i] = random.single(kind.c_low, kind.c_high);
      }
      if (!lanes_agree(v)) return false;
    }
  }
  // The two sides of the flush threshold, with either sign, as odd and as even product:
  // 2^-126 - 2^-151 rounds to 2^-126 and stays, 2^-126 - 2^-150 is tiny and goes.
  for (int i = 0; i < 16; ++i) {
    const uint32_t shift = (i & 1) != 0 ? 16 : 0;
    const uint32_t sign = (i & 2) != 0 ? 0x8000u : 0;
    v.a[i] = (0x1a00u | sign) << shift;                    // 2^-75
    v.b[i] = ((i & 4) != 0 ? 0x9980u : 0x9a00u) << shift;  // -2^-76, -2^-75
    v.c[i] = std::bit_cast<float>(0x00800000u | (sign << 16));
  }
  return lanes_agree(v);
}

}  // namespace naite::kernels::cpu

#endif
