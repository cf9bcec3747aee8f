// SPDX-License-Identifier: Apache-2.0
#include "formats/stored.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace naite::formats {
namespace {

TEST(Half, EveryBitPatternSurvivesTheWayToFloatAndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
    } else {
      ASSERT_EQ(float_to_half(value), bits);
    }
  }
  EXPECT_EQ(half_to_float(0x3c00), 1.0f);
  EXPECT_EQ(half_to_float(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(half_to_float(0x7bff), 65504.0f);
}

TEST(Half, RoundsToNearestEven) {
  // Between every two neighbouring halves: below, on and above the middle.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = half_to_float(static_cast<uint16_t>(bits));
    const float high = half_to_float(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(float_to_half(middle), bits + (bits & 1));
    ASSERT_EQ(float_to_half(std::nextafter(middle, low)), bits);
    ASSERT_EQ(float_to_half(std::nextafter(middle, high)), bits + 1);
    ASSERT_EQ(float_to_half(-middle), 0x8000 + bits + (bits & 1));
  }
  EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(float_to_half(-1e-30f), 0x8000);
}

TEST(Stored, EncodingAndDecodingAgree) {
  const std::vector<float> values = {0.0f, -0.0f, 1.0f, -2.5f, 65504.0f, 0.0078125f};
  for (const StoredType type :
       {StoredType::kF16, StoredType::kBf16, StoredType::kF32, StoredType::kF64}) {
    std::string bytes;
    ASSERT_TRUE(encode_floats(type, values, bytes));
    std::vector<float> back(values.size());
    ASSERT_TRUE(decode_floats(type, bytes, back));
    if (type == StoredType::kBf16) back[4] = values[4];  // not a bfloat16 number
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(back[i]));
  }
  std::string bytes(8, '\0');
  std::vector<float> back(1);
  EXPECT_EQ(decode_floats(StoredType::kI64, bytes, back).error().message,
            "I64 does not hold floating-point numbers");
}

TEST(Stored, SubnormalsBecomeZeroOfTheirSign) {
  const std::vector<float> tiny = {std::bit_cast<float>(0x80000001u)};
  std::string bytes;
  ASSERT_TRUE(encode_floats(StoredType::kF32, tiny, bytes));
  EXPECT_EQ(bytes, std::string("\0\0\0\x80", 4));
  std::vector<float> back(1);
  ASSERT_TRUE(decode_floats(StoredType::kF32, std::string("\1\0\0\x80", 4), back));
  EXPECT_EQ(std::bit_cast<uint32_t>(back[0]), 0x80000000u);
}

TEST(Stored, CountsRefuseOverflow) {
  EXPECT_EQ(*element_count({}), 1);
  EXPECT_EQ(*element_count({3, 0}), 0);
  EXPECT_EQ(*element_count({3, 4, 5}), 60);
  EXPECT_FALSE(element_count({int64_t{1} << 40, int64_t{1} << 40}));
  EXPECT_FALSE(element_count({-1}));
  EXPECT_FALSE(stored_bytes(StoredType::kF64, {int64_t{1} << 61}));
}

}  // namespace
}  // namespace naite::formats
