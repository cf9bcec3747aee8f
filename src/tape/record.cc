// SPDX-License-Identifier: Apache-2.0
#include "tape/record.h"

namespace naite::tape {

const TensorInfo& Tensor::info() const {
  NAITE_CHECK(tape != nullptr, "a tensor that was never recorded");
  return tape->buffers()[id].info;
}

std::string describe(std::span<const TensorInfo> infos) {
  std::string text;
  for (const TensorInfo& info : infos)
    text += fmt::format("{}[{}, {}] {}", text.empty() ? "" : ", ", info.rows, info.cols,
                        kernels::dtype_name(info.dtype));
  return text;
}

Tensor Tape::leaf(Buffer buffer) {
  buffers_.push_back(std::move(buffer));
  return {this, static_cast<int>(buffers_.size()) - 1};
}

Tensor Tape::parameter(ParameterSpec spec) {
  NAITE_CHECK(spec.rows > 0 && spec.cols > 0, "parameter {} is [{}, {}]", spec.name, spec.rows,
              spec.cols);
  for (const ParameterSpec& other : parameters_)
    NAITE_CHECK(other.name != spec.name, "parameter {} recorded twice", spec.name);
  Buffer buffer;
  buffer.kind = Kind::kParameter;
  buffer.info = {compute_, spec.rows, spec.cols};
  buffer.name = spec.name;
  buffer.needs_gradient = gradients_;
  buffer.parameter = static_cast<int>(parameters_.size());
  parameters_.push_back(std::move(spec));
  return leaf(std::move(buffer));
}

Tensor Tape::data(std::string name, DType dtype, int64_t rows, int64_t cols) {
  Buffer buffer;
  buffer.kind = Kind::kData;
  buffer.info = {dtype, rows, cols};
  buffer.name = std::move(name);
  return leaf(std::move(buffer));
}

Tensor Tape::constant(std::string name, int64_t rows, int64_t cols, std::vector<float> content) {
  NAITE_CHECK(static_cast<int64_t>(content.size()) == rows * cols, "{}: {} values for [{}, {}]",
              name, content.size(), rows, cols);
  Buffer buffer;
  buffer.kind = Kind::kConstant;
  buffer.info = {wide(), rows, cols};
  buffer.name = std::move(name);
  buffer.content = std::move(content);
  return leaf(std::move(buffer));
}

Tensor Tape::state(std::string name, int64_t rows, int64_t cols) {
  Buffer buffer;
  buffer.kind = Kind::kState;
  buffer.info = {compute_, rows, cols};
  buffer.name = std::move(name);
  return leaf(std::move(buffer));
}

namespace {

// Asks a backend about every call instead of running it, and notes the largest answer.
class WorkspaceAsker final : public Runner {
 public:
  explicit WorkspaceAsker(const Kernels& kernels) : kernels_(kernels) {}
  Status run(const kernels::Call& call, kernels::Stream) override {
    bytes = std::max(bytes, kernels_.workspace_of(call));
    return {};
  }
  int64_t bytes = 0;

 private:
  const Kernels& kernels_;
};

View shape_of(const TensorInfo& info) { return {nullptr, info.dtype, info.rows, info.cols}; }

}  // namespace

int64_t Tape::workspace_of(const Node& node, bool with_backward) const {
  Frame frame;
  for (const int b : node.in) {
    frame.in.push_back(shape_of(buffers_[b].info));
    frame.din.push_back({frame.in.back(), true, false});
  }
  for (const int b : node.out) frame.out.push_back(shape_of(buffers_[b].info));
  frame.dout = frame.out;
  WorkspaceAsker asker(kernels_);
  // Some have no backward and say so: whoever runs it will hear.
  const bool asked = node.operation->forward(asker, frame).ok() &&
                     (!with_backward || node.operation->backward(asker, frame).ok());
  static_cast<void>(asked);
  return asker.bytes;
}

void Tape::keep(Tensor tensor) { buffers_[tensor.id].kept = true; }

std::vector<Tensor> Tape::append(OpInfo info, const std::vector<Tensor>& inputs,
                                 std::shared_ptr<const Operation> operation) {
  Node node;
  bool needs_gradient = false;
  for (const Tensor& input : inputs) {
    NAITE_CHECK(input.tape == this, "{}: an input from another tape", info.name);
    node.in.push_back(input.id);
    needs_gradient |= buffers_[input.id].needs_gradient;
  }
  NAITE_CHECK(!info.inference_only || !gradients_, "{} has no gradient", info.name);
  if (info.uses.empty()) info.uses.assign(inputs.size(), Use::kActivation);
  for (size_t j = 0; j < inputs.size(); ++j) {
    const bool is_parameter = buffers_[inputs[j].id].kind == Kind::kParameter;
    NAITE_CHECK(is_parameter == (info.uses[j] != Use::kActivation),
                "{}: input {} must {}be a parameter", info.name, j,
                info.uses[j] == Use::kActivation ? "not " : "");
  }
  std::vector<Tensor> outputs;
  for (const TensorInfo& output : info.outputs) {
    Buffer buffer;
    buffer.info = output;
    buffer.needs_gradient = needs_gradient && gradients_;
    outputs.push_back(leaf(std::move(buffer)));
    node.out.push_back(outputs.back().id);
  }
  node.info = std::move(info);
  node.segment = segment_;
  node.operation = std::move(operation);
  node.workspace_bytes = workspace_of(node, needs_gradient && gradients_);
  nodes_.push_back(std::move(node));
  return outputs;
}

}  // namespace naite::tape
