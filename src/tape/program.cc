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
  int64_t watched = 0;
  for (const Watch& watch : tape.watches()) {
    watched_at_.push_back(watched);
    watched += info_of(watch).rows * info_of(watch).cols;
  }
  if (watched > 0) watched_ = Block(kernels_, 4 * watched);
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
  const std::vector<float> content = buffer.content();
  NAITE_CHECK(static_cast<int64_t>(content.size()) == buffer.info.rows * buffer.info.cols,
              "{}: {} values for {}", buffer.name, content.size(), describe({&buffer.info, 1}));
  if (buffer.info.dtype == DType::kF64) {
    const std::vector<double> wide(content.begin(), content.end());
    return kernels_.upload(block.data(), wide.data(), bytes);
  }
  return kernels_.upload(block.data(), content.data(), bytes);
}

int64_t Program::bytes() const {
  int64_t bytes = arena_.bytes() + workspace_.bytes() + watched_.bytes();
  for (const Block& block : leaves_) bytes += block.bytes();
  return bytes;
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

Status Program::feed(const Batch& batch) {
  for (size_t b = 0; b < leaves_.size(); ++b) {
    const Buffer& leaf = tape_.buffers()[b];
    if (leaf.kind != Kind::kData) continue;
    const Batch::Column& column = batch.column(leaf.name);
    const TensorInfo info{column.is_float() ? DType::kF32 : DType::kI32, column.rows, column.width};
    NAITE_CHECK(info == leaf.info, "{}: a column {} for a leaf {}", leaf.name, describe({&info, 1}),
                describe({&leaf.info, 1}));
    NAITE_TRY(kernels_.upload(leaves_[b].data(), column.data(), column.bytes()));
  }
  return {};
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

const TensorInfo& Program::info_of(const Watch& watch) const {
  return tape_.buffers()[watch.buffer].info;
}

View Program::watched() const { return {watched_.data(), DType::kF32, 1, watched_.bytes() / 4}; }

View Program::watched(std::string_view name) const {
  for (size_t i = 0; i < watched_at_.size(); ++i) {
    const Watch& watch = tape_.watches()[i];
    if (watch.name == name)
      return {static_cast<float*>(watched_.data()) + watched_at_[i], DType::kF32,
              info_of(watch).rows, info_of(watch).cols};
  }
  NAITE_CHECK(false, "{} is not watched", name);
  return {};
}

// The first pass gives the values, the others join theirs.
Status Program::join_watched() {
  for (const Watch& watch : tape_.watches()) {
    const View so_far = watched(watch.name), now = view_of(watch.buffer, 0, Use::kActivation);
    if (begins_watching_)
      NAITE_TRY(kernels_.submit(kernels::Copy{so_far, now}));
    else if (watch.rule == Rule::kMax)
      NAITE_TRY(kernels_.submit(kernels::Maximum{{so_far, so_far, now}}));
    else
      NAITE_TRY(kernels_.submit(kernels::Add{{so_far, so_far, now}}));
  }
  begins_watching_ = false;
  return {};
}

Status Program::forward() {
  NAITE_TRY(made_);
  for (int s = 0; s < backward_begin_; ++s) NAITE_TRY(run_step(s));
  return join_watched();
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
