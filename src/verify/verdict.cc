// SPDX-License-Identifier: Apache-2.0
#include "verify/verdict.h"

#include <algorithm>

namespace naite::verify {

namespace {

bool held(const Report& report, std::string_view name) {
  const Check* check = report.find(name);
  return check != nullptr && check->outcome == Outcome::kHolds;
}

const Check* first_failure(const Report& report) {
  for (const Check& check : report.checks)
    if (check.outcome == Outcome::kFails) return &check;
  return nullptr;
}

Verdict weights_verdict(const record::RunHistory& history, const Report& report,
                        const std::vector<std::string>& verifiers, bool has_policy) {
  if (const Check* failure = first_failure(report))
    return {"weights", "contradicted", fmt::format("{}: {}", failure->name, failure->detail)};
  const auto replayed = static_cast<int64_t>(report.replays.size());
  const int64_t first_step = history.commitment.first_step();
  if (!history.commitment.branch.is_null())
    return {"weights", "derived from another run",
            fmt::format("they go on from the state {} of another run, which must be verified "
                        "itself; {} of {} intervals replayed",
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
    return {"weights", has_policy ? "from scratch" : "from scratch as reported",
            fmt::format("every interval was trained again with the same bits by {}, {}",
                        fmt::join(verifiers, ", "),
                        has_policy ? "whom the policy names" : "who may be anybody")};
  if (replayed == report.num_intervals)
    return {"weights", "from scratch", "every interval was trained again with the same bits"};
  if (!first)
    return {"weights", "as claimed where replayed",
            fmt::format("{} of {} intervals, not the first", replayed, report.num_intervals)};
  return {"weights", "from scratch where replayed",
          fmt::format("{} of {} intervals, the first from the seed included", replayed,
                      report.num_intervals)};
}

Verdict tokenizer_verdict(const train::Curriculum& curriculum, const Report& report) {
  if (!held(report, "recipe")) return {"tokenizer", "contradicted", "the recipe does not hold"};
  if (!curriculum.first().tokenizer.file.empty())
    return {"tokenizer", "derived from a given file",
            "the recipe names a finished tokenizer; where that comes from is not declared"};
  if (curriculum.first().tokenizer.vocab_size == 256)
    return {"tokenizer", "from scratch", "plain bytes: nothing is learnt"};
  if (held(report, "text"))
    return {"tokenizer", "from scratch", "trained again from the raw text with the same result"};
  if (report.find("text") != nullptr)
    return {"tokenizer", "contradicted", report.find("text")->detail};
  return {"tokenizer", "declared", "not trained again: give the raw text with --text"};
}

Verdict data_verdict(const data::Manifest& manifest, const Report& report) {
  if (!held(report, "data")) return {"data", "contradicted", "the shards do not hold"};
  std::string sources;
  for (const data::ManifestSource& source : manifest.sources)
    sources += fmt::format("{}{} ({}; {})", sources.empty() ? "" : ", ", source.name,
                           source.license.empty() ? "no license named" : source.license,
                           source.origin.empty() ? "no origin named" : source.origin);
  if (held(report, "text")) return {"data", "as declared, packed again from the raw text", sources};
  if (report.find("text") != nullptr) return {"data", "contradicted", report.find("text")->detail};
  return {"data", "declared by digest", sources + "; not compared with the raw text: --text"};
}

}  // namespace

void conclude(const Claims& claims, const std::vector<std::string>& verifiers, bool has_policy,
              Report& report) {
  const record::RunHistory& history = claims.history();
  report.verdicts = {weights_verdict(history, report, verifiers, has_policy),
                     tokenizer_verdict(claims.curriculum(), report),
                     data_verdict(claims.manifest(), report),
                     {"teachers", "undeclared",
                      "the recipe names none; that another model wrote some of the text cannot be "
                      "excluded"}};
  constexpr std::string_view kLimit =
      "That its text was written by another model (distillation through data) cannot be excluded.";
  if (const Check* failure = first_failure(report)) {
    report.sentence = fmt::format("The run {} is not what its log claims: {} ({}). {}",
                                  report.origin.empty() ? report.run : report.origin,
                                  failure->detail, failure->name, kLimit);
    return;
  }
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
                            : fmt::format(", as reported by {},", fmt::join(verifiers, ", ")));
  const std::string began =
      !history.commitment.branch.is_null() ? "began with a state of another run"
      : report.find("initial") != nullptr  ? "began with the tensors that its seed gives"
                                           : "whose beginning was not computed";
  const bool all_states = held(report, "states");
  report.sentence =
      fmt::format("The run {}, {}, {}, {} and its log agree, and {}. {}", report.origin, who, began,
                  all_states ? "its files" : "those of its files that were fetched", bits, kLimit);
}

}  // namespace naite::verify
