// SPDX-License-Identifier: Apache-2.0
#include "formats/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

namespace naite::formats {
namespace {

// Roughly normal values with an outlier now and then, as weights are.
std::vector<float> weights(size_t count) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) {
    double sum = -6.0;
    for (uint64_t k = 0; k < 12; ++k) sum += random_unit(7, Purpose::kSampling, i * 12 + k);
    out[i] = static_cast<float>(0.02 * sum * (i % 97 == 0 ? 4.0 : 1.0));
  }
  return out;
}

double relative_error(StoredType type, const std::vector<float>& values) {
  std::string bytes;
  EXPECT_TRUE(encode_floats(type, values, bytes));
  EXPECT_EQ(static_cast<int64_t>(bytes.size()),
            *stored_bytes(type, {static_cast<int64_t>(values.size())}));
  std::vector<float> back(values.size());
  EXPECT_TRUE(decode_floats(type, bytes, back));
  double squares = 0.0, errors = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    squares += double{values[i]} * values[i];
    errors += std::pow(double{values[i]} - back[i], 2);
  }
  return std::sqrt(errors / squares);
}

TEST(Quantize, ErrorsAreThoseOfTheBitWidth) {
  const std::vector<float> values = weights(256 * 64);
  EXPECT_LT(relative_error(StoredType::kQ8_0, values), 0.008);
  EXPECT_LT(relative_error(StoredType::kQ6K, values), 0.03);
  EXPECT_LT(relative_error(StoredType::kQ4K, values), 0.09);
}

TEST(Quantize, ZerosConstantsAndExtremesSurvive) {
  for (const StoredType type : {StoredType::kQ8_0, StoredType::kQ4K, StoredType::kQ6K}) {
    for (const float constant : {0.0f, 1.0f, -3.0f, 0.05f}) {
      const std::vector<float> values(256, constant);
      std::string bytes;
      ASSERT_TRUE(encode_floats(type, values, bytes));
      std::vector<float> back(256);
      ASSERT_TRUE(decode_floats(type, bytes, back));
      for (const float x : back) EXPECT_NEAR(x, constant, std::abs(constant) * 0.01);
    }
  }
}

TEST(Quantize, NotANumberDoesNoHarm) {
  std::vector<float> values = weights(256);
  values[3] = std::nanf("");
  values[77] = std::numeric_limits<float>::infinity();
  for (const StoredType type : {StoredType::kQ8_0, StoredType::kQ4K, StoredType::kQ6K}) {
    std::string bytes;
    ASSERT_TRUE(encode_floats(type, values, bytes));
    ASSERT_TRUE(decode_floats(type, bytes, values));
    values = weights(256);
    values[3] = std::nanf("");
  }
}

// Every field of the packed layouts at a place of its own, worked out by hand from the description.
TEST(Quantize, LayoutsAreTheDescribedOnes) {
  std::string q4(144, '\0');
  const uint16_t one = float_to_half(1.0f), two = float_to_half(2.0f);
  std::memcpy(q4.data(), &one, 2);
  std::memcpy(q4.data() + 2, &two, 2);
  // Group 5: scale 0x2b = 10 1011, minimum 0x1d = 01 1101.
  q4[4 + 9] = static_cast<char>(0xdb);
  q4[4 + 1] = static_cast<char>(0x80);
  q4[4 + 5] = static_cast<char>(0x40);
  q4[16 + 2 * 32 + 7] = static_cast<char>(0x90);  // group 5, element 7: 9
  std::vector<float> x(256);
  ASSERT_TRUE(decode_floats(StoredType::kQ4K, q4, x));
  EXPECT_EQ(x[5 * 32 + 7], 43.0f * 9 - 2.0f * 29);
  EXPECT_EQ(x[5 * 32 + 8], -2.0f * 29);
  EXPECT_EQ(x[0], 0.0f);

  std::string q6(210, '\0');
  std::memcpy(q6.data() + 208, &two, 2);
  q6[192 + 8 + 5] = -3;                            // group 13: elements 208..223
  q6[64 + 32 * 0 + 17] = static_cast<char>(0xa0);  // element 128 + 64 + 17 = 209: low bits 10
  q6[128 + 32 + 17] = static_cast<char>(0x30);     // its high bits 3
  ASSERT_TRUE(decode_floats(StoredType::kQ6K, q6, x));
  EXPECT_EQ(x[209], 2.0f * -3 * (10 + 48 - 32));
  EXPECT_EQ(x[210], 2.0f * -3 * -32);
}

}  // namespace
}  // namespace naite::formats
