// SPDX-License-Identifier: Apache-2.0
#pragma once
// Record: run the model's C++ once with shapes only; every operation appends one node. The node
// order is the topological order, so the model file alone decides the order of gradients. Shapes,
// kinds of leaves and the operations' own facts are checked here, while recording; a wrong model
// file ends in a check that names the operation, the tensors and their shapes.
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/kernels.h"

namespace naite::tape {

using kernels::DType;
using kernels::Gradient;
using kernels::Kernels;
using kernels::Runner;
using kernels::Use;
using kernels::View;
using kernels::wide_of;

struct TensorInfo {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  bool operator==(const TensorInfo&) const = default;
  int64_t bytes() const { return rows * cols * kernels::dtype_bytes(dtype); }
};

// What a parameter is, for optimizers, initialisation and file formats; never guessed from its
// name.
enum class Role : uint8_t { kEmbedding, kHead, kMatrix, kVector };

// A parameter is one tensor, or a stack of `count` matrices of one shape that one operation reads
// (experts). Outside of the tape - initial values, files, digests - a stack is `count` tensors,
// whose names have the matrix's number in the place of "{}"; their values lie one after another.
struct ParameterSpec {
  std::string name;            // Hugging Face's name
  int64_t rows = 0, cols = 0;  // of one matrix; a vector is [1, n]
  Role role = Role::kMatrix;
  double initial_std = 0;  // normal with this deviation around initial_value
  double initial_value = 0;
  int64_t count = 1;
  int64_t active = count;  // matrices of the stack that one token reads
  bool operator==(const ParameterSpec&) const = default;
  int64_t size() const { return count * rows * cols; }
  // Matrix `index` of the stack, as a tensor of its own.
  ParameterSpec tensor(int64_t index) const;
};
// The tensors that files know, in order: every stack taken apart.
std::vector<ParameterSpec> tensors_of(const std::vector<ParameterSpec>& parameters);

class Tape;

// A handle to a tensor on a tape; cheap to copy.
struct Tensor {
  Tape* tape = nullptr;
  int id = -1;

  const TensorInfo& info() const;
  int64_t rows() const { return info().rows; }
  int64_t cols() const { return info().cols; }
};

// What an operation's infer() answers.
struct OpInfo {
  std::string_view name;
  std::vector<TensorInfo> outputs;
  std::vector<Use> uses;       // how inputs are read; empty: all are activations
  uint32_t reads_inputs = 0;   // bit j: backward reads the value of input j
  uint32_t reads_outputs = 0;  // bit j: backward reads the value of output j
  // The loss: in training its forward does nothing, and its backward needs no incoming gradient and
  // writes the outputs as well.
  bool is_loss = false;
  bool inference_only = false;  // writes to a state; has no backward
};

// What an operation works on. dout[j] is absent where no gradient arrives.
struct Frame {
  std::vector<View> in, out, dout;
  std::vector<Gradient> din;
  kernels::Workspace workspace;
};

// An operation is three members of a plain struct:
//   OpInfo infer(std::span<const TensorInfo> in) const;
//   Status forward(Runner&, const Frame&) const;
//   Status backward(Runner&, const Frame&) const;
// While recording, both run on views without memory, to learn what workspace their calls need.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual Status forward(Runner& runner, const Frame& frame) const = 0;
  virtual Status backward(Runner& runner, const Frame& frame) const = 0;
};

enum class Kind : uint8_t {
  kParameter,
  kData,      // uploaded by the host before a replay
  kConstant,  // known when recording: a table
  kState,     // lives across replays: a key/value cache
  kValue,     // computed
};

struct Buffer {
  Kind kind = Kind::kValue;
  TensorInfo info;
  std::string name;  // of leaves
  bool needs_gradient = false;
  bool kept = false;   // the host reads it after the replay
  int parameter = -1;  // index of the parameter
  // Of a constant: makes its values, when a program is made.
  std::function<std::vector<float>()> content;

  bool is_leaf() const { return kind != Kind::kParameter && kind != Kind::kValue; }
};

struct Node {
  OpInfo info;
  std::vector<int> in, out;
  int segment = 0;
  int64_t workspace_bytes = 0;
  std::shared_ptr<const Operation> operation;
};

// How the values of a watched tensor in the micro-batches of a step become one.
enum class Rule : uint8_t { kMax, kSum };

struct Watch {
  std::string name;
  int buffer = -1;
  Rule rule = Rule::kMax;
};

class Tape {
 public:
  // `kernels` answers how much workspace operations need; `compute` is the dtype of activations
  // (fp32, bf16, or double for derivative checks).
  Tape(const Kernels& kernels, DType compute, bool gradients)
      : kernels_(kernels), compute_(compute), gradients_(gradients) {}
  Tape(const Tape&) = delete;

  DType compute() const { return compute_; }
  DType wide() const { return wide_of(compute_); }
  bool gradients() const { return gradients_; }

  Tensor parameter(ParameterSpec spec);
  Tensor data(std::string name, DType dtype, int64_t rows, int64_t cols);
  Tensor constant(std::string name, int64_t rows, int64_t cols,
                  std::function<std::vector<float>()> content);
  Tensor state(std::string name, int64_t rows, int64_t cols);  // in the compute dtype
  void keep(Tensor tensor);
  // A statistic of the forward pass, [rows, cols] fp32 on every replay: the program accumulates it
  // by the rule, and the host reads it once in a step (Program::watched). Names are unique.
  void watch(std::string name, Tensor tensor, Rule rule);
  // The parameter that was recorded under this name.
  Tensor recorded(std::string_view name);

  // Nodes recorded from here on belong to the next segment: what recomputation drops and repeats as
  // one piece, usually a layer.
  void begin_segment() { ++segment_; }

  template <class Op>
  std::vector<Tensor> record(const Op& op, const std::vector<Tensor>& inputs) {
    std::vector<TensorInfo> infos;
    for (const Tensor& input : inputs) infos.push_back(input.info());
    return append(op.infer(infos), inputs, std::make_shared<Recorded<Op>>(op));
  }

  const std::vector<Buffer>& buffers() const { return buffers_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  const std::vector<Watch>& watches() const { return watches_; }

 private:
  template <class Op>
  class Recorded final : public Operation {
   public:
    explicit Recorded(const Op& op) : op_(op) {}
    Status forward(Runner& runner, const Frame& frame) const override {
      return op_.forward(runner, frame);
    }
    Status backward(Runner& runner, const Frame& frame) const override {
      return op_.backward(runner, frame);
    }

   private:
    Op op_;
  };

  std::vector<Tensor> append(OpInfo info, const std::vector<Tensor>& inputs,
                             std::shared_ptr<const Operation> operation);
  Tensor leaf(Buffer buffer);
  int64_t workspace_of(const Node& node, bool with_backward) const;

  const Kernels& kernels_;
  const DType compute_;
  const bool gradients_;
  int segment_ = 0;
  std::vector<Buffer> buffers_;
  std::vector<Node> nodes_;
  std::vector<ParameterSpec> parameters_;
  std::unordered_map<std::string, int> by_name_;  // buffers of parameters
  std::vector<Watch> watches_;
};

std::string describe(std::span<const TensorInfo> infos);  // "[512, 64] bf16, [64, 64] bf16"

}  // namespace naite::tape
