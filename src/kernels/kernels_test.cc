// SPDX-License-Identifier: Apache-2.0
// The one table that drives every operation: each row runs an operation forward and backward on
// buffers that a Bench hands out. From one row follow: the gradient against central differences in
// double, the bits of every backend, instruction set and thread count against the reference, both
// ways of writing a gradient, and coverage (an operation that no row calls fails the test).
#include "kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "kernels/check.h"
#include "kernels/observed.h"

namespace naite::kernels {
namespace {

constexpr double kStep = 1e-5;  // of the central differences

// Hands out buffers with reproducible content and remembers what to compare.
class Bench {
 public:
  Bench(Kernels& kernels, DType compute, bool accumulate)
      : k(kernels),
        compute(compute),
        wide(compute == DType::kF64 ? DType::kF64 : DType::kF32),
        accumulate_(accumulate) {}
  ~Bench() {
    for (const auto& [memory, bytes] : allocated_) k.release(memory, bytes);
  }
  Bench(const Bench&) = delete;

  Kernels& k;
  const DType compute, wide;

  // Inputs with random values of about the given size. `wide`: fp32 even when computing in bf16.
  View activation(int64_t rows, int64_t cols, double size = 1) {
    return input(rows, cols, compute, size);
  }
  View wide_input(int64_t rows, int64_t cols, double size = 1) {
    return input(rows, cols, wide, size);
  }
  // A parameter: `master` is what gradients belong to, `prepared` what operations read.
  struct Parameter {
    View master, prepared;
  };
  Parameter parameter(Use use, int64_t rows, int64_t cols, double size = 1) {
    const View master = input(rows, cols, wide, size);
    const int64_t bytes = k.prepared_bytes(use, compute, rows, cols);
    if (bytes == 0) return {master, master};
    const View prepared{take(bytes), compute, rows, cols};
    run(Prepare{prepared, master, use});
    return {master, prepared};
  }
  View integers(const std::vector<int32_t>& values, int64_t cols = 1) {
    const auto count = static_cast<int64_t>(values.size());
    const View view{take(count * 4), DType::kI32, count / cols, cols};
    EXPECT_TRUE(k.upload(view.data, values.data(), count * 4).ok());
    return view;
  }

  // Outputs start poisoned with NaN: what is not written is found.
  View output(int64_t rows, int64_t cols) { return result(rows, cols, compute); }
  View wide_output(int64_t rows, int64_t cols) { return result(rows, cols, wide); }

  // The gradient of a scalar loss, sum(seed y), with respect to the output y.
  View seed(const View& y) {
    const View dy = random(y.rows, y.cols, y.dtype, 1.0);
    seeds_.push_back({y, dy});
    return dy;
  }
  // The loss is sum(weights y) for outputs whose backward takes the weights and no gradient.
  void weighted_loss(const View& y, const View& weights) { seeds_.push_back({y, weights}); }

  Gradient gradient(const View& of) {
    const View view = result(of.rows, of.cols, of.dtype);
    std::vector<double> before(of.size(), 0.0);
    for (int64_t i = 0; accumulate_ && i < of.size(); ++i)
      before[i] = random_unit(11, Purpose::kInitialTensor, i, gradients_.size());
    if (accumulate_) fill(view, before);
    gradients_.push_back({of, view, before});
    return {view, true, accumulate_};
  }
  // Submits the call, with the workspace that it asks for.
  template <class Op>
  void run(Op op) {
    if constexpr (requires { op.workspace; }) {
      const int64_t bytes = k.workspace_bytes(op);
      op.workspace = {static_cast<std::byte*>(take(bytes)), static_cast<size_t>(bytes)};
    }
    const Status checked = check_call(Call::of(op)), status = k.submit(op);
    EXPECT_TRUE(checked.ok()) << checked.error().message;
    EXPECT_TRUE(status.ok()) << status.error().message;
  }

  // --- after the run -----------------------------------------------------------------------------
  double loss() const {
    double total = 0;
    for (const auto& [y, dy] : seeds_) {
      const std::vector<double> a = read(y), b = read(dy);
      for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
    }
    return total;
  }
  std::vector<std::string> bits() const {
    std::vector<std::string> out;
    for (const View& view : results_) {
      out.emplace_back(view.bytes(), '\0');
      EXPECT_TRUE(k.download(out.back().data(), view.data, view.bytes()).ok());
    }
    return out;
  }
  std::vector<double> read(const View& view) const {
    std::string bytes(view.bytes(), '\0');
    EXPECT_TRUE(k.download(bytes.data(), view.data, view.bytes()).ok());
    std::vector<double> out(view.size());
    for (int64_t i = 0; i < view.size(); ++i) {
      if (view.dtype == DType::kF64) std::memcpy(&out[i], &bytes[i * 8], 8);
      if (view.dtype == DType::kF32) out[i] = *reinterpret_cast<const float*>(&bytes[i * 4]);
      if (view.dtype == DType::kBf16)
        out[i] = bf16_to_float(*reinterpret_cast<const uint16_t*>(&bytes[i * 2]));
    }
    return out;
  }
  struct Differentiated {
    View of, gradient;
    std::vector<double> before;
  };
  const std::vector<Differentiated>& gradients() const { return gradients_; }
  int input_index(const View& view) const {
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].data == view.data) return static_cast<int>(i);
    return -1;
  }
  // The next run adds `by` to element `element` of the index-th input.
  void perturb(int index, int64_t element, double by) {
    perturbed_ = index;
    perturbed_element_ = element;
    perturbed_by_ = by;
  }

 private:
  void* take(int64_t bytes) {
    allocated_.push_back({k.allocate(bytes), bytes});
    return allocated_.back().first;
  }
  View random(int64_t rows, int64_t cols, DType dtype, double size) {
    const View view{take(rows * cols * dtype_bytes(dtype)), dtype, rows, cols};
    std::vector<double> values(view.size());
    const uint32_t stream = num_random_++;
    for (int64_t i = 0; i < view.size(); ++i)
      values[i] = size * (2 * random_unit(7, Purpose::kInitialTensor, i, stream) - 1);
    fill(view, values);
    return view;
  }
  View input(int64_t rows, int64_t cols, DType dtype, double size) {
    const View view = random(rows, cols, dtype, size);
    if (perturbed_ == static_cast<int>(inputs_.size())) {
      std::vector<double> values = read(view);
      values[perturbed_element_] += perturbed_by_;
      fill(view, values);
    }
    inputs_.push_back(view);
    return view;
  }
  View result(int64_t rows, int64_t cols, DType dtype) {
    const View view{take(rows * cols * dtype_bytes(dtype)), dtype, rows, cols};
    fill(view, std::vector<double>(view.size(), std::nan("")));
    results_.push_back(view);
    return view;
  }
  void fill(const View& view, const std::vector<double>& values) {
    std::string bytes(view.bytes(), '\0');
    for (int64_t i = 0; i < view.size(); ++i) {
      const float single = static_cast<float>(values[i]);
      const uint16_t half = float_to_bf16(single);
      if (view.dtype == DType::kF64) std::memcpy(&bytes[i * 8], &values[i], 8);
      if (view.dtype == DType::kF32) std::memcpy(&bytes[i * 4], &single, 4);
      if (view.dtype == DType::kBf16) std::memcpy(&bytes[i * 2], &half, 2);
    }
    EXPECT_TRUE(k.upload(view.data, bytes.data(), view.bytes()).ok());
  }

  const bool accumulate_;
  uint32_t num_random_ = 0;
  int perturbed_ = -1;
  int64_t perturbed_element_ = 0;
  double perturbed_by_ = 0;
  std::vector<std::pair<void*, int64_t>> allocated_;
  std::vector<View> inputs_, results_;
  std::vector<std::pair<View, View>> seeds_;
  std::vector<Differentiated> gradients_;
};

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

void gated_row(Bench& b, int64_t tokens, int64_t width) {
  const View gate = b.activation(tokens, width, 6), up = b.activation(tokens, width);
  const View y = b.output(tokens, width);
  b.run(Gated{y, gate, up, Activation::kSilu});
  b.run(GatedBackward{b.gradient(gate), b.gradient(up), b.seed(y), gate, up, Activation::kSilu});
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
  b.run(Add{total, gradient, other});
  b.run(Zero{m});
  b.run(Add{parameter, gradient, m});
  b.run(Add{v, m, m});
  AdamWArguments a{0.7f, 0.9f, 0.1f, 0.95f, 0.05f, 10.0f, 20.0f, 1e-8f, 1e-3f, 0.9999f};
  b.run(AdamW{parameter, total, m, v, a});
  a.inverse_correction1 = 5.2f;
  b.run(AdamW{parameter, gradient, m, v, a});
  b.run(Add{m, m, v});  // in place
  b.run(Scale{v, v, 0.3f});
  b.run(Maximum{total, total, other});
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
  b.run(Add{parameter, gradient, other});
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
      {"gated", [](Bench& b) { gated_row(b, 7, 33); }},
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
      {"gated large", [](Bench& b) { gated_row(b, 65, 1030); }},
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

// --- what a broken call is told ------------------------------------------------------------------

std::string complaint(const Call& call) {
  const Status status = check_call(call);
  return status.ok() ? "" : status.error().message;
}

TEST(Checks, NameTheOperandThatBreaksItsPromise) {
  float numbers[12] = {};
  int32_t ids[3] = {0, 1, 1};
  const View a{numbers, DType::kF32, 1, 4}, b{numbers + 4, DType::kF32, 1, 4};
  const View y{numbers + 8, DType::kF32, 1, 4};
  EXPECT_EQ(complaint(Call::of(Add{y, a, b})), "");
  EXPECT_EQ(complaint(Call::of(Add{a, a, b})), "");  // in place
  EXPECT_EQ(complaint(Call::of(Add{y, a, {}})), "add: b is missing");
  View wrong = y;
  wrong.cols = 3;
  EXPECT_EQ(complaint(Call::of(Add{wrong, a, b})), "add: y is [1, 3] and must be [1, 4]");
  wrong = y;
  wrong.dtype = DType::kBf16;
  EXPECT_EQ(complaint(Call::of(Add{wrong, a, b})),
            "add: y is bf16 in a call that computes in fp32");
  wrong = a;
  wrong.data = numbers + 1;
  EXPECT_EQ(complaint(Call::of(Add{wrong, a, b})), "add: y is written and lies in the memory of a");
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
