// SPDX-License-Identifier: Apache-2.0
#pragma once
// Batches as a pure function of (seed, step, row): no state, any position reachable at once, any
// number of threads and ranks may fill disjoint rows. Which source a row comes from follows the
// scheduled weights so closely that the counts are never more than a few rows off; every source is
// walked in epochs, each a random order of its rows, cut at a random offset.
//
// Of a batch of R rows with T = sequence_length, all flattened [R * T] (base/batch.h):
//   ids        the row
//   targets    the next token of the stream; -1: no loss there
//   positions  from the document's first token in this row ("document"), or from the row ("full")
//   spans      token t sees keys spans[t][0] .. spans[t][1] - 1, counted in the batch:
//              {t - positions[t], t + 1}
//   weights    if a source has some: that of the target; a target of weight 0 is none
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"
#include "base/batch.h"
#include "data/manifest.h"
#include "data/options.h"

namespace naite::data {

struct LoaderRequest {
  std::filesystem::path run_directory;
  DataOptions data;
  uint64_t seed = 0;
  int64_t rows_per_step = 1;
  int64_t total_steps = 1;  // progress of scheduled weights is step / total_steps
};

class Loader {
 public:
  static Result<Loader> open(const LoaderRequest& request);
  Loader(Loader&&) noexcept;
  ~Loader();

  int64_t sequence_length() const;
  // Adds to a batch of text what this loader fills beyond it, if it is not there yet.
  void declare(Batch& batch) const;
  // Rows [first_row, first_row + num_rows) of `step`, 0 <= row < rows_per_step, into the first ones
  // of the batch.
  void fill(int64_t step, int64_t first_row, int64_t num_rows, Batch& batch) const;

  int num_sources() const;
  const std::string& source_name(int source) const;
  // Tokens taken from each source in steps [first_step, end_step): the realised mixture.
  std::vector<int64_t> tokens_by_source(int64_t first_step, int64_t end_step) const;
  // How often each source has been seen from start to end when `step` begins.
  std::vector<double> epochs_by_source(int64_t step) const;

  int64_t num_validation_rows(int source) const;
  // Fills rows of the held-out text, in order; the last row is padded. Special tokens are no
  // targets. Returns the number of raw bytes that the scored targets stand for.
  int64_t fill_validation(int source, int64_t first_row, int64_t num_rows, Batch& batch) const;

 private:
  struct State;
  explicit Loader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
