// SPDX-License-Identifier: Apache-2.0
// The one table that drives every operation: each row runs an operation forward and backward on
// buffers that a Bench hands out. From one row follow: the gradient against central differences in
// double, the bits of every backend, instruction set and thread count against the reference, both
// ways of writing a gradient, and coverage (an operation that no row calls fails the test).
#include "kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>
#include <sstream>
#include <vector>

#include "kernels/bench_testing.h"
#include "kernels/observed.h"

namespace naite::kernels {
namespace {

constexpr double kStep = 1e-5;  // of the central differences

struct Row {
  std::string name;
  std::function<void(Bench&)> run;
  bool has_gradients = true;
};

// --- the rows ------------------------------------------------------------------------------------

void linear_row(Bench& b, int64_t tokens, int64_t in, const std::vector<int64_t>& outs,
                bool with_bias, bool wide_output) {
  const View x = b.activation(tokens, in);
  std::vector<Projection> parts, gradients;
  std::vector<Bench::Parameter> weights, biases;
  for (int64_t out : outs) {
    weights.push_back(b.parameter(Use::kMatrix, out, in));
    biases.push_back(with_bias ? b.parameter(Use::kVector, 1, out) : Bench::Parameter{});
    const View y = wide_output ? b.wide_output(tokens, out) : b.output(tokens, out);
    parts.push_back({y, weights.back().prepared, biases.back().prepared});
  }
  b.run(Linear{parts, x});
  if (wide_output && b.compute == DType::kBf16) return;  // an fp32 output has no bf16 backward
  for (const Projection& part : parts) gradients.push_back({b.seed(part.y), part.w, {}});
  b.run(LinearBackwardInput{b.gradient(x), gradients});
  for (size_t i = 0; i < parts.size(); ++i) {
    b.run(LinearBackwardWeight{b.gradient(weights[i].master), gradients[i].y, x});
    if (with_bias) b.run(ColumnSum{b.gradient(biases[i].master), gradients[i].y});
  }
}

void embed_row(Bench& b, int64_t vocabulary, int64_t width, std::vector<int32_t> ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  const View id_view = b.integers(ids);
  const Bench::Parameter table = b.parameter(Use::kTable, vocabulary, width);
  const View y = b.wide_output(tokens, width);
  b.run(Embed{y, id_view, table.prepared});
  b.run(EmbedBackward{b.gradient(table.master), b.seed(y), id_view});
}

void norm_row(Bench& b, int64_t tokens, int64_t cols, int64_t heads, bool with_delta,
              double scale = 1) {
  const NormArguments arguments{1e-5, heads, scale};
  const View x = with_delta || heads == 1 ? b.wide_input(tokens, cols) : b.activation(tokens, cols);
  const View delta = with_delta ? b.activation(tokens, cols) : View{};
  const Bench::Parameter w = b.parameter(Use::kVector, 1, cols / heads);
  const View y = b.output(tokens, cols), rstd = b.wide_output(tokens, heads);
  const View sum = with_delta ? b.wide_output(tokens, cols) : View{};
  b.run(RmsNorm{y, rstd, sum, x, delta, w.prepared, arguments});
  const View dy = b.seed(y), dsum = with_delta ? b.seed(sum) : View{};
  b.run(RmsNormBackward{b.gradient(x), with_delta ? b.gradient(delta) : Gradient{},
                        b.gradient(w.master), dy, dsum, with_delta ? sum : x, rstd, w.prepared,
                        arguments});
}

std::vector<int32_t> mixed_positions(int64_t tokens) {
  std::vector<int32_t> positions(tokens);
  for (int64_t t = 0; t < tokens; ++t) positions[t] = static_cast<int32_t>((t * 7) % (tokens + 3));
  return positions;
}

void rope_row(Bench& b, int64_t tokens, RopeArguments arguments) {
  const View x = b.activation(tokens, arguments.num_heads * arguments.head_dim);
  const View table = b.wide_input(tokens + 3, arguments.rotary_dim);
  const View position_view = b.integers(mixed_positions(tokens));
  const View y = b.output(x.rows, x.cols);
  b.run(Rope{y, x, position_view, table, arguments});
  b.run(RopeBackward{b.gradient(x), b.seed(y), position_view, table, arguments});
}

// Heads sorted into two outputs, whose gradients together make that of x.
void rope_parted_row(Bench& b, int64_t tokens, RopeArguments first, RopeArguments second) {
  const View x = b.activation(tokens, first.num_heads * first.head_dim);
  const View table = b.wide_input(tokens + 3, first.rotary_dim);
  const View positions = b.integers(mixed_positions(tokens));
  const Gradient dx = b.gradient(x);
  for (const RopeArguments& part : {first, second}) {
    const View y = b.output(tokens, part.num_picked() * part.head_dim);
    b.run(Rope{y, x, positions, table, part});
    b.run(RopeBackward{dx, b.seed(y), positions, table, part});
  }
}

std::vector<int32_t> training_spans(const std::vector<int64_t>& documents) {
  std::vector<int32_t> spans;
  int32_t begin = 0;
  for (int64_t length : documents) {
    for (int64_t i = 0; i < length; ++i) {
      spans.push_back(begin);
      spans.push_back(begin + static_cast<int32_t>(i) + 1);
    }
    begin += static_cast<int32_t>(length);
  }
  return spans;
}

AttentionArguments heads(int64_t query, int64_t key, int64_t width, int64_t value, int64_t window) {
  return {query, key, width, value, 1.0 / std::sqrt(static_cast<double>(width)), window};
}

void attention_row(Bench& b, const std::vector<int64_t>& documents, AttentionArguments a) {
  const std::vector<int32_t> spans = training_spans(documents);
  const auto tokens = static_cast<int64_t>(spans.size() / 2);
  const View span_view = b.integers(spans, 2);
  const View q = b.activation(tokens, a.num_heads * a.head_dim);
  const View k = b.activation(tokens, a.num_kv_heads * a.head_dim);
  const View v = b.activation(tokens, a.num_kv_heads * a.value_dim);
  const View y = b.output(tokens, a.num_heads * a.value_dim);
  const View lse = b.wide_output(tokens, a.num_heads);
  const View peaks = b.wide_output(tokens, a.num_heads);
  b.run(Attention{y, lse, peaks, q, k, v, span_view, a});
  b.run(ColumnMax{b.wide_output(1, a.num_heads), peaks});
  b.run(AttentionBackward{b.gradient(q), b.gradient(k), b.gradient(v), b.seed(y), y, lse, q, k, v,
                          span_view, a});
}

// A few queries against a cache that holds several sequences.
void cached_attention_row(Bench& b, int64_t capacity, const std::vector<int32_t>& spans,
                          AttentionArguments a) {
  const auto tokens = static_cast<int64_t>(spans.size() / 2);
  const View q = b.activation(tokens, a.num_heads * a.head_dim);
  const View fresh = b.activation(tokens, a.num_kv_heads * a.head_dim);
  const View k = b.activation(capacity, a.num_kv_heads * a.head_dim);
  const View v = b.activation(capacity, a.num_kv_heads * a.value_dim);
  std::vector<int32_t> slots;
  for (int64_t t = 0; t < tokens; ++t) slots.push_back(spans[2 * t + 1] - 1);
  b.run(StoreRows{k, fresh, b.integers(slots)});
  const View y = b.output(tokens, a.num_heads * a.value_dim);
  const View lse = b.wide_output(tokens, a.num_heads);
  a.cached = true;
  b.run(Attention{y, lse, {}, q, k, v, b.integers(spans, 2), a});
}

template <class Forward, class Backward, int64_t tokens, int64_t width>
void gated_row(Bench& b) {
  const View gate = b.activation(tokens, width, 6), up = b.activation(tokens, width);
  const View y = b.output(tokens, width);
  b.run(Forward{{y, gate, up}});
  b.run(Backward{{b.gradient(gate), b.gradient(up), b.seed(y), gate, up}});
}

void poly_norm_row(Bench& b, int64_t tokens, int64_t width) {
  const View gate = b.activation(tokens, width, 3), up = b.activation(tokens, width);
  const Bench::Parameter w = b.parameter(Use::kVector, 1, 3);
  const Bench::Parameter bias = b.parameter(Use::kVector, 1, 1);
  const View y = b.output(tokens, width), rstd = b.wide_output(tokens, 3);
  b.run(PolyNormGated{y, rstd, gate, up, w.prepared, bias.prepared, 1e-6});
  b.run(PolyNormGatedBackward{b.gradient(gate), b.gradient(up), b.gradient(w.master),
                              b.gradient(bias.master), b.seed(y), rstd, gate, up, w.prepared,
                              bias.prepared});
}

void differential_lambda_row(Bench& b, int64_t width) {
  std::vector<Bench::Parameter> p;
  for (int i = 0; i < 4; ++i) p.push_back(b.parameter(Use::kVector, 1, width, 0.5));
  const LambdaVectors vectors{p[0].prepared, p[1].prepared, p[2].prepared, p[3].prepared};
  const View lambda = b.wide_output(1, 1);
  b.run(DifferentialLambda{lambda, vectors, 0.355509});
  const View dlambda = b.seed(lambda);
  const Gradient q1 = b.gradient(p[0].master), k1 = b.gradient(p[1].master);
  const Gradient q2 = b.gradient(p[2].master), k2 = b.gradient(p[3].master);
  b.run(DifferentialLambdaBackward{{q1, k1, q2, k2}, dlambda, vectors});
}

void subtract_shared_row(Bench& b, int64_t tokens, int64_t shared_heads, int64_t group,
                         int64_t head_dim) {
  const View x = b.activation(tokens, shared_heads * group * head_dim);
  const View shared = b.activation(tokens, shared_heads * head_dim);
  const View factor = b.wide_input(1, 1);
  const View y = b.output(tokens, x.cols);
  b.run(SubtractShared{y, x, shared, factor, head_dim});
  b.run(SubtractSharedBackward{b.gradient(x), b.gradient(shared), b.gradient(factor), b.seed(y),
                               shared, factor, head_dim});
}

void loss_row(Bench& b, int64_t tokens, int64_t width, int64_t vocabulary) {
  const View x = b.activation(tokens, width);
  const Bench::Parameter w = b.parameter(Use::kMatrix, vocabulary, width);
  std::vector<int32_t> targets(tokens);
  for (int64_t t = 0; t < tokens; ++t)
    targets[t] = t % 5 == 3 ? -1 : static_cast<int32_t>((t * 31) % vocabulary);
  const View target_view = b.integers(targets), weights = b.wide_input(tokens, 1);
  const View evaluated = b.wide_output(tokens, 1), loss = b.wide_output(tokens, 1);
  b.run(LinearCrossEntropy{evaluated, x, w.prepared, target_view});
  b.run(LinearCrossEntropyBackward{loss, b.gradient(x), b.gradient(w.master), x, w.prepared,
                                   target_view, weights});
  b.weighted_loss(loss, weights);
}

void update_row(Bench& b, int64_t rows, int64_t cols) {
  const View parameter = b.wide_output(rows, cols), m = b.wide_output(rows, cols);
  const View v = b.wide_output(rows, cols), total = b.wide_output(rows, cols);
  const View gradient = b.wide_input(rows, cols), other = b.wide_input(rows, cols);
  b.run(Add{{total, gradient, other}});
  b.run(Zero{m});
  b.run(Add{{parameter, gradient, m}});
  b.run(Add{{v, m, m}});
  AdamWArguments a{0.7f, 0.9f, 0.1f, 0.95f, 0.05f, 10.0f, 20.0f, 1e-8f, 1e-3f, 0.9999f};
  b.run(AdamW{parameter, total, m, v, a});
  a.inverse_correction1 = 5.2f;
  b.run(AdamW{parameter, gradient, m, v, a});
  b.run(Add{{m, m, v}});  // in place
  b.run(Scale{v, v, 0.3f});
  b.run(Maximum{{total, total, other}});
  b.run(Copy{b.wide_output(rows, cols), v});
  b.run(SumSquares{b.wide_output(1, 1), parameter});
}

// One number to join, and every shape of tree up to a few levels.
void tree_sum_row(Bench& b) {
  for (const int64_t count : {1, 2, 3, 5, 6, 7, 8, 13, 100})
    b.run(TreeSum{b.wide_output(1, 1), b.wide_input(1, count)});
}

void muon_row(Bench& b, int64_t rows, int64_t cols) {
  const View parameter = b.wide_output(rows, cols), m = b.wide_output(rows, cols);
  const View gradient = b.wide_input(rows, cols), other = b.wide_input(rows, cols);
  b.run(Zero{m});
  b.run(Add{{parameter, gradient, other}});
  const MuonArguments a{0.7f, 0.95f, 0.02f, 0.999f};
  b.run(Muon{parameter, gradient, m, a});
  b.run(Muon{parameter, other, m, a});
}

const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
      {"linear", [](Bench& b) { linear_row(b, 6, 5, {4}, false, false); }},
      {"linear odd",
       [](Bench& b) {
         linear_row(b, 19, 37, {21, 50}, true, false);
       }},
      {"linear wide",
       [](Bench& b) {
         linear_row(b, 34, 64, {96, 32, 32}, false, true);
       }},
      {"linear one token", [](Bench& b) { linear_row(b, 1, 40, {70}, true, false); }},
      {"embed",
       [](Bench& b) {
         embed_row(b, 11, 20, {3, 0, 10, 3, 3, 7, 0, 9});
       }},
      {"norm", [](Bench& b) { norm_row(b, 5, 24, 1, false); }},
      {"norm with add", [](Bench& b) { norm_row(b, 131, 20, 1, true); }},
      {"norm of heads", [](Bench& b) { norm_row(b, 70, 36, 3, false); }},
      {"rope",
       [](Bench& b) {
         rope_row(b, 9, {3, 8, 8});
       }},
      {"rope of a part",
       [](Bench& b) {
         rope_row(b, 6, {2, 20, 12});
       }},
      {"norm of heads, scaled", [](Bench& b) { norm_row(b, 70, 36, 3, false, 0.355509); }},
      {"rope of parts",
       [](Bench& b) {
         rope_parted_row(b, 7, {10, 8, 8, 5, 0, 4}, {10, 8, 8, 5, 4, 1});
       }},
      {"attention", [](Bench& b) { attention_row(b, {13}, heads(2, 2, 8, 8, 0)); }},
      {"attention documents",
       [](Bench& b) {
         attention_row(b, {5, 1, 8, 3}, heads(4, 2, 8, 12, 0));
       }},
      {"attention window",
       [](Bench& b) {
         attention_row(b, {9, 12}, heads(6, 2, 6, 4, 4));
       }},
      {"attention cached",
       [](Bench& b) {
         cached_attention_row(b, 40, {0, 9, 10, 11, 21, 40, 20, 33}, heads(4, 2, 8, 8, 0));
       },
       false},
      {"gated", gated_row<Gated, GatedBackward, 7, 33>},
      {"gelu gated", gated_row<GeluGated, GeluGatedBackward, 7, 33>},
      {"poly norm", [](Bench& b) { poly_norm_row(b, 7, 33); }},
      {"poly norm of many tokens", [](Bench& b) { poly_norm_row(b, 131, 5); }},
      {"differential lambda", [](Bench& b) { differential_lambda_row(b, 21); }},
      {"subtract shared", [](Bench& b) { subtract_shared_row(b, 7, 2, 3, 12); }},
      {"subtract one to one", [](Bench& b) { subtract_shared_row(b, 130, 3, 1, 5); }},
      {"loss", [](Bench& b) { loss_row(b, 11, 12, 19); }},
      {"update", [](Bench& b) { update_row(b, 5, 37); }, false},
      {"tree sum", tree_sum_row, false},
      {"muon wide", [](Bench& b) { muon_row(b, 7, 19); }, false},
      {"muon tall", [](Bench& b) { muon_row(b, 33, 12); }, false},
  };
  return rows;
}

// Larger shapes, for bits only: more than one block, tile and thread of every kernel.
const std::vector<Row>& large_table() {
  static const std::vector<Row> rows = {
      {"linear large",
       [](Bench& b) {
         linear_row(b, 70, 130, {144, 48}, false, false);
       }},
      {"linear deep", [](Bench& b) { linear_row(b, 10, 1100, {40}, false, false); }},
      {"embed large",
       [](Bench& b) {
         std::vector<int32_t> ids(200);
         for (int i = 0; i < 200; ++i) ids[i] = (i * i) % 23;
         embed_row(b, 40, 48, ids);
       }},
      {"norm large", [](Bench& b) { norm_row(b, 200, 4200, 1, true); }},
      {"attention large",
       [](Bench& b) {
         attention_row(b, {70, 33, 90}, heads(4, 2, 64, 64, 0));
       }},
      {"attention wide values", [](Bench& b) { attention_row(b, {140}, heads(2, 1, 32, 64, 50)); }},
      {"attention cached long",
       [](Bench& b) {
         cached_attention_row(b, 600, {0, 300, 300, 599, 1, 77}, heads(4, 2, 64, 64, 128));
       },
       false},
      {"loss large", [](Bench& b) { loss_row(b, 300, 40, 300); }},
      {"gated large", gated_row<Gated, GatedBackward, 65, 1030>},
      {"poly norm large", [](Bench& b) { poly_norm_row(b, 67, 9000); }},
      {"subtract shared large", [](Bench& b) { subtract_shared_row(b, 140, 3, 4, 160); }},
      {"muon large", [](Bench& b) { muon_row(b, 100, 230); }, false},
      {"update large", [](Bench& b) { update_row(b, 130, 141); }, false},
  };
  return rows;
}

// --- what follows from every row -----------------------------------------------------------------

std::vector<Row> rows_with_gradients() {
  std::vector<Row> rows = table();
  std::erase_if(rows, [](const Row& row) { return !row.has_gradients; });
  return rows;
}

class EveryRow : public testing::TestWithParam<Row> {};
class EveryRowWithGradients : public testing::TestWithParam<Row> {};

TEST_P(EveryRowWithGradients, GradientIsTheDerivative) {
  set_float_mode();
  // The arithmetic of most pieces; in another the same formulas have fewer.
  const std::unique_ptr<Kernels> kernels = make_reference(DType::kF64, kChain8);
  for (const bool accumulate : {false, true}) {
    Bench bench(*kernels, DType::kF64, accumulate);
    GetParam().run(bench);
    ASSERT_FALSE(bench.gradients().empty());
    for (const Bench::Differentiated& d : bench.gradients()) {
      const std::vector<double> gradient = bench.read(d.gradient);
      const int index = bench.input_index(d.of);
      ASSERT_GE(index, 0);
      for (int64_t i = 0; i < d.of.size(); i += 1 + d.of.size() / 40) {
        double loss[2];
        for (const int side : {0, 1}) {
          Bench moved(*kernels, DType::kF64, false);
          moved.perturb(index, i, side == 0 ? kStep : -kStep);
          GetParam().run(moved);
          loss[side] = moved.loss();
        }
        const double expected = d.before[i] + (loss[0] - loss[1]) / (2 * kStep);
        EXPECT_NEAR(gradient[i], expected, 1e-6 * (1 + std::abs(expected)))
            << "input " << index << " element " << i;
      }
    }
  }
}

using Bits = std::vector<std::string>;

Bits run_bits(const Row& row, Kernels& kernels, DType compute, bool accumulate) {
  Bench bench(kernels, compute, accumulate);
  row.run(bench);
  return bench.bits();
}

TEST_P(EveryRow, BitsAreThoseOfTheReference) {
  set_float_mode();
  const std::unique_ptr<Kernels> reference = make_reference(DType::kF32);
  Bench bench(*reference, DType::kF32, false);
  GetParam().run(bench);
  EXPECT_EQ(bench.gradients().empty(), !GetParam().has_gradients);
  std::istringstream names{std::string(cpu_isa_names())};
  for (std::string isa; names >> isa;) {
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Result<std::unique_ptr<Kernels>> cpu = make_cpu(pool, isa);
      ASSERT_TRUE(cpu.ok()) << cpu.error().message;
      for (const DType compute : {DType::kF32, DType::kBf16}) {
        for (const bool accumulate : {false, true}) {
          const Bits expected = run_bits(GetParam(), *reference, compute, accumulate);
          const Bits found = run_bits(GetParam(), **cpu, compute, accumulate);
          ASSERT_EQ(expected.size(), found.size());
          for (size_t i = 0; i < expected.size(); ++i)
            EXPECT_TRUE(expected[i] == found[i])
                << "result " << i << ", " << isa << ", " << threads << " threads, "
                << dtype_name(compute) << (accumulate ? ", accumulating" : "");
        }
      }
    }
  }
}

std::string row_name(const testing::TestParamInfo<Row>& info) {
  std::string name = info.param.name;
  for (char& c : name)
    if (c == ' ' || c == ',') c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Table, EveryRow, testing::ValuesIn(table()), row_name);
INSTANTIATE_TEST_SUITE_P(Table, EveryRowWithGradients, testing::ValuesIn(rows_with_gradients()),
                         row_name);

class EveryLargeRow : public testing::TestWithParam<Row> {};
// The large rows share the comparison of bits; their gradients are the small rows' gradients.
TEST_P(EveryLargeRow, BitsAreThoseOfTheReference) {
  set_float_mode();
  const std::unique_ptr<Kernels> reference = make_reference(DType::kF32);
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    const Bits expected = run_bits(GetParam(), *reference, compute, false);
    std::istringstream names{std::string(cpu_isa_names())};
    for (std::string isa; names >> isa;) {
      ThreadPool pool(2);
      Result<std::unique_ptr<Kernels>> cpu = make_cpu(pool, isa);
      ASSERT_TRUE(cpu.ok()) << cpu.error().message;
      const Bits found = run_bits(GetParam(), **cpu, compute, false);
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(expected[i] == found[i])
            << "result " << i << ", " << isa << ", " << dtype_name(compute);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Large, EveryLargeRow, testing::ValuesIn(large_table()), row_name);

TEST(Coverage, EveryOperationHasARow) {
  set_float_mode();
  const std::unique_ptr<Kernels> reference = make_reference(DType::kF32);
  std::set<std::string_view> called;
  ObservedKernels observed(*reference,
                           [&](const OperationCall& call) { called.insert(call.name); });
  for (const Row& row : table()) run_bits(row, observed, DType::kBf16, false);
  for (const std::string_view operation : Operations::kNames)
    EXPECT_TRUE(called.contains(operation)) << operation << " has no row in the table";
}

}  // namespace
}  // namespace naite::kernels
