// SPDX-License-Identifier: Apache-2.0
#include "tape/record.h"

namespace naite::tape {

const TensorInfo& Tensor::info() const {
  NAITE_CHECK(tape != nullptr, "a tensor that was never recorded");
  return tape->buffers()[id].info;
}

ParameterSpec ParameterSpec::tensor(int64_t index) const {
  ParameterSpec out = *this;
  out.count = out.active = 1;
  if (count > 1) out.name.replace(out.name.find("{}"), 2, std::to_string(index));
  return out;
}

std::vector<ParameterSpec> tensors_of(const std::vector<ParameterSpec>& parameters) {
  std::vector<ParameterSpec> out;
  for (const ParameterSpec& spec : parameters)
    for (int64_t i = 0; i < spec.count; ++i) out.push_back(spec.tensor(i));
  return out;
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
  NAITE_CHECK(spec.rows > 0 && spec.cols > 0 && spec.count > 0, "parameter {} is {} [{}, {}]",
              spec.name, spec.count, spec.rows, spec.cols);
  NAITE_CHECK(spec.count == 1 || spec.name.find("{}") != std::string::npos,
              "the stack {} has no {{}} in its name", spec.name);
  const bool is_new = by_name_.emplace(spec.name, static_cast<int>(buffers_.size())).second;
  NAITE_CHECK(is_new, "parameter {} recorded twice", spec.name);
  Buffer buffer;
  buffer.kind = Kind::kParameter;
  buffer.info = {compute_, spec.count * spec.rows, spec.cols};
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

Tensor Tape::constant(std::string name, int64_t rows, int64_t cols,
                      std::function<std::vector<float>()> content) {
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

void Tape::watch(std::string name, Tensor tensor, Rule rule) {
  NAITE_CHECK(tensor.info().dtype == DType::kF32, "{} is watched in {}", name,
              kernels::dtype_name(tensor.info().dtype));
  for (const Watch& other : watches_) NAITE_CHECK(other.name != name, "{} is watched twice", name);
  keep(tensor);
  watches_.push_back({std::move(name), tensor.id, rule});
}

Tensor Tape::recorded(std::string_view name) {
  const auto found = by_name_.find(std::string(name));
  NAITE_CHECK(found != by_name_.end(), "no parameter {} was recorded", name);
  return {this, found->second};
}

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
