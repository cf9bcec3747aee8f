// SPDX-License-Identifier: Apache-2.0
// From checks to verdicts, one per component, and to the sentence.
#include <algorithm>

#include "verify/audit.h"

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

}  // namespace

Verdict Audit::weights_verdict() const {
  if (const Check* failure = first_failure(report_))
    return {"weights", "contradicted", fmt::format("{}: {}", failure->name, failure->detail)};
  const auto replayed = static_cast<int64_t>(report_.replays.size());
  const int64_t first_step = history_.commitment.first_step();
  if (!history_.commitment.branch.is_null())
    return {"weights", "derived from another run",
            fmt::format("they go on from the state {} of another run, which must be verified "
                        "itself; {} of {} intervals replayed",
                        history_.commitment.branch.value("state_digest", ""), replayed,
                        report_.num_intervals)};
  const bool first =
      std::any_of(report_.replays.begin(), report_.replays.end(),
                  [&](const Replay& replay) { return replay.first_step == first_step; });
  if (replayed == 0)
    return {"weights", "from scratch as claimed, nothing replayed",
            "the first checkpoint is what the seed gives; ask for --sample or --all"};
  if (replayed == report_.num_intervals && !verifiers_.empty())
    return {"weights", request_.policy ? "from scratch" : "from scratch as reported",
            fmt::format("every interval was trained again with the same bits by {}, {}",
                        fmt::join(verifiers_, ", "),
                        request_.policy ? "whom the policy names" : "who may be anybody")};
  if (replayed == report_.num_intervals)
    return {"weights", "from scratch", "every interval was trained again with the same bits"};
  if (!first)
    return {"weights", "as claimed where replayed",
            fmt::format("{} of {} intervals, not the first", replayed, report_.num_intervals)};
  return {"weights", "from scratch where replayed",
          fmt::format("{} of {} intervals, the first from the seed included", replayed,
                      report_.num_intervals)};
}

Verdict Audit::tokenizer_verdict() const {
  if (!held(report_, "recipe")) return {"tokenizer", "contradicted", "the recipe does not hold"};
  if (!curriculum_.first().tokenizer.file.empty())
    return {"tokenizer", "derived from a given file",
            "the recipe names a finished tokenizer; where that comes from is not declared"};
  if (curriculum_.first().tokenizer.vocab_size == 256)
    return {"tokenizer", "from scratch", "plain bytes: nothing is learnt"};
  if (held(report_, "text"))
    return {"tokenizer", "from scratch", "trained again from the raw text with the same result"};
  if (report_.find("text") != nullptr)
    return {"tokenizer", "contradicted", report_.find("text")->detail};
  return {"tokenizer", "declared", "not trained again: give the raw text with --text"};
}

Verdict Audit::data_verdict() const {
  if (!held(report_, "data")) return {"data", "contradicted", "the shards do not hold"};
  std::string sources;
  for (const data::ManifestSource& source : manifest_.sources)
    sources += fmt::format("{}{} ({}; {})", sources.empty() ? "" : ", ", source.name,
                           source.license.empty() ? "no license named" : source.license,
                           source.origin.empty() ? "no origin named" : source.origin);
  if (held(report_, "text"))
    return {"data", "as declared, packed again from the raw text", sources};
  if (report_.find("text") != nullptr)
    return {"data", "contradicted", report_.find("text")->detail};
  return {"data", "declared by digest", sources + "; not compared with the raw text: --text"};
}

void Audit::conclude() {
  report_.verdicts = {weights_verdict(),
                      tokenizer_verdict(),
                      data_verdict(),
                      {"teachers", "undeclared",
                       "the recipe names none; that another model wrote some of the text cannot be "
                       "excluded"}};
  constexpr std::string_view kLimit =
      "That its text was written by another model (distillation through data) cannot be excluded.";
  if (const Check* failure = first_failure(report_)) {
    report_.sentence = fmt::format("The run {} is not what its log claims: {} ({}). {}",
                                   report_.origin.empty() ? report_.run : report_.origin,
                                   failure->detail, failure->name, kLimit);
    return;
  }
  const auto replayed = static_cast<int64_t>(report_.replays.size());
  const std::string who = unsigned_         ? "signed by nobody but itself"
                          : request_.policy ? "signed by " + report_.signer
                                            : "self-signed as " + report_.signer;
  const std::string bits =
      replayed == 0
          ? "no interval was trained again"
          : fmt::format("{} of {} intervals were trained again{} and gave the same bits", replayed,
                        report_.num_intervals,
                        verifiers_.empty()
                            ? std::string()
                            : fmt::format(", as reported by {},", fmt::join(verifiers_, ", ")));
  const std::string began = history_.commitment.branch.is_null()
                                ? "began with the tensors that its seed gives"
                                : "began with a state of another run";
  const bool all_states = held(report_, "states");
  report_.sentence = fmt::format(
      "The run {}, {}, {}, {} and its log agree, and {}. {}", report_.origin, who, began,
      all_states ? "its files" : "those of its files that were fetched", bits, kLimit);
}

Result<Report> verify(const VerifyRequest& request, kernels::Kernels& kernels, ThreadPool& pool) {
  return Audit(request, kernels, pool).verify();
}

}  // namespace naite::verify
