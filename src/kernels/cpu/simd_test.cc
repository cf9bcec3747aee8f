// SPDX-License-Identifier: Apache-2.0
// Vector arithmetic against kernels/numerics.h, bit by bit, on every instruction set of the machine
// and on values chosen to hurt: any bit pattern, cancellation, the edges of underflow and overflow.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd_test.cc"
#include <hwy/foreach_target.h>

#include <gtest/gtest.h>

#include <array>

#include "base/base.h"
#include "kernels/cpu/streams-inl.h"

#ifndef NAITE_KERNELS_CPU_SIMD_TEST_CC_
#define NAITE_KERNELS_CPU_SIMD_TEST_CC_
namespace naite::kernels::cpu {
using Sixteen = std::array<float, 16>;
struct Results {
  Sixteen sum, product, quotient, fused, root, power, logarithm, gate, rounded, most, kept, stored;
  float joined, ruled;
};
}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

void calculate(const cpu::Sixteen& a, const cpu::Sixteen& b, const cpu::Sixteen& c,
               cpu::Results& out) {
  const Lanes x = lanes_load(a.data()), y = lanes_load(b.data()), z = lanes_load(c.data());
  lanes_store(out.sum.data(), x + y);
  lanes_store(out.product.data(), x * y);
  lanes_store(out.quotient.data(), x / y);
  lanes_store(out.fused.data(), lanes_fma(x, y, z));
  lanes_store(out.root.data(), lanes_sqrt(x));
  lanes_store(out.power.data(), lanes_exp2(x));
  lanes_store(out.logarithm.data(), lanes_log2(x));
  lanes_store(out.gate.data(), lanes_sigmoid(x));
  lanes_store(out.rounded.data(), lanes_round_bf16(lanes_flush(x)));
  lanes_store(out.most.data(), lanes_max(x, y));
  lanes_store(out.kept.data(), lanes_keep(x, 3, 11));
  uint16_t narrow[16];
  lanes_store(narrow, lanes_flush(x));
  lanes_store(out.stored.data(), lanes_flush(lanes_load(narrow)));
  out.joined = lanes_join(x);
  out.ruled = rule_sum(13, [&](int64_t, int count, const Lanes& lanes) NAITE_VECTORS {
    return lanes_fma(lanes_load_some(a.data(), count), lanes_load_some(b.data(), count), lanes);
  });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {
namespace {

Results expected(const Sixteen& a, const Sixteen& b, const Sixteen& c) {
  Results out;
  for (int i = 0; i < 16; ++i) {
    const float x = a[i], y = b[i];
    // Volatile, so that the compiler computes nothing ahead of time without the float mode.
    const volatile float sum = x + y, product = x * y, quotient = x / y, root = std::sqrt(x);
    out.sum[i] = sum, out.product[i] = product, out.quotient[i] = quotient, out.root[i] = root;
    out.fused[i] = kernels::fma(x, y, c[i]);
    out.power[i] = kernels::exp2(x);
    out.logarithm[i] = kernels::log2(x);
    out.gate[i] = sigmoid(x);
    out.rounded[i] = out.stored[i] = bf16_to_float(float_to_bf16(x));
    // Compilers differ in whether this selection flushes; the sets do.
    const volatile float one = 1;
    out.most[i] = (x > y ? x : y) * one;
    out.kept[i] = i >= 3 && i < 11 ? x : 0.0f;
  }
  out.joined = block_sum<float>(0, 16, [&](int64_t i, float lane) { return lane + a[i]; });
  out.ruled = sum<float>(13, [&](int64_t i, float lane) { return kernels::fma(a[i], b[i], lane); });
  return out;
}

uint32_t canonical(float x) { return std::isnan(x) ? 0x7fc00000u : std::bit_cast<uint32_t>(x); }

void expect_equal(const Sixteen& found, const Sixteen& wanted, const char* what, const Sixteen& a) {
  for (int i = 0; i < 16; ++i)
    ASSERT_EQ(canonical(found[i]), canonical(wanted[i]))
        << what << " lane " << i << " of " << a[i] << ": " << found[i] << ", not " << wanted[i];
}

// Values of one kind out of 64 random bits.
float hostile(uint64_t bits, int kind) {
  const auto low = static_cast<uint32_t>(bits);
  const auto sign = static_cast<uint32_t>(bits >> 63) << 31;
  const auto fraction = low & 0x007fffffu;
  switch (kind) {
    case 0:
      return std::bit_cast<float>(low);  // anything: NaN, infinities and subnormals too
    case 1:                              // around 1
      return std::bit_cast<float>(sign | ((126u + (low >> 23) % 3) << 23) | fraction);
    case 2:  // whose products underflow or nearly
      return std::bit_cast<float>(sign | ((60u + (low >> 23) % 8) << 23) | fraction);
    case 3:  // whose products overflow or nearly
      return std::bit_cast<float>(sign | ((187u + (low >> 23) % 8) << 23) | fraction);
    case 4:  // short fractions: exact results and ties
      return std::bit_cast<float>(sign | ((120u + (low >> 23) % 16) << 23) |
                                  (fraction & 0x7f8000u));
    case 5:  // NaN of every payload, infinities
      return std::bit_cast<float>(sign | 0x7f800000u | (fraction >> (low >> 27)));
    default:  // what exp2 distinguishes
      return static_cast<float>(static_cast<int32_t>(low)) * 0x1p-23f;
  }
}

TEST(Simd, EverySetRepeatsTheScalarArithmetic) {
  set_float_mode();
  uint64_t state = 1;
  auto next = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state ^ (state >> 29);
  };
  for (int round = 0; round < 12000; ++round) {
    Sixteen a, b, c;
    for (int i = 0; i < 16; ++i) {
      a[i] = hostile(next(), round % 7);
      b[i] = hostile(next(), round % 7);
      c[i] = hostile(next(), (round / 7) % 7);
      // An addend that cancels the product but for its last bits.
      if (round % 5 == 0) c[i] = -(a[i] * b[i]);
    }
    const Results wanted = expected(a, b, c);
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(isa_name(isa));
      Results found;
      NAITE_CHOOSE(isa, calculate)(a, b, c, found);
      expect_equal(found.sum, wanted.sum, "sum", a);
      expect_equal(found.product, wanted.product, "product", a);
      expect_equal(found.quotient, wanted.quotient, "quotient", a);
      expect_equal(found.fused, wanted.fused, "fma", a);
      expect_equal(found.root, wanted.root, "square root", a);
      expect_equal(found.power, wanted.power, "exp2", a);
      expect_equal(found.gate, wanted.gate, "sigmoid", a);
      expect_equal(found.rounded, wanted.rounded, "rounding", a);
      expect_equal(found.stored, wanted.stored, "bf16 in memory", a);
      expect_equal(found.most, wanted.most, "max", a);
      expect_equal(found.kept, wanted.kept, "keep", a);
      for (int i = 0; i < 16; ++i) {
        if (!std::isnormal(a[i]) || a[i] < 0) continue;  // log2 is not defined there
        ASSERT_EQ(canonical(found.logarithm[i]), canonical(wanted.logarithm[i])) << a[i];
      }
      ASSERT_EQ(canonical(found.joined), canonical(wanted.joined));
      ASSERT_EQ(canonical(found.ruled), canonical(wanted.ruled));
    }
  }
}

}  // namespace
}  // namespace naite::kernels::cpu
#endif
