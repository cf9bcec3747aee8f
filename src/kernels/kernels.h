// SPDX-License-Identifier: Apache-2.0
#pragma once
// THE closed list of operations on tensor memory. Every backend implements all of them, forward and
// backward; nothing above this folder dereferences tensor memory. reference/ is the slow, obvious
// twin whose bits the others must reproduce; cpu/ is the fast one.
//
// Shape legend, used in the whole project:
//   B rows of a batch   T tokens (here: all tokens of a micro-batch, B rows flattened)
//   D hidden width      H query heads (K of them carry keys and values)
//   E experts           F feed-forward width      V vocabulary
// All views are dense and row-major [rows, cols]; token t is row t.
//
// Order of arithmetic (docs/NUMERICS.md has the whole contract, `arithmetic = "chain-1"`):
//   product   fp32 operands: acc = fma(a[k], b[k], acc), k ascending, one chain per output element.
//             bf16 operands: for every pair (2i, 2i+1) the odd element first, then the even one; an
//             odd count is padded with +0; accumulation in fp32. A chain starts at +0, or at the
//             stored value when a gradient accumulates; a finished chain gets `+ 0.0f`.
//   sum       blocks of 4096 consecutive elements; element i of a block goes to lane i mod 16
//             (fma(a, b, lane) for sums of products); lanes join as i += i+8, +4, +2, +1; blocks
//             join by a binary tree over the block index (neighbours first; an odd one passes
//             through). A finished sum gets `+ 0.0f`.
//   column    a sum over tokens for each column: tokens ascending in blocks of 64 consecutive
//             tokens, every block from +0, blocks joined by the same tree, `+ 0.0f`; when the
//             gradient accumulates, the finished sum is then added to the stored value.
//   max       a > b ? a : b, a being the running value.
//   Values are rounded to a view's dtype when they are stored in it, and only then.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::kernels {

enum class DType : uint8_t {
  kF32,
  kBf16,
  kF64,  // reference backend only: gradients are checked in double
  kI32,
};
int64_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);

struct View {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;

  int64_t size() const { return rows * cols; }
  int64_t bytes() const { return size() * dtype_bytes(dtype); }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Where a gradient goes. Absent (wanted = false) when nobody needs it. The planner decides whether
// it is the first writer (write) or a later one (accumulate), so no buffer is ever cleared.
struct Gradient {
  View view;
  bool wanted = false;
  bool accumulate = false;
};

// How an operation reads a parameter. The optimizer owns the fp32 master; operations read what
// prepare() made of it after the last update.
enum class Use : uint8_t {
  kActivation,  // not a parameter
  kVector,      // norm weights and biases: row-major in the compute dtype
  kTable,       // embedding rows: row-major in the compute dtype
  kMatrix,      // linear weights [out, in]: rounded to the compute dtype, in a private layout
};

using Workspace = std::span<std::byte>;

// One weight of a linear layer that shares its input with others: y = x w' + bias.
struct Projection {
  View y;     // [T, out]; its gradient in the backward functions
  View w;     // [out, in], prepared as kMatrix
  View bias;  // [1, out] prepared as kVector, or absent; added once to the finished chain
};

struct NormArguments {
  double epsilon = 1e-6;
  int64_t heads = 1;  // a row holds `heads` vectors that are normed one by one with the same weight
  double scale = 1;   // factor on the weight
};

struct RopeArguments {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // the first rotary_dim columns of every head turn, half-split pairs
  // Of every `period` neighbouring heads only `picked`, from `first` on, are turned; side by side
  // they make y. One call for each part sorts the heads of grouped differential attention.
  int64_t period = 1, first = 0, picked = 1;
  int64_t num_picked() const { return num_heads / period * picked; }
  int64_t head(int64_t i) const { return i / picked * period + first + i % picked; }
};

struct AttentionArguments {
  int64_t num_heads = 0;      // H
  int64_t num_kv_heads = 0;   // K, divides H; query head h reads key/value head h / (H / K)
  int64_t head_dim = 0;       // width of queries and keys
  int64_t value_dim = 0;      // width of values and of the output, per head
  double scale = 0;           // of the scores, usually 1 / sqrt(head_dim)
  int64_t window = 0;         // a query sees its last `window` keys, itself included; 0: all
};

enum class Activation : uint8_t { kSilu };

// The vectors of lambda = exp(q1 k1) - exp(q2 k2) + initial, [1, d] each, prepared as kVector.
struct LambdaVectors {
  View q1, k1, q2, k2;
};
struct LambdaGradients {
  Gradient q1, k1, q2, k2;
};

struct AdamWArguments {  // Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019
  float gradient_scale = 1;  // global-norm clip
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0;
  float inverse_correction1 = 0, inverse_correction2 = 0;  // 1 / (1 - beta^step)
  float epsilon = 0;
  float learning_rate = 0;
  float decay = 1;  // 1 - learning_rate * weight_decay
};

// Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with the size of
// the step that Liu et al., "Muon is scalable for LLM training", 2025, give it.
struct MuonArguments {
  float gradient_scale = 1;  // global-norm clip
  float momentum = 0;
  float learning_rate = 0;  // of this matrix: 0.2 sqrt(max(rows, cols)) is in it
  float decay = 1;          // 1 - learning rate * weight_decay
};

class Kernels {
 public:
  virtual ~Kernels() = default;
  virtual std::string name() const = 0;  // "reference", "cpu avx512_bf16", ...
  // Flops a second that the machine offers products in `compute` right now, on all threads of the
  // backend; measured in some twenty milliseconds. 0: not known.
  virtual double measure_peak_flops(DType compute) = 0;

  // --- memory ------------------------------------------------------------------------------------
  // Zeroed, aligned to 64 bytes at least. Everything is allocated before the first step.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* memory, int64_t bytes) = 0;
  virtual void upload(void* to, const void* from_host, int64_t bytes) = 0;
  virtual void download(void* to_host, const void* from, int64_t bytes) = 0;
  // What the backend itself holds per instance (thread buffers), for the plan's total.
  virtual int64_t fixed_bytes() const = 0;

  // --- parameters --------------------------------------------------------------------------------
  // Bytes of the prepared copy of a [rows, cols] fp32 master; 0: the master is read in place.
  virtual int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const = 0;
  // Round the master to `compute` and lay it out. Not called when prepared_bytes is 0.
  virtual void prepare(void* prepared, Use use, DType compute, View master) = 0;

  // --- products ----------------------------------------------------------------------------------
  virtual int64_t linear_workspace(DType compute, int64_t tokens, int64_t in,
                                   int64_t out) const = 0;
  // For every part: y = x w' (+ bias). x [T, in] in the compute dtype; y compute dtype or fp32.
  virtual void linear(std::span<const Projection> parts, View x, Workspace workspace) = 0;
  // dx = sum over parts of dy w: ONE chain per element over the outputs of all parts in order,
  // pairs formed within a part (a part with an odd count is padded). Accumulate: the chain starts
  // at the stored value.
  virtual void linear_backward_input(Gradient dx, std::span<const Projection> parts,
                                     Workspace workspace) = 0;
  // dw [out, in] fp32 = dy' x: the chain runs over the tokens, pairs (2i, 2i+1) of the row index.
  // Accumulate: the chain starts at the stored value.
  virtual void linear_backward_weight(Gradient dw, View dy, View x, Workspace workspace) = 0;
  // dbias [1, out] fp32 = column sum of dy.
  virtual void column_sum(Gradient dbias, View dy, Workspace workspace) = 0;

  // --- embedding ---------------------------------------------------------------------------------
  virtual int64_t embed_workspace(int64_t tokens, int64_t vocabulary) const = 0;
  // y [T, D] fp32 = table[ids]; ids [T, 1] int32; table [V, D] prepared as kTable.
  virtual void embed(View y, View ids, View table) = 0;
  // dtable [V, D] fp32: for every id its rows of dy added in ascending position, one chain of
  // additions that starts at the stored value (accumulate) or at +0.
  virtual void embed_backward(Gradient dtable, View dy, View ids, Workspace workspace) = 0;

  // --- RMS norm ----------------------------------------------------------------------------------
  // Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. n = cols / heads,
  // rstd = 1 / sqrt(sum(x x) / n + epsilon), y = (x rstd) (w fp32(scale)). With `delta`, the
  // residual add comes first: sum = x + delta, and sum is normed. x, sum fp32 (or compute dtype
  // when there is no delta); delta, y compute dtype; rstd [T, heads] fp32; w [1, n] prepared as
  // kVector.
  virtual int64_t rms_norm_workspace(int64_t tokens, int64_t cols) const = 0;
  virtual void rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                        NormArguments arguments) = 0;
  // With xhat = x rstd, g = dy (w scale), c = sum(g xhat) / n: norm gradient = rstd (g - xhat c),
  // computed as fma(-c, xhat, g) * rstd. total = dsum + norm gradient (dsum absent: the norm
  // gradient alone). dx and ddelta both receive total (ddelta rounded). dw [1, n] fp32 = column sum
  // of dy xhat by fma(dy, xhat, part), over the rows of [T * heads] in order, times scale. `x` is
  // what was normed (sum, if there was a delta).
  virtual void rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy, View dsum,
                                 View x, View rstd, View w, NormArguments arguments,
                                 Workspace workspace) = 0;

  // --- rotary positions --------------------------------------------------------------------------
  // Su et al., "RoFormer", 2021, in halves as in Llama: for i < rotary_dim / 2, pair (i, i + half):
  //   y1 = fma(x1, cos, -(x2 sin)),  y2 = fma(x2, cos, x1 sin)
  // table [positions, rotary_dim] fp32: cosines of the half, then sines. positions [T, 1] int32.
  // x [T, num_heads * head_dim], y [T, num_picked * head_dim].
  virtual void rope(View y, View x, View positions, View table, RopeArguments arguments) = 0;
  // The inverse turn: sin with the other sign. Writes (or adds to) the picked heads of dx only.
  virtual void rope_backward(Gradient dx, View dy, View positions, View table,
                             RopeArguments arguments) = 0;

  // --- attention ---------------------------------------------------------------------------------
  // q [T, H * head_dim], k [S, K * head_dim], v [S, K * value_dim], y [T, H * value_dim] in the
  // compute dtype; lse [T, H] fp32, base 2. spans [T, 2] int32: query t belongs to the document
  // whose keys are rows spans[t][0] .. spans[t][1] - 1 of k and v, the last being its own position;
  // of these it sees the last `window`. Key positions count from the document's first key, and
  // pairs (2i, 2i+1) are pairs of that position. In training S = T and spans[t][1] = t + 1; with a
  // cache, S is the cache's capacity.
  //   s   = product chain over head_dim           c = fp32(scale log2 e)
  //   m   = max of visible s                      mc = m c
  //   p_j = exp2(fma(s_j, c, -mc)), +0 where the exponent is below -100
  //   l   = sum rule over the visible p, the element index being the key's position minus the
  //         position of the first visible key
  //   y   = (product chain over visible keys ascending of compute_dtype(p_j) v_j) * (1 / l)
  //   lse = mc + log2(l)
  // peaks [T, H] fp32, or absent: mc, the largest visible score times c.
  virtual int64_t attention_workspace(DType compute, int64_t tokens, int64_t keys,
                                      AttentionArguments arguments) const = 0;
  virtual void attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                         AttentionArguments arguments, Workspace workspace) = 0;
  // Needs the training form of spans (S = T, spans[t][1] = t + 1, documents contiguous).
  //   p = exp2(fma(s, c, -lse)), +0 where the exponent is below -100
  //   delta = sum rule (fma) over value_dim of dy y     dp = product chain over value_dim of dy v
  //   ds = compute_dtype(p (dp - delta))
  //   dq = (chain over visible keys ascending of ds k) * fp32(scale)
  //   dk = (chain over the group's query heads ascending, then queries, of ds q) * fp32(scale)
  //   dv =  chain over the same of compute_dtype(p) dy
  // Pairs (2i, 2i+1) of the document position, formed anew for every head. dq, dk, dv have the
  // dtypes of q, k, v; accumulate adds the finished value to the stored one.
  virtual void attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y, View lse,
                                  View q, View k, View v, View spans, AttentionArguments arguments,
                                  Workspace workspace) = 0;
  // cache[slots[t]] = x[t]; slots [T, 1] int32, distinct. Inference only, without a gradient.
  virtual void store_rows(View cache, View x, View slots) = 0;

  // --- differential attention --------------------------------------------------------------------
  // Ye et al., "Differential transformer", ICLR 2025: how much of the noise path is taken away.
  // lambda [1, 1] fp32 = (e1 - e2) + fp32(initial), e = exp2(sum(q k) log2 e), sum rule with fma.
  virtual void differential_lambda(View lambda, LambdaVectors vectors, double initial) = 0;
  // dq1 = (dlambda e1) k1, dk1 = (dlambda e1) q1; dq2 = (-(dlambda e2)) k2, dk2 likewise with q2.
  virtual void differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                            LambdaVectors vectors) = 0;
  // Heads of `head_dim` columns; x has g times as many as `shared`, and head h of x goes with head
  // h / g of it: y = fma(-factor, shared, x). factor [1, 1] fp32, the others compute dtype.
  virtual int64_t subtract_shared_workspace(int64_t tokens) const = 0;
  virtual void subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) = 0;
  // dx = dy. u = dy added over the g heads that share, ascending, from +0; dshared = (-factor) u;
  // dfactor [1, 1] fp32 = column sum over the tokens of each row's sum of -u shared, by
  // fma(-u, shared, lane).
  virtual void subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor, View dy,
                                        View shared, View factor, int64_t head_dim,
                                        Workspace workspace) = 0;

  // --- element by element ------------------------------------------------------------------------
  // Gated unit, Shazeer, "GLU variants improve transformer", 2020: y = act(gate) up,
  // silu(g) = g sigmoid(g), sigmoid(g) = 1 / (1 + exp2(-g log2 e)).
  virtual void gated(View y, View gate, View up, Activation activation) = 0;
  // With s = sigmoid(g), a = g s: dgate = (dy up) (s fma(g, 1 - s, 1)),  dup = dy a.
  virtual void gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                              Activation activation) = 0;
  // Gated unit with PolyNorm, Zhuo et al., "Polynomial composition activations", 2024, over the
  // whole row of F: N(z) = z / sqrt(mean z z + epsilon), w = [cubic, square, linear],
  //   y = (w0 N(g^3) + w1 N(g^2) + w2 N(g) + b) up
  // g2 = g g, g3 = g2 g, r_n = 1 / sqrt(sum(g_n g_n) / F + epsilon), c_n = a_n r_n with a = linear,
  // square, cubic; P = fma(fma(fma(c3, g, c2), g, c1), g, b); y = P up. rstd [T, 3] fp32 keeps r_1,
  // r_2, r_3; w [1, 3] and b [1, 1] prepared as kVector; gate, up, y compute dtype.
  virtual int64_t poly_norm_gated_workspace(int64_t tokens) const = 0;
  virtual void poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                               double epsilon) = 0;
  // d = dy up, s_0 = sum(d), s_n = sum(d g_n) with fma, k_n = ((n c_n) (r_n r_n)) (s_n / F):
  //   dgate = fma(d, A, -(g B)),  A = fma(fma(3 c3, g, 2 c2), g, c1),
  //                               B = fma(fma(k3, g2, k2), g2, k1);      dup = dy P
  // dw, db fp32: column sums over the tokens by fma(r_n, s_n, part), and of s_0.
  virtual void poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw, Gradient db,
                                        View dy, View rstd, View gate, View up, View w, View b,
                                        Workspace workspace) = 0;

  // --- output projection with loss ---------------------------------------------------------------
  // x [T, D] compute dtype, w [V, D] prepared as kMatrix, targets [T, 1] int32 (-1: no loss there).
  // z = x w' in fp32, never whole in memory.  c = fp32(log2 e), m = max z, mc = m c,
  //   e_j = exp2(fma(z_j, c, -mc)), +0 where the exponent is below -100;  l = sum rule over e
  //   loss [T, 1] fp32 = -ln2 * fma(z_target, c, -(mc + log2 l)), +0 without a target
  virtual int64_t linear_cross_entropy_workspace(DType compute, int64_t tokens, int64_t in,
                                                 int64_t vocabulary, bool backward) const = 0;
  virtual void linear_cross_entropy(View loss, View x, View w, View targets,
                                    Workspace workspace) = 0;
  // Loss and gradient together (the logits would otherwise be computed twice).
  //   dz_j = compute_dtype((e_j (1 / l) - [j is the target]) scale), 0 without a target
  //   dx = chain over j of dz_j w_j;  dw = chain over tokens of dz x.  scale [1, 1] fp32.
  virtual void linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x, View w,
                                             View targets, View scale, Workspace workspace) = 0;

  // --- sums and updates --------------------------------------------------------------------------
  virtual float sum_squares(View x) = 0;               // sum rule, fma
  virtual void add(View y, View a, View b) = 0;        // y = a + b, fp32; y may be a or b
  virtual void zero(View y) = 0;
  virtual void scale(View y, View x, float factor) = 0;  // y = x factor, fp32; y may be x
  // y [1, cols] = the greatest of each column of x [T, cols], fp32: max over the tokens ascending.
  virtual void column_max(View y, View x) = 0;
  // g = gradient gradient_scale;  m = fma(beta1, m, (1 - beta1) g)
  // v = fma(beta2, v, (1 - beta2) (g g));  u = (m correction1) / (sqrt(v correction2) + epsilon)
  // parameter = fma(-learning_rate, u, parameter decay).  All fp32, same shape.
  virtual void adamw(View parameter, View gradient, View m, View v, AdamWArguments arguments) = 0;
  // One matrix [rows, cols]; parameter, gradient and momentum m fp32, what lies between bf16.
  //   g = gradient gradient_scale;  m = fma(momentum, m, g);  u = bf16(fma(momentum, m, g))
  //   Z = bf16(u (1 / (sqrt(sum(u u)) + 1e-7))), u row-major; transposed when rows < cols, so that
  //   Z is [l, s] with l >= s. For each (a, b, c) of kNewtonSchulz in numerics.h:
  //     A = bf16(Z' Z), S = A' A in fp32, B = bf16(fma(c, S, b A)), Z = bf16(fma(a, Z, Z B)),
  //   products by the bf16 chain (over l, s, s).
  //   parameter = fma(-learning_rate, Z turned back, parameter decay)
  virtual int64_t muon_workspace(int64_t rows, int64_t cols) const = 0;
  virtual void muon(View parameter, View gradient, View m, MuonArguments arguments,
                    Workspace workspace) = 0;
};

// The oracle. `real` is kF32 (the contract's bits) or kF64 (every view in double, for derivatives).
std::unique_ptr<Kernels> make_reference(DType real);

// The fast backend. The pool must outlive it. isa_name: "" picks the best that the machine has and
// whose self-test passes; else portable, avx2, avx512 or avx512_bf16 (environment NAITE_ISA).
Result<std::unique_ptr<Kernels>> make_cpu(ThreadPool& pool, std::string_view isa_name);
std::string_view cpu_isa_names();  // what this machine offers, best first, separated by spaces

}  // namespace naite::kernels
