// SPDX-License-Identifier: Apache-2.0
#pragma once
// Writes a run into a tree of static files that any web server can serve: TREE/NAME/ has what
// outsiders need to verify the run and nothing else (docs/LEDGER.md, "A published run").
//
// The head goes last, so whoever fetches it finds everything that it covers. Big files are hard
// links where that is possible, else copies; each file and each state is complete or absent. A
// publishing that is killed leaves a tree that verifies, and the next one goes on. Nothing that a
// published head covers is ever changed or removed; another history is refused.
#include <filesystem>
#include <string>

#include "base/base.h"

namespace naite::record {

struct Published {
  std::string head;     // that the tree has now, a signed note
  int64_t entries = 0;  // that it covers
  int64_t new_entries = 0, new_states = 0;
  bool ended = false;  // the run has ended or was abandoned: there will be nothing more
};

// Once, as far as the run's signed head goes. `name` is what the tree calls the run.
Result<Published> publish(const std::filesystem::path& run, const std::filesystem::path& tree,
                          const std::string& name);

// Writes TREE/index.html: the runs of the tree and their checkpoints, for people.
Status write_index(const std::filesystem::path& tree);

}  // namespace naite::record
