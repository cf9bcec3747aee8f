// SPDX-License-Identifier: Apache-2.0
// Any entries of a run's log or of a log of runs, one a line: refused with one short line, or a
// history whose numbers fit together; and what passes has a summary.
#include <cstdint>
#include <cstdlib>
#include <sstream>

#include "base/fuzz.h"
#include "ledger/canonical_json.h"
#include "record/history.h"
#include "record/run_list.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream text(std::string(reinterpret_cast<const char*>(data), size));
  std::vector<std::string> entries;
  for (std::string line; std::getline(text, line);) entries.push_back(line);
  const auto list = naite::record::RunList::parse(entries, "example.org/team");
  if (!list) naite::expect_short_line(list.error());
  for (const std::string& entry : entries) {
    const auto value = naite::ledger::parse_canonical_json(entry, "entry");
    for (const auto& rules : {naite::record::run_rules(), naite::record::list_rules()})
      if (value.ok() && naite::record::check_entry(*value, rules, "entry").ok())
        naite::record::entry_summary(*value);
  }
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
  if (history->num_entries > 0 && history->plans().empty()) std::abort();
  return 0;
}
