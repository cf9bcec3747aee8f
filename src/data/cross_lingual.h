// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cross-lingual packing, in the manner of XLDA (Trillion-7B, arXiv 2504.15431): the rows of a run
// are cut from one endless row of documents in which neighbours differ in language with a given
// probability. Among the sources of the language drawn, the one that is owed most tokens by the
// scheduled weights gives its next document; its documents come in a random order, epoch by epoch.
// The stream is a pure function of (seed, options, documents). States are kept along it, so a row
// is reached by walking a bounded number of documents; open() walks all of them once.
#include <cstdint>
#include <span>
#include <vector>

#include "base/base.h"
#include "data/options.h"
#include "data/shards.h"

namespace naite::data {

class CrossLingualStream {
 public:
  struct Request {
    const DataOptions* data = nullptr;       // these two must outlive the stream
    std::vector<const SplitReader*> splits;  // of each source
    uint64_t seed = 0;
    int64_t rows_per_step = 1, total_steps = 1;
  };
  static Result<CrossLingualStream> open(Request request);

  // Row `row` of the run and the token after it: out.size() = T + 1.
  void read_row(int64_t row, std::span<int32_t> out) const;

  struct Taken {
    std::vector<int64_t> tokens,
        documents;  // of each source; the last document may be taken in part
  };
  Taken taken_before(int64_t row) const;

 private:
  struct State {
    int64_t position = 0;       // in tokens
    int64_t num_documents = 0;  // begun
    int source = -1;            // of the document that is being taken
    int64_t at = 0, end = 0;    // what is left of it
    std::vector<double> owed;
    Taken taken;
  };
  // Whether a source is of the language drawn: the same as before, or another.
  bool of_language_drawn(const State& state, size_t source, bool change) const;
  void next_document(State& state) const;
  // Takes `count` tokens; copies them if `out` is given.
  void walk(State& state, int64_t count, int32_t* out) const;
  State state_at(int64_t row) const;

  Request request_;
  int64_t length_ = 1, stride_ = 1;
  std::vector<State> kept_;  // at every stride_-th row
};

}  // namespace naite::data
