// SPDX-License-Identifier: Apache-2.0
// Views read and written sixteen elements at a time, converting between the stored dtype and fp32,
// and the contract's sum rule over them. Included once per instruction set, like simd-inl.h.
#if defined(NAITE_KERNELS_CPU_STREAMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NAITE_KERNELS_CPU_STREAMS_INL_H_
#undef NAITE_KERNELS_CPU_STREAMS_INL_H_
#else
#define NAITE_KERNELS_CPU_STREAMS_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/simd-inl.h"
#include "kernels/kernels.h"

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// `count` of read() and write() is min(16, what is left): short vectors only end a row.
class Source {
 public:
  explicit Source(const View& view)
      : data_(static_cast<const std::byte*>(view.data)), narrow_(view.dtype == DType::kBf16) {}

  HWY_INLINE Lanes read(int64_t index, int count) const {
    if (narrow_) return read_from(reinterpret_cast<const uint16_t*>(data_) + index, count);
    return read_from(reinterpret_cast<const float*>(data_) + index, count);
  }
  // For values that are only moved: a bf16 subnormal is flushed, fp32 is left as it is.
  HWY_INLINE Lanes moved(int64_t index, int count) const {
    const Lanes x = read(index, count);
    return narrow_ ? lanes_flush(x) : x;
  }

 private:
  template <class T>
  static HWY_INLINE Lanes read_from(const T* from, int count) {
    return HWY_LIKELY(count == kLanes) ? lanes_load(from) : lanes_load_some(from, count);
  }
  const std::byte* data_;
  bool narrow_;
};

// kPaired: bf16 by the machine's own conversion, which is the contract's (base/bytes.h).
template <bool kPaired = false>
class Sink {
 public:
  explicit Sink(const View& view)
      : data_(static_cast<std::byte*>(view.data)), narrow_(view.dtype == DType::kBf16) {}

  HWY_INLINE void write(int64_t index, int count, const Lanes& x) const {
    if (narrow_) {
      write_to(reinterpret_cast<uint16_t*>(data_) + index, count, x);
    } else {
      write_to(reinterpret_cast<float*>(data_) + index, count, x);
    }
  }

 private:
  template <class T>
  static HWY_INLINE void write_to(T* to, int count, const Lanes& x) {
    if (HWY_UNLIKELY(count < kLanes)) return lanes_store_some(to, x, count);
#if HWY_TARGET == HWY_AVX3
    if constexpr (kPaired && sizeof(T) == 2) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                          (__m256i)_mm512_cvtneps_pbh(x.part[0].raw));
      return;
    }
#endif
    lanes_store(to, x);
  }
  std::byte* data_;
  bool narrow_;
};

// A gradient: written, added to what is there, or dropped.
template <bool kPaired = false>
class GradientSink {
 public:
  explicit GradientSink(const Gradient& gradient)
      : old_(gradient.view),
        sink_(gradient.view),
        wanted_(gradient.wanted),
        accumulate_(gradient.accumulate) {}

  HWY_INLINE void put(int64_t index, int count, const Lanes& x) const {
    if (!wanted_) return;
    sink_.write(index, count, accumulate_ ? old_.read(index, count) + x : x);
  }

 private:
  Source old_;
  Sink<kPaired> sink_;
  bool wanted_, accumulate_;
};

HWY_INLINE int lanes_left(int64_t index, int64_t end) {
  return static_cast<int>(std::min<int64_t>(kLanes, end - index));
}

// body(i, count) over [begin, end) by sixteens. The count is a constant but for the last one, so
// that nothing in the loop is a call.
template <class Body>
HWY_INLINE void each_lanes(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
  if (i < end) body(i, static_cast<int>(end - i));
}

// The sum rule over elements [0, n): term(i, count, lanes) returns the lanes with elements
// i .. i + count - 1 added. Finished blocks wait in a binary counter, which is the rule's tree.
template <class Term>
HWY_INLINE float rule_sum(int64_t n, Term term) {
  float waiting[64];
  int depth = 0;
  for (int64_t begin = 0, block = 0; begin < n; begin += kSumBlock, ++block) {
    const int64_t end = std::min(n, begin + kSumBlock);
    Lanes lanes = lanes_set(0.0f);
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) lanes = term(i, kLanes, lanes);
    if (i < end) lanes = term(i, static_cast<int>(end - i), lanes);
    float value = lanes_join(lanes);
    for (int64_t carry = block; (carry & 1) != 0; carry >>= 1) value = waiting[--depth] + value;
    waiting[depth++] = value;
  }
  if (depth == 0) return 0.0f;
  float total = waiting[--depth];
  while (depth > 0) total = waiting[--depth] + total;
  return total + 0.0f;
}

// kCount sums at once: term(i, count, lanes) adds to lanes[0 .. kCount - 1].
template <int kCount, class Term>
HWY_INLINE void rule_sums(int64_t n, float (&totals)[kCount], Term term) {
  float waiting[64][kCount];
  int depth = 0;
  for (int64_t begin = 0, block = 0; begin < n; begin += kSumBlock, ++block) {
    const int64_t end = std::min(n, begin + kSumBlock);
    Lanes lanes[kCount];
    for (Lanes& lane : lanes) lane = lanes_set(0.0f);
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) term(i, kLanes, lanes);
    if (i < end) term(i, static_cast<int>(end - i), lanes);
    int level = depth;
    for (int k = 0; k < kCount; ++k) {
      float value = lanes_join(lanes[k]);
      level = depth;
      for (int64_t carry = block; (carry & 1) != 0; carry >>= 1)
        value = waiting[--level][k] + value;
      waiting[level][k] = value;
    }
    depth = level + 1;
  }
  for (int k = 0; k < kCount; ++k) {
    totals[k] = 0.0f;
    if (depth == 0) continue;
    float total = waiting[depth - 1][k];
    for (int level = depth - 2; level >= 0; --level) total = waiting[level][k] + total;
    totals[k] = total + 0.0f;
  }
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#endif
