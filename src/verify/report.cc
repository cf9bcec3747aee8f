// SPDX-License-Identifier: Apache-2.0
#include "verify/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ledger/encoding.h"

namespace naite::verify {

using nlohmann::json;

namespace {

// The digest of the program that says all this; empty where the system does not tell.
std::string binary_digest() {
  const Result<std::string> digest = sha256_file("/proc/self/exe");
  return digest.ok() ? *digest : "";
}

}  // namespace

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kHolds:
      return "holds";
    case Outcome::kFails:
      return "fails";
    case Outcome::kOpen:
      return "open";
    default:
      return "unchecked";
  }
}

std::string_view answer_name(Answer answer) {
  switch (answer) {
    case Answer::kHolds:
      return "holds";
    case Answer::kContradicted:
      return "contradicted";
    default:
      return "could not be checked";
  }
}

json verifier_build() {
  return {{"version", kVersion},
          {"source_commit", source_commit()},
          {"compiler", compiler_name()},
          {"binary_sha256", binary_digest()}};
}

Answer Report::answer() const {
  if (first(Outcome::kFails) != nullptr) return Answer::kContradicted;
  return first(Outcome::kUnchecked) != nullptr ? Answer::kUnchecked : Answer::kHolds;
}

const Check* Report::first(Outcome outcome) const {
  const auto found = std::find_if(checks.begin(), checks.end(),
                                  [&](const Check& check) { return check.outcome == outcome; });
  return found == checks.end() ? nullptr : &*found;
}

const Check* Report::find(std::string_view name) const {
  for (const Check& check : checks)
    if (check.name == name) return &check;
  return nullptr;
}

json Report::to_json() const {
  json out = {{"run", run},
              {"origin", origin},
              {"signer", signer},
              {"answer", answer_name(answer())},
              {"holds", holds()},
              {"head", {{"size", head.size}, {"root", ledger::to_hex(head.root)}}},
              {"commitment", commitment},
              {"verifier", verifier_build()},
              {"checks", json::array()},
              {"intervals", num_intervals},
              {"replays", json::array()},
              {"miss_probability", {{"tenth_forged", miss_tenth}, {"one_forged", miss_one}}},
              {"verdicts", json::array()},
              {"sentence", sentence}};
  for (const Check& check : checks)
    out["checks"].push_back({{"name", check.name},
                             {"outcome", outcome_name(check.outcome)},
                             {"by_policy", check.by_policy},
                             {"detail", check.detail}});
  for (const Replay& replay : replays)
    out["replays"].push_back({{"first_step", replay.first_step},
                              {"end_step", replay.end_step},
                              {"same_bits", replay.same_bits},
                              {"why", replay.why}});
  for (const Verdict& verdict : verdicts)
    out["verdicts"].push_back({{"component", verdict.component},
                               {"verdict", verdict.verdict},
                               {"reason", verdict.reason}});
  return out;
}

// C(total - forged, drawn) / C(total, drawn), factor by factor.
double miss_probability(int64_t total, int64_t forged, int64_t drawn) {
  double miss = 1;
  for (int64_t i = 0; i < drawn; ++i)
    miss *= static_cast<double>(std::max<int64_t>(0, total - forged - i)) /
            static_cast<double>(std::max<int64_t>(1, total - i));
  return miss;
}

}  // namespace naite::verify
