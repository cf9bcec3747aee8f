// SPDX-License-Identifier: Apache-2.0
#pragma once
// A publisher's log of runs, read: every run under its key is listed before its first step, and
// when it ends. Strict like record/history.h: each run once, each end once and after its run.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"
#include "ledger/note.h"

namespace naite::record {

struct ListedRun {
  std::string commitment;  // SHA-256 of its log's first entry
  int64_t time = 0;        // as in the commitment
  // The head of its log with the end; the origin is that of the run.
  std::optional<ledger::Head> end;
};

struct RunList {
  std::map<std::string, ListedRun> runs;  // by origin

  // `publisher`: the origin of this log, below which those of its runs lie.
  static Result<RunList> parse(const std::vector<std::string>& entries,
                               const std::string& publisher);
  int64_t num_ended() const;
};

}  // namespace naite::record
