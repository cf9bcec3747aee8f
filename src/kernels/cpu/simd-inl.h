// SPDX-License-Identifier: Apache-2.0
// Sixteen fp32 lanes, whatever the machine has: one AVX-512 register, two of AVX2 or four of 128
// bits. Lane i of `Lanes` is lane i of the contract's sum rule, so code written with it gives the
// same bits on every instruction set. Arithmetic repeats kernels/numerics.h operation by operation.
//
// Included once per instruction set (no #pragma once; see kernels/cpu/targets.h). Lambdas that use
// these functions need HWY_ATTR.
#if defined(NAITE_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NAITE_KERNELS_CPU_SIMD_INL_H_
#undef NAITE_KERNELS_CPU_SIMD_INL_H_
#else
#define NAITE_KERNELS_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#if HWY_ARCH_X86
#include <emmintrin.h>
#endif

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "kernels/numerics.h"

// Code between NAITE_BEFORE_VECTORS and NAITE_AFTER_VECTORS may, in the AVX-512 set, also spell the
// bf16 instructions (highway 1.0 has no such set). It does so only in templates marked `kPaired`
// and in the format PairedBf16, which are chosen where the machine has them. NAITE_VECTORS: for
// lambdas.
#undef NAITE_BEFORE_VECTORS
#undef NAITE_AFTER_VECTORS
#undef NAITE_VECTORS
#if HWY_TARGET == HWY_AVX3
#define NAITE_VECTORS __attribute__((target(HWY_TARGET_STR ",avx512bf16")))
#define NAITE_BEFORE_VECTORS() HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
#define NAITE_AFTER_VECTORS() HWY_POP_ATTRIBUTES
#else
#define NAITE_VECTORS HWY_ATTR
#define NAITE_BEFORE_VECTORS() HWY_BEFORE_NAMESPACE()
#define NAITE_AFTER_VECTORS() HWY_AFTER_NAMESPACE()
#endif

HWY_BEFORE_NAMESPACE();
namespace naite::kernels::HWY_NAMESPACE {

// --- one register, a "part" ----------------------------------------------------------------------
#if HWY_TARGET == HWY_SCALAR

static_assert(HWY_ARCH_X86_64, "the portable set is x86-64's baseline; AArch64 has NEON");
inline constexpr int kPartLanes = 4;
using Part = float __attribute__((vector_size(16)));
using PartBits = uint32_t __attribute__((vector_size(16)));

HWY_INLINE Part part_set(float x) { return Part{x, x, x, x}; }
HWY_INLINE Part part_load(const float* from) {
  Part x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
HWY_INLINE void part_store(float* to, Part x) { std::memcpy(to, &x, sizeof x); }
HWY_INLINE Part part_load(const uint16_t* from) {
  return Part{bf16_to_float(from[0]), bf16_to_float(from[1]), bf16_to_float(from[2]),
              bf16_to_float(from[3])};
}
HWY_INLINE void part_store(uint16_t* to, Part x) {
  for (int i = 0; i < kPartLanes; ++i) to[i] = float_to_bf16(x[i]);
}
HWY_INLINE Part part_flush(Part x) {
  for (int i = 0; i < kPartLanes; ++i)
    if ((std::bit_cast<uint32_t>(x[i]) & 0x7f800000u) == 0) x[i] = std::copysign(0.0f, x[i]);
  return x;
}
HWY_INLINE Part part_add(Part a, Part b) { return a + b; }
HWY_INLINE Part part_sub(Part a, Part b) { return a - b; }
HWY_INLINE Part part_mul(Part a, Part b) { return a * b; }
HWY_INLINE Part part_div(Part a, Part b) { return a / b; }
HWY_INLINE Part part_neg(Part a) { return -a; }
HWY_INLINE Part part_sqrt(Part a) {
  return Part{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])};
}
HWY_INLINE Part part_max(Part a, Part b) { return a > b ? a : b; }
HWY_INLINE Part part_cap(Part x, Part most) { return x > most ? most : x; }
// x < limit ? +0 : a b
HWY_INLINE Part part_mul_from(Part x, Part limit, Part a, Part b) {
  return x < limit ? Part{} : a * b;
}
// 2^n, n in the low bits of 1.5 x 2^23 + n.
HWY_INLINE Part part_power(Part shifted) { return (Part)(((PartBits)shifted + 127u) << 23); }
HWY_INLINE Part part_round_bf16(Part x) {
  for (int i = 0; i < kPartLanes; ++i) x[i] = bf16_to_float(float_to_bf16(x[i]));
  return x;
}
HWY_INLINE Part part_swap_pairs(Part x) { return Part{x[1], x[0], x[3], x[2]}; }
HWY_INLINE Part part_log2(Part x) {
  for (int i = 0; i < kPartLanes; ++i) x[i] = kernels::log2(x[i]);
  return x;
}
HWY_INLINE Part part_keep(Part x, int first, int begin, int end) {
  for (int i = 0; i < kPartLanes; ++i) x[i] = first + i >= begin && first + i < end ? x[i] : 0.0f;
  return x;
}

// numerics.h's fma on two lanes: the sum rounded to odd in double, then to fp32. Subtracting one
// from a result that lies beyond the exact value and setting the last bit of every inexact one is
// that rounding; comparisons with a NaN error (infinities) are false and leave the sum alone.
// Intrinsics, because g++ 12 drops the rounding between two of these when lanes are converted one
// by one.
HWY_INLINE __m128 fma_two(__m128 a, __m128 b, __m128 c) {
  const __m128d addend = _mm_cvtps_pd(c);
  const __m128d product = _mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b));
  const __m128d sum = _mm_add_pd(product, addend);
  const __m128d back = _mm_sub_pd(sum, product);
  const __m128d error =
      _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, back)), _mm_sub_pd(addend, back));
  const __m128d zero = _mm_setzero_pd();
  const __m128d above = _mm_cmpgt_pd(error, zero), below = _mm_cmplt_pd(error, zero);
  const __m128d positive = _mm_cmpgt_pd(sum, zero);
  const __m128d toward_zero =
      _mm_or_pd(_mm_and_pd(positive, below), _mm_andnot_pd(positive, above));
  const __m128i stepped = _mm_add_epi64(_mm_castpd_si128(sum), _mm_castpd_si128(toward_zero));
  const __m128i last = _mm_srli_epi64(_mm_castpd_si128(_mm_or_pd(above, below)), 63);
  return _mm_cvtpd_ps(_mm_castsi128_pd(_mm_or_si128(stepped, last)));
}
HWY_INLINE Part part_fma(Part a, Part b, Part c) {
  const __m128 high = fma_two(_mm_movehl_ps(a, a), _mm_movehl_ps(b, b), _mm_movehl_ps(c, c));
  return _mm_movelh_ps(fma_two(a, b, c), high);
}

#else  // every other set: Highway

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int kPartLanes = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;
using PartTag = hn::CappedTag<float, 16>;
using PartBitsTag = hn::RebindToUnsigned<PartTag>;
using PartNarrowTag = hn::Rebind<uint16_t, PartTag>;
using Part = hn::Vec<PartTag>;
using PartBits = hn::Vec<PartBitsTag>;
#define NAITE_PART PartTag()
#define NAITE_PART_BITS PartBitsTag()

HWY_INLINE Part part_set(float x) { return hn::Set(NAITE_PART, x); }
HWY_INLINE Part part_load(const float* from) { return hn::LoadU(NAITE_PART, from); }
HWY_INLINE void part_store(float* to, Part x) { hn::StoreU(x, NAITE_PART, to); }
HWY_INLINE PartBits part_bits(Part x) { return hn::BitCast(NAITE_PART_BITS, x); }
HWY_INLINE PartBits part_bits(uint32_t x) { return hn::Set(NAITE_PART_BITS, x); }

// A subnormal becomes zero of its sign: integer code does not see the float mode.
HWY_INLINE Part part_flush(Part x) {
  const PartBits bits = part_bits(x);
  const auto tiny = hn::Eq(hn::And(bits, part_bits(0x7f800000u)), hn::Zero(NAITE_PART_BITS));
  return hn::BitCast(NAITE_PART, hn::IfThenElse(tiny, hn::And(bits, part_bits(0x80000000u)), bits));
}
HWY_INLINE Part part_load(const uint16_t* from) {
  const PartBits wide = hn::PromoteTo(NAITE_PART_BITS, hn::LoadU(PartNarrowTag(), from));
  return hn::BitCast(NAITE_PART, hn::ShiftLeft<16>(wide));
}
// float_to_bf16 of base/bytes.h for anything but a subnormal; the result stands in the upper half
// of every lane.
HWY_INLINE PartBits part_round_bits(Part x) {
  const PartBits bits = part_bits(x);
  const PartBits last = hn::And(hn::ShiftRight<16>(bits), part_bits(1u));
  const PartBits rounded = hn::Add(hn::Add(bits, part_bits(0x7fffu)), last);
  const PartBits quiet = hn::Or(bits, part_bits(0x00400000u));
  // Not Ne(x, x): Highway's is false where an operand is NaN.
  return hn::IfThenElse(hn::RebindMask(NAITE_PART_BITS, hn::Eq(x, x)), rounded, quiet);
}
HWY_INLINE void part_store(uint16_t* to, Part x) {
  const PartBits high = hn::ShiftRight<16>(part_round_bits(x));
  hn::StoreU(hn::TruncateTo(PartNarrowTag(), high), PartNarrowTag(), to);
}
HWY_INLINE Part part_round_bf16(Part x) {
  return hn::BitCast(NAITE_PART, hn::And(part_round_bits(x), part_bits(0xffff0000u)));
}
HWY_INLINE Part part_add(Part a, Part b) { return hn::Add(a, b); }
HWY_INLINE Part part_sub(Part a, Part b) { return hn::Sub(a, b); }
HWY_INLINE Part part_mul(Part a, Part b) { return hn::Mul(a, b); }
HWY_INLINE Part part_div(Part a, Part b) { return hn::Div(a, b); }
HWY_INLINE Part part_neg(Part a) {
  return hn::BitCast(NAITE_PART, hn::Xor(part_bits(a), part_bits(0x80000000u)));
}
HWY_INLINE Part part_sqrt(Part a) { return hn::Sqrt(a); }
// Fused on all of these sets (Highway's own 128-bit x86 sets, which do not fuse, are not compiled).
HWY_INLINE Part part_fma(Part a, Part b, Part c) { return hn::MulAdd(a, b, c); }
#if HWY_ARCH_X86
HWY_INLINE Part part_max(Part a, Part b) { return hn::Max(a, b); }        // maxps is a > b ? a : b
HWY_INLINE Part part_cap(Part x, Part most) { return hn::Min(most, x); }  // minps is most < x ? ...
#else
HWY_INLINE Part part_max(Part a, Part b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }
HWY_INLINE Part part_cap(Part x, Part most) { return hn::IfThenElse(hn::Gt(x, most), most, x); }
#endif
// x < limit ? +0 : a b
HWY_INLINE Part part_mul_from(Part x, Part limit, Part a, Part b) {
#if HWY_TARGET == HWY_AVX3
  return Part{_mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x.raw, limit.raw, _CMP_NLT_UQ), a.raw, b.raw)};
#else
  return hn::IfThenZeroElse(hn::Lt(x, limit), hn::Mul(a, b));
#endif
}
HWY_INLINE Part part_power(Part shifted) {
  return hn::BitCast(NAITE_PART, hn::ShiftLeft<23>(hn::Add(part_bits(shifted), part_bits(127u))));
}
HWY_INLINE Part part_swap_pairs(Part x) { return hn::Reverse2(NAITE_PART, x); }
// log2 of numerics.h.
HWY_INLINE Part part_log2(Part x) {
  const PartTag tag;
  const hn::RebindToSigned<PartTag> ints;
  const PartBits bits = part_bits(x);
  const Part exponent =
      hn::ConvertTo(tag, hn::Sub(hn::BitCast(ints, hn::ShiftRight<23>(bits)), hn::Set(ints, 127)));
  const Part one = part_set(1.0f);
  const Part mantissa =
      hn::BitCast(tag, hn::Or(hn::And(bits, part_bits(0x007fffffu)), part_bits(0x3f800000u)));
  const auto large = hn::Gt(mantissa, part_set(1.41421354f));
  const Part m = hn::IfThenElse(large, hn::Mul(mantissa, part_set(0.5f)), mantissa);
  const Part e = hn::IfThenElse(large, hn::Add(exponent, one), exponent);
  const Part s = hn::Div(hn::Sub(m, one), hn::Add(m, one));
  const Part z = hn::Mul(s, s);
  Part p = part_set(0.320598900f);
  p = hn::MulAdd(p, z, part_set(0.412198573f));
  p = hn::MulAdd(p, z, part_set(0.577078044f));
  p = hn::MulAdd(p, z, part_set(0.961796701f));
  p = hn::MulAdd(p, z, part_set(2.88539004f));
  return hn::IfThenElse(hn::Eq(x, x), hn::MulAdd(s, p, e), x);
}
HWY_INLINE Part part_keep(Part x, int first, int begin, int end) {
  const PartTag tag;
  const auto lane = hn::Add(hn::Iota(tag, 0.0f), hn::Set(tag, static_cast<float>(first)));
  const auto outside = hn::Or(hn::Lt(lane, hn::Set(tag, static_cast<float>(begin))),
                              hn::Ge(lane, hn::Set(tag, static_cast<float>(end))));
  return hn::IfThenZeroElse(outside, x);
}

#undef NAITE_PART
#undef NAITE_PART_BITS
#endif

// --- sixteen lanes -------------------------------------------------------------------------------
inline constexpr int kLanes = 16;
inline constexpr int kParts = kLanes / kPartLanes;

struct Lanes {
  HWY_INLINE Lanes() {}  // uninitialised; spelled out so that it is compiled for this set
  Part part[kParts];
};

#define NAITE_EACH_PART for (int i_ = 0; i_ < kParts; ++i_)

HWY_INLINE Lanes lanes_set(float x) {
  Lanes out;
  NAITE_EACH_PART out.part[i_] = part_set(x);
  return out;
}
// From fp32, or from bf16 bits. A subnormal is kept: arithmetic takes it for zero, and code that
// only moves values says lanes_flush().
template <class T>
HWY_INLINE Lanes lanes_load(const T* from) {
  Lanes out;
  NAITE_EACH_PART out.part[i_] = part_load(from + i_ * kPartLanes);
  return out;
}
// To fp32, or rounded to bf16. Not for subnormals, which no arithmetic gives.
template <class T>
HWY_INLINE void lanes_store(T* to, const Lanes& x) {
  NAITE_EACH_PART part_store(to + i_ * kPartLanes, x.part[i_]);
}
// The first `count` lanes; the others are +0.
template <class T>
HWY_NOINLINE Lanes lanes_load_some(const T* from, int count) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, from, static_cast<size_t>(count) * sizeof(T));
  return lanes_load(buffer);
}
template <class T>
HWY_NOINLINE void lanes_store_some(T* to, const Lanes& x, int count) {
  T buffer[kLanes];
  lanes_store(buffer, x);
  std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(T));
}

#define NAITE_BINARY(name, part_name)                                 \
  HWY_INLINE Lanes name(const Lanes& a, const Lanes& b) {             \
    Lanes out;                                                        \
    NAITE_EACH_PART out.part[i_] = part_name(a.part[i_], b.part[i_]); \
    return out;                                                       \
  }
NAITE_BINARY(operator+, part_add)
NAITE_BINARY(operator-, part_sub)
NAITE_BINARY(operator*, part_mul)
NAITE_BINARY(operator/, part_div)
NAITE_BINARY(lanes_max, part_max)  // a > b ? a : b
#undef NAITE_BINARY

#define NAITE_UNARY(name, part_name)                      \
  HWY_INLINE Lanes name(const Lanes& a) {                 \
    Lanes out;                                            \
    NAITE_EACH_PART out.part[i_] = part_name(a.part[i_]); \
    return out;                                           \
  }
NAITE_UNARY(operator-, part_neg)
NAITE_UNARY(lanes_sqrt, part_sqrt)
NAITE_UNARY(lanes_round_bf16, part_round_bf16)  // to the nearest bf16, kept as fp32
NAITE_UNARY(lanes_flush, part_flush)
NAITE_UNARY(lanes_log2, part_log2)
NAITE_UNARY(lanes_swap_pairs, part_swap_pairs)  // lanes 1, 0, 3, 2, ...
#undef NAITE_UNARY

HWY_INLINE Lanes lanes_fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes out;
  NAITE_EACH_PART out.part[i_] = part_fma(a.part[i_], b.part[i_], c.part[i_]);
  return out;
}
// Lanes [begin, end) as they are, +0 elsewhere.
HWY_INLINE Lanes lanes_keep(const Lanes& x, int begin, int end) {
  Lanes out;
  NAITE_EACH_PART out.part[i_] = part_keep(x.part[i_], i_ * kPartLanes, begin, end);
  return out;
}

// exp2 of numerics.h.
HWY_INLINE Part part_exp2(Part x) {
  const Part magic = part_set(12582912.0f);
  const Part clamped = part_cap(x, part_set(127.0f));
  const Part shifted = part_add(clamped, magic);
  const Part r = part_sub(clamped, part_sub(shifted, magic));
  Part p = part_set(0x1.44138ap-13f);
  p = part_fma(p, r, part_set(0x1.5f0890p-10f));
  p = part_fma(p, r, part_set(0x1.3b2a54p-7f));
  p = part_fma(p, r, part_set(0x1.c6af6cp-5f));
  p = part_fma(p, r, part_set(0x1.ebfbe0p-3f));
  p = part_fma(p, r, part_set(0x1.62e430p-1f));
  p = part_fma(p, r, part_set(1.0f));
  return part_mul_from(x, part_set(-100.0f), p, part_power(shifted));
}
HWY_INLINE Lanes lanes_exp2(const Lanes& x) {
  Lanes out;
  NAITE_EACH_PART out.part[i_] = part_exp2(x.part[i_]);
  return out;
}
HWY_INLINE Lanes lanes_sigmoid(const Lanes& x) {
  const Lanes one = lanes_set(1.0f);
  // -(x log2 e), the sign being exact.
  const Lanes minus_log2e = lanes_set(-static_cast<float>(kLog2E));
  return one / (one + lanes_exp2(x * minus_log2e));
}

// The join of the sum rule: i += i + 8, + 4, + 2, + 1.
HWY_INLINE float lanes_join(const Lanes& x) {
#if HWY_TARGET == HWY_AVX3
  const __m256 low = _mm512_castps512_ps256(x.part[0].raw);
  const __m256 eight = _mm256_add_ps(low, _mm512_extractf32x8_ps(x.part[0].raw, 1));
#elif HWY_TARGET == HWY_AVX2
  const __m256 eight = _mm256_add_ps(x.part[0].raw, x.part[1].raw);
#endif
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  float lane[kLanes];
  lanes_store(lane, x);
  for (int step = 8; step >= 1; step /= 2)
    for (int i = 0; i < step; ++i) lane[i] = lane[i] + lane[i + step];
  return lane[0];
#endif
}

// The greatest lane. In which order they are compared shows only in the sign of a zero and where
// there is a NaN.
HWY_INLINE float lanes_greatest(const Lanes& x) {
#if HWY_TARGET == HWY_SCALAR
  float lane[kLanes];
  lanes_store(lane, x);
  for (int i = 1; i < kLanes; ++i) lane[0] = lane[0] > lane[i] ? lane[0] : lane[i];
  return lane[0];
#else
  Part most = x.part[0];
  for (int i = 1; i < kParts; ++i) most = part_max(most, x.part[i]);
  return hn::GetLane(hn::MaxOfLanes(PartTag(), most));
#endif
}

// The greatest of count > 0 finished sums, none of which is -0.
HWY_INLINE float row_max(const float* values, int64_t count) {
  float most = values[0];
  if (count >= kLanes) {
    Lanes lanes = lanes_load(values + count - kLanes);
    for (int64_t i = 0; i + kLanes < count; i += kLanes)
      lanes = lanes_max(lanes, lanes_load(values + i));
    return lanes_greatest(lanes);
  }
  for (int64_t i = 1; i < count; ++i) most = most > values[i] ? most : values[i];
  return most;
}

#undef NAITE_EACH_PART

}  // namespace naite::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
