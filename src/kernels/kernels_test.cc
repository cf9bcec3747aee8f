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
    k.prepare(prepared.data, use, compute, master);
    return {master, prepared};
  }
  View integers(const std::vector<int32_t>& values, int64_t cols = 1) {
    const auto count = static_cast<int64_t>(values.size());
    const View view{take(count * 4), DType::kI32, count / cols, cols};
    k.upload(view.data, values.data(), count * 4);
    return view;
  }
  View scalar(double value) {
    const View view{take(dtype_bytes(wide)), wide, 1, 1};
    fill(view, {value});
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
  // The loss is sum(factor y) for outputs whose backward takes no gradient.
  void scaled_loss(const View& y, double factor) { scaled_.push_back({y, factor}); }

  Gradient gradient(const View& of) {
    const View view = result(of.rows, of.cols, of.dtype);
    std::vector<double> before(of.size(), 0.0);
    for (int64_t i = 0; accumulate_ && i < of.size(); ++i)
      before[i] = random_unit(11, Purpose::kInitialTensor, i, gradients_.size());
    if (accumulate_) fill(view, before);
    gradients_.push_back({of, view, before});
    return {view, true, accumulate_};
  }
  Workspace workspace(int64_t bytes) {
    return {static_cast<std::byte*>(take(bytes)), static_cast<size_t>(bytes)};
  }

  // --- after the run -----------------------------------------------------------------------------
  double loss() const {
    double total = 0;
    for (const auto& [y, dy] : seeds_) {
      const std::vector<double> a = read(y), b = read(dy);
      for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
    }
    for (const auto& [y, factor] : scaled_)
      for (double value : read(y)) total += factor * value;
    return total;
  }
  std::vector<std::string> bits() const {
    std::vector<std::string> out;
    for (const View& view : results_) {
      out.emplace_back(view.bytes(), '\0');
      k.download(out.back().data(), view.data, view.bytes());
    }
    return out;
  }
  std::vector<double> read(const View& view) const {
    std::string bytes(view.bytes(), '\0');
    k.download(bytes.data(), view.data, view.bytes());
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
    k.upload(view.data, bytes.data(), view.bytes());
  }

  const bool accumulate_;
  uint32_t num_random_ = 0;
  int perturbed_ = -1;
  int64_t perturbed_element_ = 0;
  double perturbed_by_ = 0;
  std::vector<std::pair<void*, int64_t>> allocated_;
  std::vector<View> inputs_, results_;
  std::vector<std::pair<View, View>> seeds_;
  std::vector<std::pair<View, double>> scaled_;
  std::vector<Differentiated> gradients_;
};

struct Row {
  std::string name;
  std::function<void(Bench&)> run;
};

// --- the rows ------------------------------------------------------------------------------------

void linear_row(Bench& b, int64_t tokens, int64_t in, const std::vector<int64_t>& outs,
                bool with_bias, bool wide_output) {
  const View x = b.activation(tokens, in);
  int64_t total_out = 0;
  for (int64_t out : outs) total_out += out;
  const Workspace workspace = b.workspace(b.k.linear_workspace(b.compute, tokens, in, total_out));
  std::vector<Projection> parts, gradients;
  std::vector<Bench::Parameter> weights, biases;
  for (int64_t out : outs) {
    weights.push_back(b.parameter(Use::kMatrix, out, in));
    biases.push_back(with_bias ? b.parameter(Use::kVector, 1, out) : Bench::Parameter{});
    const View y = wide_output ? b.wide_output(tokens, out) : b.output(tokens, out);
    parts.push_back({y, weights.back().prepared, biases.back().prepared});
  }
  b.k.linear(parts, x, workspace);
  if (wide_output && b.compute == DType::kBf16) return;  // an fp32 output has no bf16 backward
  for (const Projection& part : parts) gradients.push_back({b.seed(part.y), part.w, {}});
  b.k.linear_backward_input(b.gradient(x), gradients, workspace);
  for (size_t i = 0; i < parts.size(); ++i) {
    b.k.linear_backward_weight(b.gradient(weights[i].master), gradients[i].y, x, workspace);
    if (with_bias) b.k.column_sum(b.gradient(biases[i].master), gradients[i].y, workspace);
  }
}

void embed_row(Bench& b, int64_t vocabulary, int64_t width, std::vector<int32_t> ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  const View id_view = b.integers(ids);
  const Bench::Parameter table = b.parameter(Use::kTable, vocabulary, width);
  const View y = b.wide_output(tokens, width);
  b.k.embed(y, id_view, table.prepared);
  b.k.embed_backward(b.gradient(table.master), b.seed(y), id_view,
                     b.workspace(b.k.embed_workspace(tokens, vocabulary)));
}

void norm_row(Bench& b, int64_t tokens, int64_t cols, int64_t heads, bool with_delta,
              double scale = 1) {
  const NormArguments arguments{1e-5, heads, scale};
  const View x = with_delta || heads == 1 ? b.wide_input(tokens, cols) : b.activation(tokens, cols);
  const View delta = with_delta ? b.activation(tokens, cols) : View{};
  const Bench::Parameter w = b.parameter(Use::kVector, 1, cols / heads);
  const View y = b.output(tokens, cols), rstd = b.wide_output(tokens, heads);
  const View sum = with_delta ? b.wide_output(tokens, cols) : View{};
  b.k.rms_norm(y, rstd, sum, x, delta, w.prepared, arguments);
  const View dy = b.seed(y), dsum = with_delta ? b.seed(sum) : View{};
  const Workspace workspace = b.workspace(b.k.rms_norm_workspace(tokens, cols));
  b.k.rms_norm_backward(b.gradient(x), with_delta ? b.gradient(delta) : Gradient{},
                        b.gradient(w.master), dy, dsum, with_delta ? sum : x, rstd, w.prepared,
                        arguments, workspace);
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
  b.k.rope(y, x, position_view, table, arguments);
  b.k.rope_backward(b.gradient(x), b.seed(y), position_view, table, arguments);
}

// Heads sorted into two outputs, whose gradients together make that of x.
void rope_parted_row(Bench& b, int64_t tokens, RopeArguments first, RopeArguments second) {
  const View x = b.activation(tokens, first.num_heads * first.head_dim);
  const View table = b.wide_input(tokens + 3, first.rotary_dim);
  const View positions = b.integers(mixed_positions(tokens));
  const Gradient dx = b.gradient(x);
  for (const RopeArguments& part : {first, second}) {
    const View y = b.output(tokens, part.num_picked() * part.head_dim);
    b.k.rope(y, x, positions, table, part);
    b.k.rope_backward(dx, b.seed(y), positions, table, part);
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
  const Workspace workspace = b.workspace(b.k.attention_workspace(b.compute, tokens, tokens, a));
  const View peaks = b.wide_output(tokens, a.num_heads);
  b.k.attention(y, lse, peaks, q, k, v, span_view, a, workspace);
  b.k.column_max(b.wide_output(1, a.num_heads), peaks);
  b.k.attention_backward(b.gradient(q), b.gradient(k), b.gradient(v), b.seed(y), y, lse, q, k, v,
                         span_view, a, workspace);
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
  b.k.store_rows(k, fresh, b.integers(slots));
  const View y = b.output(tokens, a.num_heads * a.value_dim);
  const View lse = b.wide_output(tokens, a.num_heads);
  b.k.attention(y, lse, {}, q, k, v, b.integers(spans, 2), a,
                b.workspace(b.k.attention_workspace(b.compute, tokens, capacity, a)));
}

void gated_row(Bench& b, int64_t tokens, int64_t width) {
  const View gate = b.activation(tokens, width, 6), up = b.activation(tokens, width);
  const View y = b.output(tokens, width);
  b.k.gated(y, gate, up, Activation::kSilu);
  b.k.gated_backward(b.gradient(gate), b.gradient(up), b.seed(y), gate, up, Activation::kSilu);
}

void poly_norm_row(Bench& b, int64_t tokens, int64_t width) {
  const View gate = b.activation(tokens, width, 3), up = b.activation(tokens, width);
  const Bench::Parameter w = b.parameter(Use::kVector, 1, 3);
  const Bench::Parameter bias = b.parameter(Use::kVector, 1, 1);
  const View y = b.output(tokens, width), rstd = b.wide_output(tokens, 3);
  b.k.poly_norm_gated(y, rstd, gate, up, w.prepared, bias.prepared, 1e-6);
  b.k.poly_norm_gated_backward(b.gradient(gate), b.gradient(up), b.gradient(w.master),
                               b.gradient(bias.master), b.seed(y), rstd, gate, up, w.prepared,
                               bias.prepared, b.workspace(b.k.poly_norm_gated_workspace(tokens)));
}

void differential_lambda_row(Bench& b, int64_t width) {
  std::vector<Bench::Parameter> p;
  for (int i = 0; i < 4; ++i) p.push_back(b.parameter(Use::kVector, 1, width, 0.5));
  const LambdaVectors vectors{p[0].prepared, p[1].prepared, p[2].prepared, p[3].prepared};
  const View lambda = b.wide_output(1, 1);
  b.k.differential_lambda(lambda, vectors, 0.355509);
  const View dlambda = b.seed(lambda);
  const Gradient q1 = b.gradient(p[0].master), k1 = b.gradient(p[1].master);
  const Gradient q2 = b.gradient(p[2].master), k2 = b.gradient(p[3].master);
  b.k.differential_lambda_backward({q1, k1, q2, k2}, dlambda, vectors);
}

void subtract_shared_row(Bench& b, int64_t tokens, int64_t shared_heads, int64_t group,
                         int64_t head_dim) {
  const View x = b.activation(tokens, shared_heads * group * head_dim);
  const View shared = b.activation(tokens, shared_heads * head_dim);
  const View factor = b.wide_input(1, 1);
  const View y = b.output(tokens, x.cols);
  b.k.subtract_shared(y, x, shared, factor, head_dim);
  b.k.subtract_shared_backward(b.gradient(x), b.gradient(shared), b.gradient(factor), b.seed(y),
                               shared, factor, head_dim,
                               b.workspace(b.k.subtract_shared_workspace(tokens)));
}

void loss_row(Bench& b, int64_t tokens, int64_t width, int64_t vocabulary) {
  const View x = b.activation(tokens, width);
  const Bench::Parameter w = b.parameter(Use::kMatrix, vocabulary, width);
  std::vector<int32_t> targets(tokens);
  for (int64_t t = 0; t < tokens; ++t)
    targets[t] = t % 5 == 3 ? -1 : static_cast<int32_t>((t * 31) % vocabulary);
  const View target_view = b.integers(targets);
  const View evaluated = b.wide_output(tokens, 1), loss = b.wide_output(tokens, 1);
  b.k.linear_cross_entropy(
      evaluated, x, w.prepared, target_view,
      b.workspace(b.k.linear_cross_entropy_workspace(b.compute, tokens, width, vocabulary, false)));
  b.k.linear_cross_entropy_backward(
      loss, b.gradient(x), b.gradient(w.master), x, w.prepared, target_view, b.scalar(0.25),
      b.workspace(b.k.linear_cross_entropy_workspace(b.compute, tokens, width, vocabulary, true)));
  b.scaled_loss(loss, 0.25);
}

void update_row(Bench& b, int64_t rows, int64_t cols) {
  const View parameter = b.wide_output(rows, cols), m = b.wide_output(rows, cols);
  const View v = b.wide_output(rows, cols), total = b.wide_output(rows, cols);
  const View gradient = b.wide_input(rows, cols), other = b.wide_input(rows, cols);
  b.k.add(total, gradient, other);
  b.k.zero(m);
  b.k.add(parameter, gradient, m);
  b.k.add(v, m, m);
  AdamWArguments a{0.7f, 0.9f, 0.1f, 0.95f, 0.05f, 10.0f, 20.0f, 1e-8f, 1e-3f, 0.9999f};
  b.k.adamw(parameter, total, m, v, a);
  a.inverse_correction1 = 5.2f;
  b.k.adamw(parameter, gradient, m, v, a);
  b.k.add(m, m, v);  // in place
  b.k.scale(v, v, 0.3f);
  const View norm = b.wide_output(1, 1);
  const double squares = b.k.sum_squares(parameter);
  const float squares32 = static_cast<float>(squares);
  if (norm.dtype == DType::kF32) b.k.upload(norm.data, &squares32, 4);
}

void muon_row(Bench& b, int64_t rows, int64_t cols) {
  const View parameter = b.wide_output(rows, cols), m = b.wide_output(rows, cols);
  const View gradient = b.wide_input(rows, cols), other = b.wide_input(rows, cols);
  b.k.zero(m);
  b.k.add(parameter, gradient, other);
  const Workspace workspace = b.workspace(b.k.muon_workspace(rows, cols));
  const MuonArguments a{0.7f, 0.95f, 0.02f, 0.999f};
  b.k.muon(parameter, gradient, m, a, workspace);
  b.k.muon(parameter, other, m, a, workspace);
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
       }},
      {"gated", [](Bench& b) { gated_row(b, 7, 33); }},
      {"poly norm", [](Bench& b) { poly_norm_row(b, 7, 33); }},
      {"poly norm of many tokens", [](Bench& b) { poly_norm_row(b, 131, 5); }},
      {"differential lambda", [](Bench& b) { differential_lambda_row(b, 21); }},
      {"subtract shared", [](Bench& b) { subtract_shared_row(b, 7, 2, 3, 12); }},
      {"subtract one to one", [](Bench& b) { subtract_shared_row(b, 130, 3, 1, 5); }},
      {"loss", [](Bench& b) { loss_row(b, 11, 12, 19); }},
      {"update", [](Bench& b) { update_row(b, 5, 37); }},
      {"muon wide", [](Bench& b) { muon_row(b, 7, 19); }},
      {"muon tall", [](Bench& b) { muon_row(b, 33, 12); }},
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
       }},
      {"loss large", [](Bench& b) { loss_row(b, 300, 40, 300); }},
      {"gated large", [](Bench& b) { gated_row(b, 65, 1030); }},
      {"poly norm large", [](Bench& b) { poly_norm_row(b, 67, 9000); }},
      {"subtract shared large", [](Bench& b) { subtract_shared_row(b, 140, 3, 4, 160); }},
      {"muon large", [](Bench& b) { muon_row(b, 100, 230); }},
      {"update large", [](Bench& b) { update_row(b, 130, 141); }},
  };
  return rows;
}

// --- what follows from every row -----------------------------------------------------------------

class EveryRow : public testing::TestWithParam<Row> {};

TEST_P(EveryRow, GradientIsTheDerivative) {
  set_float_mode();
  const std::unique_ptr<Kernels> kernels = make_reference(DType::kF64);
  for (const bool accumulate : {false, true}) {
    Bench bench(*kernels, DType::kF64, accumulate);
    GetParam().run(bench);
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
  for (const std::string_view operation : ObservedKernels::operation_names())
    EXPECT_TRUE(called.contains(operation)) << operation << " has no row in the table";
}

}  // namespace
}  // namespace naite::kernels
