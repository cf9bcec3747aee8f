// SPDX-License-Identifier: Apache-2.0
#include "kernels/check.h"

#include <gtest/gtest.h>

namespace naite::kernels {
namespace {

// What a broken call is told.
std::string complaint(const Call& call) {
  const Status status = check_call(call);
  return status.ok() ? "" : status.error().message;
}

TEST(Checks, NameTheOperandThatBreaksItsPromise) {
  float numbers[12] = {};
  int32_t ids[3] = {0, 1, 1};
  const View a{numbers, DType::kF32, 1, 4}, b{numbers + 4, DType::kF32, 1, 4};
  const View y{numbers + 8, DType::kF32, 1, 4};
  EXPECT_EQ(complaint(Call::of(Add{{y, a, b}})), "");
  EXPECT_EQ(complaint(Call::of(Add{{a, a, b}})), "");  // in place
  EXPECT_EQ(complaint(Call::of(Add{{y, a, {}}})), "add: b is missing");
  View wrong = y;
  wrong.cols = 3;
  EXPECT_EQ(complaint(Call::of(Add{{wrong, a, b}})), "add: y is [1, 3] and must be [1, 4]");
  wrong = y;
  wrong.dtype = DType::kBf16;
  EXPECT_EQ(complaint(Call::of(Add{{wrong, a, b}})),
            "add: y is bf16 in a call that computes in fp32");
  wrong = a;
  wrong.data = numbers + 1;
  EXPECT_EQ(complaint(Call::of(Add{{wrong, a, b}})),
            "add: y is written and lies in the memory of a");
  EXPECT_EQ(complaint(Call::of(ColumnMax{a, a})),
            "column_max: y is written and lies in the memory of x");
  const View index{ids, DType::kI32, 3, 1}, table{numbers, DType::kF32, 2, 1};
  const View picked{numbers + 4, DType::kF32, 3, 1};
  EXPECT_EQ(complaint(Call::of(Embed{picked, index, table})), "");
  ids[2] = 2;
  EXPECT_EQ(complaint(Call::of(Embed{picked, index, table})),
            "embed: ids holds 2 in row 2, outside [0, 2)");
}

TEST(Checks, SpansAreInsideAndNotEmpty) {
  float numbers[8] = {};
  int32_t spans[4] = {0, 1, 0, 2};
  const auto view = [&](int i) { return View{numbers + i, DType::kF32, 2, 1}; };
  const Attention call{view(0),
                       view(2),
                       {},
                       view(4),
                       view(6),
                       view(6),
                       {spans, DType::kI32, 2, 2},
                       {1, 1, 1, 1, 1.0, 0},
                       {}};
  EXPECT_EQ(complaint(Call::of(call)), "");
  spans[2] = 2;
  EXPECT_EQ(complaint(Call::of(call)), "attention: row 1 of spans is the empty span [2, 2)");
  spans[3] = 3;
  EXPECT_EQ(complaint(Call::of(call)), "attention: spans holds 3 in row 1, outside [0, 3)");
}

TEST(Checks, AWorkspaceThatIsTooSmallIsRefused) {
  set_float_mode();
  ThreadPool pool(1);
  Result<std::unique_ptr<Kernels>> cpu = make_cpu(pool, "portable");
  ASSERT_TRUE(cpu.ok()) << cpu.error().message;
  float numbers[4] = {};
  const View dy{numbers, DType::kF32, 1, 2}, db{numbers + 2, DType::kF32, 1, 2};
  const Status status = (*cpu)->submit(ColumnSum{{db, true, false}, dy, {}});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message, "column_sum: a workspace of 0 bytes, not 8");
}

// Views without memory: the work of a call follows from its shapes.
TEST(Observed, CountsThePairsThatTheShapesAllow) {
  ASSERT_EQ(attention_flops({nullptr, DType::kF32, 4, 8}, {nullptr, DType::kF32, 4, 8},
                            {1, 1, 8, 8, 1.0, 0}),
            2.0 * (1 + 2 + 3 + 4) * 16);
  ASSERT_EQ(attention_flops({nullptr, DType::kF32, 4, 8}, {nullptr, DType::kF32, 4, 8},
                            {1, 1, 8, 8, 1.0, 2}),
            2.0 * (1 + 2 + 2 + 2) * 16);
}

}  // namespace
}  // namespace naite::kernels
