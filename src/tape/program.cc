// SPDX-License-Identifier: Apache-2.0
#include "tape/program.h"

#include <algorithm>

namespace naite::tape {

Program::Program(const Tape& tape, Parameters& parameters, ProgramOptions options)
    : tape_(tape),
      parameters_(parameters),
      kernels_(parameters.kernels()),
      options_(options),
      plan_(make_plan(tape, options.recompute)) {
  NAITE_CHECK(tape.parameters() == parameters.specs(), "a tape of another model");
  NAITE_CHECK(tape.compute() == parameters.compute(), "a tape of another precision");
  arena_ = Block(kernels_, plan_.arena_bytes);
  workspace_ = Block(kernels_, plan_.workspace_bytes);
  for (const Buffer& buffer : tape.buffers()) {
    const Status leaf = make_leaf(buffer);
    if (!leaf.ok()) made_ = leaf;
  }
  for (const Node& node : tape.nodes())
    for (size_t j = 0; j < node.in.size(); ++j)
      if (node.info.uses[j] != Use::kActivation)
        parameters.add_use(tape.buffers()[node.in[j]].parameter, node.info.uses[j]);
  const int num_steps = static_cast<int>(plan_.steps.size());
  for (int s = 0; s < num_steps; ++s) frames_.push_back(make_frame(s));
  backward_begin_ = static_cast<int>(tape.nodes().size());
  if (options_.poison && made_.ok()) made_ = poison(0, plan_.arena_bytes);
}

Status Program::make_leaf(const Buffer& buffer) {
  Block& block = leaves_.emplace_back();
  if (!buffer.is_leaf()) return {};
  const int64_t bytes = buffer.info.bytes();
  if (buffer.kind == Kind::kState) {
    NAITE_CHECK(options_.states != nullptr, "no place for the state {}", buffer.name);
    Block& state = (*options_.states)[buffer.name];
    if (!state) state = Block(kernels_, bytes);
    NAITE_CHECK(state.bytes() == bytes, "state {} has two sizes", buffer.name);
    return {};
  }
  block = Block(kernels_, bytes);
  if (buffer.kind != Kind::kConstant) return {};
  if (buffer.info.dtype == DType::kF64) {
    const std::vector<double> content(buffer.content.begin(), buffer.content.end());
    return kernels_.upload(block.data(), content.data(), bytes);
  }
  return kernels_.upload(block.data(), buffer.content.data(), bytes);
}

int64_t Program::bytes() const {
  return plan_.arena_bytes + plan_.workspace_bytes + plan_.data_bytes;
}

View Program::view_of(int buffer, int version, Use use) {
  const Buffer& b = tape_.buffers()[buffer];
  if (b.kind == Kind::kParameter) return parameters_.prepared(b.parameter, use);
  View view{nullptr, b.info.dtype, b.info.rows, b.info.cols};
  if (b.kind == Kind::kValue) {
    const int place = plan_.value_place[version][buffer];
    if (place < 0) return view;  // never written before nor read after this step
    view.data = static_cast<std::byte*>(arena_.data()) + plan_.placements[place].offset;
  } else {
    view.data =
        b.kind == Kind::kState ? options_.states->at(b.name).data() : leaves_[buffer].data();
  }
  return view;
}

View Program::gradient_view(int buffer) {
  const TensorInfo& info = tape_.buffers()[buffer].info;
  const Placement& place = plan_.placements[plan_.gradient_place[buffer]];
  return {static_cast<std::byte*>(arena_.data()) + place.offset, info.dtype, info.rows, info.cols};
}

Frame Program::make_frame(int s) {
  const Step& step = plan_.steps[s];
  const Node& node = tape_.nodes()[step.node];
  Frame frame;
  frame.workspace = {static_cast<std::byte*>(workspace_.data()),
                     static_cast<size_t>(plan_.workspace_bytes)};
  for (size_t j = 0; j < node.in.size(); ++j)
    frame.in.push_back(view_of(node.in[j], plan_.version(step, node.in[j]), node.info.uses[j]));
  for (int b : node.out) frame.out.push_back(view_of(b, plan_.version(step, b), Use::kActivation));
  if (step.phase != Phase::kBackward) return frame;
  for (size_t j = 0; j < node.in.size(); ++j) {
    const int b = node.in[j];
    Gradient gradient;
    gradient.wanted = plan_.has_gradient[b];
    gradient.accumulate = plan_.accumulate[s][j];
    const int parameter = tape_.buffers()[b].parameter;
    if (gradient.wanted && parameter >= 0)
      parameter_gradients_.push_back({s, static_cast<int>(j), parameter, !plan_.accumulate[s][j]});
    else if (gradient.wanted)
      gradient.view = gradient_view(b);
    frame.din.push_back(gradient);
  }
  for (int b : node.out) frame.dout.push_back(plan_.has_gradient[b] ? gradient_view(b) : View{});
  return frame;
}

Status Program::write(Tensor leaf, const void* from_host, int64_t bytes) {
  const Buffer& buffer = tape_.buffers()[leaf.id];
  NAITE_CHECK(leaves_[leaf.id] && bytes <= buffer.info.bytes(), "{} bytes for {} of {}", bytes,
              buffer.name, buffer.info.bytes());
  return kernels_.upload(leaves_[leaf.id].data(), from_host, bytes);
}

View Program::kept(Tensor tensor) {
  NAITE_CHECK(tape_.buffers()[tensor.id].kept, "a tensor that is not kept");
  return view_of(tensor.id, 0, Use::kActivation);
}

Status Program::read(Tensor tensor, void* to_host, int64_t bytes) {
  const View view = kept(tensor);
  NAITE_CHECK(bytes <= view.bytes(), "{} bytes of a tensor of {}", bytes, view.bytes());
  return kernels_.download(to_host, view.data, bytes);
}

Status Program::run_step(int s) {
  const Step& step = plan_.steps[s];
  const Operation& operation = *tape_.nodes()[step.node].operation;
  if (step.phase == Phase::kBackward) {
    NAITE_TRY(operation.backward(kernels_, frames_[s]));
  } else if (!(tape_.gradients() && tape_.nodes()[step.node].info.is_loss)) {
    NAITE_TRY(operation.forward(kernels_, frames_[s]));
  }
  return options_.poison ? poison_after(s) : Status();
}

Status Program::poison(int64_t offset, int64_t bytes) {
  const std::vector<unsigned char> nan(bytes, 0xff);
  return kernels_.upload(static_cast<std::byte*>(arena_.data()) + offset, nan.data(), bytes);
}

Status Program::poison_after(int step) {
  for (const Placement& place : plan_.placements)
    if (place.last == step) NAITE_TRY(poison(place.offset, place.bytes));
  return {};
}

Status Program::forward() {
  NAITE_TRY(made_);
  for (int s = 0; s < backward_begin_; ++s) NAITE_TRY(run_step(s));
  return {};
}

Status Program::backward(const Block& slab, bool accumulate) {
  for (const ParameterGradient& p : parameter_gradients_) {
    Gradient& gradient = frames_[p.step].din[p.input];
    gradient.view = parameters_.layout().view(slab, p.parameter);
    gradient.accumulate = accumulate || !p.first_writer;
  }
  const int num_steps = static_cast<int>(plan_.steps.size());
  for (int s = backward_begin_; s < num_steps; ++s) NAITE_TRY(run_step(s));
  return {};
}

}  // namespace naite::tape
