// SPDX-License-Identifier: Apache-2.0
// Products against the scalar chain of numerics.h, for shapes that fill no tile and for values that
// live near 2^-126, overflow, or are infinite. Every instruction set, several thread counts.
#include "kernels/cpu/operations.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cpu/memory.h"
#include "kernels/numerics.h"

namespace naite::kernels::cpu {
namespace {

// Exponent fields that random numbers are drawn from.
struct Values {
  const char* name;
  uint32_t low, high;
};
constexpr Values kOrdinary{"ordinary", 120, 129};
constexpr Values kTiny{"tiny", 50, 80};           // products around 2^-126
constexpr Values kSubnormal{"subnormal", 0, 70};  // and inputs that count as zero
constexpr Values kHuge{"huge", 180, 200};         // products around overflow
constexpr Values kAnything{"anything", 0, 255};   // infinities and NaN

class Machine {
 public:
  Machine(Isa isa, int threads) : pool_(threads), context_{.pool = pool_, .isa = isa} {
    context_.thread_bytes = int64_t{2} << 20;
    context_.thread_memory = static_cast<std::byte*>(allocate_zeroed(bytes()));
  }
  ~Machine() { release_zeroed(context_.thread_memory, bytes()); }
  const Context& context() const { return context_; }

 private:
  int64_t bytes() const { return context_.thread_bytes * pool_.num_threads(); }
  ThreadPool pool_;
  Context context_;
};

class Matrix {
 public:
  Matrix(DType dtype, int64_t rows, int64_t cols)
      : bytes_(rows * cols * dtype_bytes(dtype)),
        view_{allocate_zeroed(bytes_), dtype, rows, cols} {}
  Matrix(DType dtype, int64_t rows, int64_t cols, Values values, uint64_t seed)
      : Matrix(dtype, rows, cols) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < view_.size(); ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const auto random = static_cast<uint32_t>(state >> 32);
      const uint32_t exponent = values.low + (random >> 24) % (values.high - values.low + 1);
      const uint32_t bits = (random & 0x807fffffu) | (exponent << 23);
      if (dtype == DType::kBf16)
        view_.as<uint16_t>()[i] = static_cast<uint16_t>(bits >> 16);
      else
        view_.as<uint32_t>()[i] = bits;
    }
  }
  ~Matrix() { release_zeroed(view_.data, bytes_); }
  Matrix(const Matrix&) = delete;

  const View& view() const { return view_; }
  float at(int64_t row, int64_t col) const {
    const int64_t i = row * view_.cols + col;
    return view_.dtype == DType::kBf16 ? bf16_to_float(view_.as<uint16_t>()[i])
                                       : view_.as<float>()[i];
  }

 private:
  int64_t bytes_;
  View view_;
};

// A prepared weight and the values that it holds.
struct Weight {
  Weight(const Context& context, DType compute, int64_t out, int64_t in, Values values,
         uint64_t seed)
      : master(DType::kF32, out, in, values, seed),
        bytes(prepared_bytes(Use::kMatrix, compute, out, in)),
        memory(allocate_zeroed(bytes)),
        view{memory, compute, out, in} {
    run(context, Prepare{view, master.view(), Use::kMatrix});
  }
  ~Weight() { release_zeroed(memory, bytes); }
  float at(int64_t row, int64_t col) const {
    const float value = master.at(row, col);
    return view.dtype == DType::kBf16 ? bf16_to_float(float_to_bf16(value)) : value;
  }
  Matrix master;
  int64_t bytes;
  void* memory;
  View view;
};

class Chain {
 public:
  Chain(bool pairs, float start) : sum_(start), pairs_(pairs) {}
  void feed(float a, float b) {
    if (!pairs_) {
      sum_ = fma(a, b, sum_);
    } else if (!held_) {
      a_ = a, b_ = b, held_ = true;
    } else {
      sum_ = fma(a_, b_, fma(a, b, sum_));
      held_ = false;
    }
  }
  void pad() {
    if (held_) feed(0, 0);
  }
  float finish() {
    pad();
    return sum_ + 0.0f;
  }

 private:
  float sum_, a_ = 0, b_ = 0;
  bool pairs_, held_ = false;
};

void expect_value(const View& view, int64_t index, float expected, const std::string& where) {
  if (view.dtype == DType::kBf16) {
    const uint16_t found = view.as<uint16_t>()[index], want = float_to_bf16(expected);
    if ((found & 0x7fff) > 0x7f80 && (want & 0x7fff) > 0x7f80) return;  // NaN is NaN
    ASSERT_EQ(found, want) << where << ", element " << index;
  } else {
    const float found = view.as<float>()[index];
    if (found != found && expected != expected) return;
    ASSERT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(expected))
        << where << ", element " << index << ": " << found << ", expected " << expected;
  }
}

struct Shape {
  int64_t tokens, in;
  std::vector<int64_t> outs;
};

void check_products(const Machine& machine, DType compute, const Shape& shape, Values values,
                    bool accumulate) {
  const Context& context = machine.context();
  const bool pairs = compute == DType::kBf16;
  const auto [tokens, in, outs] = shape;
  const std::string where = fmt::format(
      "{} {} tokens {} in {} {} threads {}{}", isa_name(context.isa), dtype_name(compute), tokens,
      in, values.name, context.pool.num_threads(), accumulate ? " accumulating" : "");
  const Matrix x(compute, tokens, in, values, 1), bias(compute, 1, outs[0], values, 2);
  const DType dx_type = accumulate ? DType::kF32 : compute;
  const Matrix dx(dx_type, tokens, in, values, 3), dx_before(dx_type, tokens, in, values, 3);
  std::vector<std::unique_ptr<Matrix>> ys, dys, dws;
  std::vector<std::unique_ptr<Weight>> ws;
  std::vector<Projection> forward, backward;
  for (size_t i = 0; i < outs.size(); ++i) {
    ws.push_back(std::make_unique<Weight>(context, compute, outs[i], in, values, 10 + i));
    // The first part is wide (fp32), with a bias.
    ys.push_back(std::make_unique<Matrix>(i == 0 ? DType::kF32 : compute, tokens, outs[i]));
    dys.push_back(std::make_unique<Matrix>(compute, tokens, outs[i], values, 20 + i));
    forward.push_back({ys[i]->view(), ws[i]->view, i == 0 ? bias.view() : View{}});
    backward.push_back({dys[i]->view(), ws[i]->view, {}});
  }
  run(context, Linear{forward, x.view()});
  run(context, LinearBackwardInput{{dx.view(), true, accumulate}, backward});
  for (size_t i = 0; i < outs.size(); ++i) {
    const Matrix dw(DType::kF32, outs[i], in, values, 4),
        before(DType::kF32, outs[i], in, values, 4);
    run(context, LinearBackwardWeight{{dw.view(), true, accumulate}, dys[i]->view(), x.view()});
    for (int64_t o = 0; o < outs[i]; ++o) {
      for (int64_t t = 0; t < tokens; ++t) {
        Chain chain(pairs, 0);
        for (int64_t k = 0; k < in; ++k) chain.feed(x.at(t, k), ws[i]->at(o, k));
        float y = chain.finish();
        if (i == 0) y = y + bias.at(0, o);
        expect_value(ys[i]->view(), t * outs[i] + o, y, "y " + where);
      }
      for (int64_t k = 0; k < in; ++k) {
        Chain chain(pairs, accumulate ? before.at(o, k) : 0);
        for (int64_t t = 0; t < tokens; ++t) chain.feed(dys[i]->at(t, o), x.at(t, k));
        expect_value(dw.view(), o * in + k, chain.finish(), "dw " + where);
      }
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < in; ++k) {
      Chain chain(pairs, accumulate ? dx_before.at(t, k) : 0);
      for (size_t i = 0; i < outs.size(); ++i) {
        for (int64_t o = 0; o < outs[i]; ++o) chain.feed(dys[i]->at(t, o), ws[i]->at(o, k));
        chain.pad();
      }
      expect_value(dx.view(), t * in + k, chain.finish(), "dx " + where);
    }
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Products, AreTheScalarChainOnEveryInstructionSet) {
  set_float_mode();
  const Shape shapes[] = {
      {1, 20, {259}}, {7, 33, {50, 1, 17}}, {19, 64, {96, 32}}, {35, 131, {21}}, {200, 10, {9}}};
  for (const Isa isa : available_isas())
    for (const int threads : {1, 2, 3}) {
      const Machine machine(isa, threads);
      for (const DType compute : {DType::kF32, DType::kBf16})
        for (const Shape& shape : shapes)
          for (const bool accumulate : {false, true})
            check_products(machine, compute, shape, kOrdinary, accumulate);
    }
}

TEST(Products, AreTheScalarChainForHostileValues) {
  set_float_mode();
  for (const Isa isa : available_isas()) {
    const Machine machine(isa, 2);
    for (const DType compute : {DType::kF32, DType::kBf16})
      for (const Values& values : {kTiny, kSubnormal, kHuge, kAnything})
        check_products(machine, compute, {26, 37, {50, 20}}, values, values.high > 190);
  }
}

// Deep enough for several depth blocks of every kind, with bf16 results that wait in scratch.
TEST(Products, ContinueTheirChainAcrossDepthBlocks) {
  set_float_mode();
  for (const Isa isa : available_isas()) {
    const Machine machine(isa, 2);
    for (const DType compute : {DType::kF32, DType::kBf16}) {
      check_products(machine, compute, {9, 9001, {20}}, kOrdinary, false);
      check_products(machine, compute, {3, 18, {4500, 1701}}, kOrdinary, false);
      check_products(machine, compute, {2300, 10, {18}}, kOrdinary, true);
    }
  }
}

TEST(Products, TablesAndVectorsAreRoundedCopies) {
  set_float_mode();
  const Machine machine(Isa::kPortable, 2);
  const Matrix master(DType::kF32, 13, 21, kAnything, 5);
  ASSERT_EQ(prepared_bytes(Use::kTable, DType::kF32, 13, 21), 0);
  const Matrix copy(DType::kBf16, 13, 21);
  ASSERT_EQ(prepared_bytes(Use::kVector, DType::kBf16, 13, 21), 13 * 21 * 2);
  run(machine.context(), Prepare{copy.view(), master.view(), Use::kVector});
  for (int64_t i = 0; i < master.view().size(); ++i)
    ASSERT_EQ(copy.view().as<uint16_t>()[i], float_to_bf16(master.view().as<float>()[i]));
}

}  // namespace
}  // namespace naite::kernels::cpu
