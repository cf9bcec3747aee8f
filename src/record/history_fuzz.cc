// SPDX-License-Identifier: Apache-2.0
// Any entries of a run's log, one a line: refused with one short line, or a history whose numbers
// fit together.
#include <cstdint>
#include <cstdlib>
#include <sstream>

#include "base/fuzz.h"
#include "record/history.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream text(std::string(reinterpret_cast<const char*>(data), size));
  std::vector<std::string> entries;
  for (std::string line; std::getline(text, line);) entries.push_back(line);
  const auto history = naite::record::RunHistory::parse(entries);
  if (!history) {
    naite::expect_short_line(history.error());
    return 0;
  }
  for (const naite::record::StoredState& state : history->stored)
    if (state.step > history->last_step() || history->find(state.step) == nullptr) std::abort();
  for (int64_t step = history->last_step(); step > history->commitment.first_step(); --step)
    history->step(step);
  history->amended();
  return 0;
}
