// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a verification found: one line per check, one verdict per component, and one sentence that
// can be quoted. The same as JSON.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/base.h"
#include "ledger/note.h"

namespace naite::verify {

enum class Outcome {
  kHolds,
  kFails,
  kOpen,  // nobody claimed it, or it was not asked for: said, never counted as held
};

std::string_view outcome_name(Outcome outcome);  // holds, fails, open

struct Check {
  std::string name;  // stable: programs and the table of attacks read it
  Outcome outcome = Outcome::kHolds;
  std::string detail;
};

// An interval between two stored states that was trained again.
struct Replay {
  int64_t first_step = 0, end_step = 0;
  bool same_bits = false;
  std::string why;  // first, largest change, random, asked for
};

struct Verdict {
  std::string component;  // weights, tokenizer, data, teachers
  std::string verdict;    // from scratch, as declared, undeclared, contradicted ...
  std::string reason;
};

struct Report {
  std::string run, origin, signer;
  ledger::Head head;       // of the log that was read; size 0 if none was
  std::string commitment;  // SHA-256 of the log's first entry
  std::vector<Check> checks;
  std::vector<Replay> replays;
  int64_t num_intervals = 0;
  // The chance that what was replayed misses every forged interval: if a tenth of all are forged,
  // and if one is. Only what was drawn at random counts, as whoever forges knows the rest; 0 if
  // every interval was replayed.
  double miss_tenth = 1, miss_one = 1;
  std::vector<Verdict> verdicts;
  std::string sentence;

  bool holds() const;  // no check failed
  const Check* find(std::string_view name) const;
  nlohmann::json to_json() const;
};

// Version, source and digest of the program that says all this.
nlohmann::json verifier_build();

// P(miss) when `drawn` of `total` intervals are replayed and `forged` of them are false.
double miss_probability(int64_t total, int64_t forged, int64_t drawn);

}  // namespace naite::verify
