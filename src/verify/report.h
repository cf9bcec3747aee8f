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
  kFails,      // what is there contradicts what was claimed
  kOpen,       // nobody claimed it, or it was not asked for: said, never counted as held
  kUnchecked,  // it was asked for and could not be found out here: said with what to do
};

std::string_view outcome_name(Outcome outcome);  // holds, fails, open, unchecked

// The three answers to the question whether a run is what its log claims, and what the verifier's
// own policy asks for.
enum class Answer {
  kHolds,         // every check that was asked for holds
  kContradicted,  // one fails
  kUnchecked,     // none fails, and one could not be done
};

std::string_view answer_name(Answer answer);  // holds, contradicted, could not be checked

struct Check {
  std::string name;  // stable: programs and the table of attacks read it
  Outcome outcome = Outcome::kHolds;
  std::string detail;
  bool by_policy = false;  // fails only because the verifier's own policy refuses it
};

// An interval between two stored states that was trained again.
struct Replay {
  int64_t first_step = 0, end_step = 0;
  bool same_bits = false;
  std::string why;  // first, largest change, random, asked for
};

struct Verdict {
  std::string
      component;        // weights, figures, tokenizer, data, origins, seed, circumstances, teachers
  std::string verdict;  // from scratch, recomputed, declared, undeclared, contradicted ...
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

  Answer answer() const;
  bool holds() const { return answer() == Answer::kHolds; }
  const Check* first(Outcome outcome) const;  // nullptr: none
  const Check* find(std::string_view name) const;
  nlohmann::json to_json() const;
};

// Version, source and digest of the program that says all this.
nlohmann::json verifier_build();

// P(miss) when `drawn` of `total` intervals are replayed and `forged` of them are false.
double miss_probability(int64_t total, int64_t forged, int64_t drawn);

}  // namespace naite::verify
