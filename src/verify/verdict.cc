// SPDX-License-Identifier: Apache-2.0
#include "verify/verdict.h"

#include <algorithm>

namespace naite::verify {

namespace {

constexpr std::string_view kLimit =
    "That its text was written by another model (distillation through data) cannot be excluded.";

bool held(const Report& report, std::string_view name) {
  const Check* check = report.find(name);
  return check != nullptr && check->outcome == Outcome::kHolds;
}

// What a policy refuses may be what its log claims all the same, so that comes last.
const Check* first_failure(const Report& report) {
  for (const Check& check : report.checks)
    if (check.outcome == Outcome::kFails && !check.by_policy) return &check;
  return report.first(Outcome::kFails);
}

// Of a component whose check does not hold: contradicted only if that very check says so.
Verdict unsettled(const std::string& component, const Report& report, std::string_view name) {
  const Check* check = report.find(name);
  if (check == nullptr)
    return {component, "could not be checked", "what comes before it does not hold"};
  if (check->outcome == Outcome::kFails) return {component, "contradicted", check->detail};
  return {component, "could not be checked", check->detail};
}

// Steps that no stored state comes after: nobody can train them again and compare.
std::string tail_of(const record::RunHistory& history) {
  if (history.stored.empty() || history.stored.back().step >= history.last_step()) return "";
  return fmt::format("; steps {} to {} have no stored state after them yet",
                     history.stored.back().step + 1, history.last_step());
}

Verdict weights_verdict(const record::RunHistory& history, const Report& report,
                        const std::vector<std::string>& verifiers, bool has_policy) {
  if (const Check* failure = first_failure(report))
    return {"weights", failure->by_policy ? "not accepted by the policy" : "contradicted",
            fmt::format("{}: {}", failure->name, failure->detail)};
  if (const Check* open = report.first(Outcome::kUnchecked))
    return {"weights", "could not be checked", fmt::format("{}: {}", open->name, open->detail)};
  const auto replayed = static_cast<int64_t>(report.replays.size());
  const int64_t first_step = history.commitment.first_step();
  if (!history.commitment.branch.is_null())
    return {"weights", "derived from another run",
            fmt::format("{} the state {} of another run, which must be verified itself; {} of {} "
                        "intervals replayed",
                        goes_on_from_known_state(history.commitment)
                            ? "they go on from"
                            : "they are declared, which nothing here shows, to come from",
                        history.commitment.branch.value("state_digest", ""), replayed,
                        report.num_intervals)};
  const bool first =
      std::any_of(report.replays.begin(), report.replays.end(),
                  [&](const Replay& replay) { return replay.first_step == first_step; });
  if (report.find("initial") == nullptr)
    return {"weights", "declared", "nothing could be computed here"};
  if (replayed == 0)
    return {"weights", "from scratch as claimed, nothing replayed",
            "the first checkpoint is what the seed gives; ask for --sample or --all"};
  if (replayed == report.num_intervals && !verifiers.empty())
    return {
        "weights", has_policy ? "from scratch" : "from scratch as reported",
        fmt::format("every interval was trained again with the same bits by {}, {}{}",
                    fmt::join(verifiers, ", "),
                    has_policy ? "whom the policy names" : "who may be anybody", tail_of(history))};
  if (replayed == report.num_intervals)
    return {"weights", "from scratch",
            "every interval was trained again with the same bits" + tail_of(history)};
  if (!first)
    return {"weights", "as claimed where replayed",
            fmt::format("{} of {} intervals, not the first", replayed, report.num_intervals)};
  return {"weights", "from scratch where replayed",
          fmt::format("{} of {} intervals, the first from the seed included", replayed,
                      report.num_intervals)};
}

Verdict tokenizer_verdict(const train::Curriculum& curriculum, const Report& report) {
  if (!held(report, "recipe")) return unsettled("tokenizer", report, "recipe");
  if (!curriculum.first().tokenizer.file.empty())
    return {"tokenizer", "derived from a given file",
            "the recipe names a finished tokenizer; where that comes from is not declared"};
  if (curriculum.first().tokenizer.vocab_size == 256)  // compared under "recipe"
    return {"tokenizer", "from scratch", "plain bytes: nothing is learnt"};
  if (held(report, "text"))
    return {"tokenizer", "from scratch", "trained again from the raw text with the same result"};
  if (report.find("text") != nullptr) return unsettled("tokenizer", report, "text");
  return {"tokenizer", "declared", "not trained again: give the raw text with --text"};
}

Verdict data_verdict(const Report& report) {
  if (!held(report, "data")) return unsettled("data", report, "data");
  if (held(report, "text"))
    return {"data", "as declared, packed again from the raw text",
            "every shard follows from the files that the manifest lists"};
  if (report.find("text") != nullptr) return unsettled("data", report, "text");
  return {"data", "declared by digest", "not compared with the raw text: --text"};
}

// What the manifest says about sources, beside their bytes. A source of which nothing was read is
// called so: it would adorn a run for nothing.
Verdict origins_verdict(const Claims& claims) {
  std::string sources;
  for (const data::ManifestSource& source : claims.manifest().sources) {
    const auto read = claims.tokens_read().find(source.name);
    const int64_t tokens = read == claims.tokens_read().end() ? 0 : read->second;
    sources +=
        fmt::format("{}{} ({}; {}; {})", sources.empty() ? "" : ", ", source.name,
                    source.license.empty() ? "no license named" : source.license,
                    source.origin.empty() ? "no origin named" : source.origin,
                    tokens == 0 ? "nothing was read of it" : fmt::format("{} tokens read", tokens));
  }
  return {"origins", "declared", "names, licences and origins are the trainer's word: " + sources};
}

// Losses, and what was measured on held-out text, are computed again where the training is.
Verdict figures_verdict(const Report& report, const std::vector<std::string>& verifiers) {
  const auto same = std::count_if(report.replays.begin(), report.replays.end(),
                                  [](const Replay& replay) { return replay.same_bits; });
  const std::string what = "losses and held-out measurements of checkpoints: ";
  if (same == 0)
    return {"figures", "declared", what + "the trainer's word, as nothing was trained again"};
  if (same < report.num_intervals)
    return {"figures", "recomputed where replayed, else declared",
            what + fmt::format("those of {} of {} intervals", same, report.num_intervals)};
  return {"figures", verifiers.empty() ? "recomputed" : "recomputed as reported",
          what + "those of every interval"};
}

Verdict seed_verdict(const record::RunHistory& history, const Report& report) {
  const Check* check = report.find("seed");
  if (check == nullptr || (check->outcome != Outcome::kHolds && check->outcome != Outcome::kOpen))
    return unsettled("seed", report, "seed");
  if (!history.seed->beacon)
    return {"seed", "chosen by the trainer", "others may have been tried before"};
  return {"seed", "follows from a declared value",
          fmt::format("it follows from the commitment and {}; that this is the beacon's value, and "
                      "that nobody knew it before the commitment, is the trainer's word: look it "
                      "up, and ask when a witness first cosigned the log",
                      history.seed->value)};
}

// What stands in the log about how, when and on what the run was made.
Verdict circumstances_verdict(const record::RunHistory& history) {
  const record::Commitment& claims = history.commitment;
  return {"circumstances", "declared",
          fmt::format("the name {}, that naite {} ({}) made it, all times and all machines are the "
                      "trainer's word",
                      claims.name, claims.version, claims.source_commit)};
}

// What can be quoted when the answer is not that the run holds; empty if it is.
std::string refusal_of(const Report& report) {
  const std::string& run = report.origin.empty() ? report.run : report.origin;
  if (const Check* failure = first_failure(report))
    return fmt::format("The run {} is not {}: {} ({}). {}", run,
                       failure->by_policy ? "one that the policy accepts" : "what its log claims",
                       failure->detail, failure->name, kLimit);
  if (const Check* open = report.first(Outcome::kUnchecked))
    return fmt::format(
        "Whether the run {} is what its log claims could not be checked: {} ({}). "
        "Nothing that was checked contradicts it. {}",
        run, open->detail, open->name, kLimit);
  return "";
}

std::string sentence_of(const Claims& claims, const std::vector<std::string>& verifiers,
                        bool has_policy, const Report& report) {
  if (std::string refusal = refusal_of(report); !refusal.empty()) return refusal;
  const record::RunHistory& history = claims.history();
  const auto replayed = static_cast<int64_t>(report.replays.size());
  const std::string who = claims.is_unsigned() ? "signed by nobody but itself"
                          : has_policy         ? "signed by " + report.signer
                                               : "self-signed as " + report.signer;
  const std::string bits =
      replayed == 0
          ? "no interval was trained again"
          : fmt::format("{} of {} intervals were trained again{} and gave the same bits", replayed,
                        report.num_intervals,
                        verifiers.empty()
                            ? std::string()
                            : fmt::format(", as reported by {},", fmt::join(verifiers, ", "))) +
                tail_of(history);
  const std::string began =
      !history.commitment.branch.is_null() ? goes_on_from_known_state(history.commitment)
                                                 ? "began with a state of another run"
                                                 : "which is declared to go on from another run"
      : report.find("initial") != nullptr  ? "began with the tensors that its seed gives"
                                           : "whose beginning was not computed";
  const bool all_states = held(report, "states");
  return fmt::format("The run {}, {}, {}, {} and its log agree, and {}. {}", report.origin, who,
                     began, all_states ? "its files" : "those of its files that were fetched", bits,
                     kLimit);
}

}  // namespace

void conclude(const Claims& claims, const std::vector<std::string>& verifiers, bool has_policy,
              Report& report) {
  const record::RunHistory& history = claims.history();
  report.verdicts = {weights_verdict(history, report, verifiers, has_policy),
                     tokenizer_verdict(claims.curriculum(), report), data_verdict(report)};
  if (held(report, "recipe")) {
    report.verdicts.push_back(origins_verdict(claims));
    report.verdicts.push_back(figures_verdict(report, verifiers));
    report.verdicts.push_back(seed_verdict(history, report));
    report.verdicts.push_back(circumstances_verdict(history));
  }
  report.verdicts.push_back({"teachers", "undeclared",
                             "the recipe names none; that another model wrote some of the text "
                             "cannot be excluded"});
  report.sentence = sentence_of(claims, verifiers, has_policy, report);
}

}  // namespace naite::verify
