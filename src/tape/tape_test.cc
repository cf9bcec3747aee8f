// SPDX-License-Identifier: Apache-2.0
// Stacks of matrices, and tensors that are watched.
#include "tape/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tape/ops.h"

namespace naite::tape {
namespace {

using testing::ElementsAre;

std::vector<float> numbers(int64_t count, float first) {
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(first + 0.25f * static_cast<float>(i));
  return out;
}

TEST(Stack, IsSoManyTensorsOutsideOfTheTape) {
  const ParameterSpec experts{"experts.{}.up_proj.weight", 4, 6, Role::kMatrix, 0.02, 0, 3, 2};
  const ParameterSpec norm{"norm.weight", 1, 6, Role::kVector, 0, 1};
  EXPECT_EQ(experts.size(), 72);
  const std::vector<ParameterSpec> tensors = tensors_of({experts, norm});
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[2].name, "experts.2.up_proj.weight");
  EXPECT_EQ(tensors[2].size(), 24);
  EXPECT_EQ(tensors[3], norm);
}

// A stack of weights is prepared as each of its matrices would be alone.
TEST(Stack, IsPreparedMatrixByMatrix) {
  set_float_mode();
  ThreadPool pool(2);
  Result<std::unique_ptr<Kernels>> cpu = kernels::make_cpu(pool, "");
  ASSERT_TRUE(cpu.ok());
  constexpr int64_t kCount = 3, kRows = 5, kCols = 7;
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    Parameters stack(**cpu, compute, {{"e.{}.w", kRows, kCols, Role::kMatrix, 0, 0, kCount}});
    Parameters one(**cpu, compute, {{"w", kRows, kCols}});
    stack.add_use(0, Use::kMatrix);
    one.add_use(0, Use::kMatrix);
    const int64_t bytes = (*cpu)->prepared_bytes(Use::kMatrix, compute, kRows, kCols);
    for (int64_t i = 0; i < kCount; ++i) {
      const std::vector<float> values = numbers(kRows * kCols, static_cast<float>(10 * i));
      NAITE_CHECK(
          (*cpu)->upload(stack.tensor(0, i).data, values.data(), stack.tensor(0, i).bytes()).ok());
    }
    NAITE_CHECK(stack.prepare_new().ok());
    EXPECT_EQ(stack.prepared(0, Use::kMatrix).rows, kCount * kRows);
    for (int64_t i = 0; i < kCount; ++i) {
      const std::vector<float> values = numbers(kRows * kCols, static_cast<float>(10 * i));
      NAITE_CHECK((*cpu)->upload(one.master(0).data, values.data(), one.master(0).bytes()).ok());
      NAITE_CHECK(one.prepare_all().ok());
      std::string expected(static_cast<size_t>(bytes), '\0'), found = expected;
      NAITE_CHECK(
          (*cpu)->download(expected.data(), one.prepared(0, Use::kMatrix).data, bytes).ok());
      NAITE_CHECK((*cpu)
                      ->download(found.data(),
                                 stack.prepared(0, Use::kMatrix).as<std::byte>() + i * bytes, bytes)
                      .ok());
      EXPECT_TRUE(found == expected) << "matrix " << i;
    }
  }
}

TEST(Prepared, CopiesThatAreThereStayAsTheyAre) {
  set_float_mode();
  const std::unique_ptr<Kernels> kernels = kernels::make_reference(DType::kF32);
  Parameters parameters(*kernels, DType::kBf16, {{"w", 1, 2, Role::kVector}});
  const auto set = [&](float value) {
    const std::vector<float> values{value, value};
    NAITE_CHECK(kernels->upload(parameters.master(0).data, values.data(), 8).ok());
  };
  const auto prepared = [&](Use use) {
    uint16_t bits = 0;
    NAITE_CHECK(kernels->download(&bits, parameters.prepared(0, use).data, 2).ok());
    return bits;
  };
  set(1);
  parameters.add_use(0, Use::kVector);
  NAITE_CHECK(parameters.prepare_new().ok());
  set(2);
  parameters.add_use(0, Use::kTable);
  NAITE_CHECK(parameters.prepare_new().ok());
  EXPECT_EQ(prepared(Use::kVector), 0x3f80);  // 1
  EXPECT_EQ(prepared(Use::kTable), 0x4000);   // 2
  NAITE_CHECK(parameters.prepare_all().ok());
  EXPECT_EQ(prepared(Use::kVector), 0x4000);
}

// Over the passes since begin_watching(), read once.
TEST(Watch, AccumulatesOverThePassesOfAStep) {
  set_float_mode();
  const std::unique_ptr<Kernels> kernels = kernels::make_reference(DType::kF32);
  Tape tape(*kernels, DType::kF32, false);
  const Tensor ids = tape.data("ids", DType::kI32, 1, 1);
  const Tensor row = embedding(ids, tape.parameter({"table", 3, 2, Role::kEmbedding}));
  tape.watch("most", row, Rule::kMax);
  tape.watch("sum", row, Rule::kSum);
  Parameters parameters(*kernels, DType::kF32, tape.parameters());
  Program program(tape, parameters);
  const std::vector<float> table{1, -2, -3, 4, 0.5f, -8};
  NAITE_CHECK(kernels->upload(parameters.master(0).data, table.data(), 24).ok());
  NAITE_CHECK(parameters.prepare_all().ok());
  const auto pass = [&](int32_t id) {
    NAITE_CHECK(program.write(ids, &id, 4).ok());
    NAITE_CHECK(program.forward().ok());
  };
  const auto watched = [&](std::string_view name) {
    const View found = program.watched(name);
    std::vector<float> values(static_cast<size_t>(found.size()));
    NAITE_CHECK(kernels->download(values.data(), found.data, found.bytes()).ok());
    return values;
  };
  pass(1);  // forgotten
  program.begin_watching();
  for (const int32_t id : {0, 1, 2}) pass(id);
  EXPECT_THAT(watched("most"), ElementsAre(1, 4));
  EXPECT_THAT(watched("sum"), ElementsAre(-1.5f, -6));
  program.begin_watching();
  pass(2);
  EXPECT_THAT(watched("most"), ElementsAre(0.5f, -8));
}

}  // namespace
}  // namespace naite::tape
