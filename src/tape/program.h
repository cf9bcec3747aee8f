// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tape bound to memory: replay is two plain loops over prepared frames.
#include <map>
#include <string>
#include <vector>

#include "base/batch.h"
#include "tape/parameters.h"
#include "tape/plan.h"
#include "tape/record.h"

namespace naite::tape {

// States by name, shared by the programs of one model (prefill and decoding).
using States = std::map<std::string, Block>;

struct ProgramOptions {
  bool recompute = false;
  // Tests: the arena starts as NaN, and every buffer becomes NaN again right after its last planned
  // use, so a wrong lifetime shows in the results.
  bool poison = false;
  States* states = nullptr;  // where states live; needed by tapes that have some
};

class Program {
 public:
  // Both the tape and the parameters must outlive the program.
  Program(const Tape& tape, Parameters& parameters, ProgramOptions options = {});

  const Plan& plan() const { return plan_; }
  const Parameters& parameters() const { return parameters_; }
  int64_t bytes() const;  // that it has allocated; states are counted by whoever owns them

  // Uploads every leaf from the column of its name.
  Status feed(const Batch& batch);
  Status write(Tensor leaf, const void* from_host, int64_t bytes);
  Status read(Tensor tensor, void* to_host, int64_t bytes);
  View kept(Tensor tensor);  // where a kept tensor lies on the device

  // The next forward() begins what is watched anew; those after it join theirs.
  void begin_watching() { begins_watching_ = true; }
  // What Tape::watch() named, on the device: all of it as [1, values], watch after watch, and one.
  View watched() const;
  View watched(std::string_view name) const;

  Status forward();
  // Gradients of parameters go to `slab` (Parameters::layout()); with `accumulate` the first writer
  // of each adds to what is there, otherwise it writes.
  Status backward(const Block& slab, bool accumulate);

 private:
  Status make_leaf(const Buffer& buffer);
  View view_of(int buffer, int version, Use use);
  View gradient_view(int buffer);
  Frame make_frame(int step);
  Status run_step(int step);
  const TensorInfo& info_of(const Watch& watch) const;
  Status join_watched();
  Status poison(int64_t offset, int64_t bytes);
  Status poison_after(int step);

  const Tape& tape_;
  Parameters& parameters_;
  Kernels& kernels_;
  const ProgramOptions options_;
  Status made_;  // constants arrived; forward() fails where they did not
  Plan plan_;
  Block arena_, workspace_;
  std::vector<Block> leaves_;  // by buffer; data and constants
  Block watched_;
  std::vector<int64_t> watched_at_;  // by watch: its first value
  bool begins_watching_ = true;
  std::vector<Frame> frames_;  // by step
  int backward_begin_ = 0;     // the first step that is not a forward one
  // Where frames hold gradients of parameters, to be pointed at the slab of the moment.
  struct ParameterGradient {
    int step, input, parameter;
    bool first_writer;
  };
  std::vector<ParameterGradient> parameter_gradients_;
};

}  // namespace naite::tape
