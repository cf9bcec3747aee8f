// SPDX-License-Identifier: Apache-2.0
#include "verify/verify.h"

#include "base/json_text.h"
#include "base/machine_limits.h"
#include "base/shown.h"
#include "verify/autosaves.h"
#include "verify/mirror.h"
#include "verify/states.h"
#include "verify/verdict.h"
#include "verify/vouchers.h"

namespace naite::verify {

namespace {

Outcome outcome_of(ErrorKind kind, bool missing_is_open_to_question) {
  switch (kind) {
    case ErrorKind::kWrong:
    case ErrorKind::kRefused:
      return Outcome::kFails;
    case ErrorKind::kMissing:
      return missing_is_open_to_question ? Outcome::kUnchecked : Outcome::kFails;
    default:
      return Outcome::kUnchecked;
  }
}

}  // namespace

int64_t Setting::memory() const {
  return request.memory_bytes > 0 ? request.memory_bytes : usable_memory_bytes();
}

Status Setting::room_for(double bytes, std::string_view what) const {
  if (bytes <= static_cast<double>(memory())) return {};
  return unable(
      "{} may take {:.0f} MiB of memory, this process may use {} MiB: take a machine with more",
      what, bytes / (1 << 20), memory() >> 20);
}

bool Checklist::check(std::string_view name, const Result<Finding>& finding) {
  Check out{std::string(name), Outcome::kHolds, ""};
  if (finding.ok()) {
    out.outcome = finding->outcome;
    out.detail = shown_line(finding->detail);
  } else {
    const Error& error = finding.error();
    out.outcome = outcome_of(error.kind, if_missing_.has_value());
    out.by_policy = error.kind == ErrorKind::kRefused;
    out.detail = error.message;
    if (error.kind == ErrorKind::kMissing && if_missing_)
      out.detail += "; " + shown_line(*if_missing_);
  }
  const bool goes_on = out.outcome == Outcome::kHolds || out.outcome == Outcome::kOpen;
  report_.checks.push_back(std::move(out));
  return goes_on;
}

void Checklist::waive() {
  constexpr std::string_view kOfFiles[] = {"files", "log", "bytes", "autosave", "states"};
  for (Check& check : report_.checks) {
    if (check.outcome != Outcome::kFails ||
        std::find(std::begin(kOfFiles), std::end(kOfFiles), check.name) == std::end(kOfFiles))
      continue;
    check.outcome = Outcome::kUnchecked;
    check.detail += "; the run went on meanwhile: verify it again, or when it is done";
  }
}

bool Checklist::failed(std::string_view name) const {
  const Check* check = report_.find(name);
  return check != nullptr &&
         (check->outcome == Outcome::kFails || check->outcome == Outcome::kUnchecked);
}

namespace {

// A run's directory on this machine. It may be the copy of another one, and not whole yet.
class AtHand final : public RunSource {
 public:
  explicit AtHand(const std::filesystem::path& directory)
      : directory_(directory), address_(Mirror::address_of(directory)) {}
  std::optional<std::string> if_missing() const override {
    if (address_.empty()) return std::nullopt;
    return fmt::format(
        "this is a copy that may not be whole yet: `naite follow {} {}` brings what "
        "is missing",
        address_, directory_.string());
  }

 private:
  const std::filesystem::path directory_;
  const std::string address_;
};

// What is computed rests on the files: from another state than the log has, nothing follows.
bool check_states(const Setting& setting, const record::RunHistory& history, States& states,
                  const Vouchers& vouchers, Replays& replays, Checklist& list) {
  const bool whole = !list.failed("bytes") && list.check("states", states.states());
  if (!whole && setting.request.fail_fast) return false;
  const bool asks = whole && vouchers.has_cosignatures();
  return (!has_autosaves(setting) || list.may_fail("autosave", autosaves(setting, history))) &&
         (!asks || list.may_fail("cosigned", vouchers.cosignatures())) &&
         list.may_fail("distinct", states.distinct()) && list.may_fail("end", states.end()) &&
         whole && list.check("memory", replays.memory()) && replays.fit() &&
         list.check("initial", replays.initial());
}

void check_replays(Vouchers& vouchers, Replays& replays, const Selection& selection,
                   Checklist& list) {
  if (selection.kind == Selection::Kind::kNone) return;
  if (selection.kind == Selection::Kind::kReports) {
    list.check("reports", vouchers.reports(list.report()));
    return;
  }
  const Result<std::vector<Interval>> chosen = replays.selected(list.report());
  list.check("replay", chosen.ok() ? replays.replays(*chosen, list.report()) : chosen.error());
}

// As it stands now; a run that goes on changes it.
std::string head_of(const record::RunDirectory& run) {
  const std::filesystem::path file = run.ledger() / ledger::kHeadFile;
  std::error_code code;
  if (std::filesystem::symlink_status(file, code).type() != std::filesystem::file_type::regular)
    return "";
  const Result<std::string> text = read_file(file, int64_t{1} << 16);
  return text.ok() ? *text : "";
}

}  // namespace

Result<Report> verify(const VerifyRequest& request, kernels::Kernels& kernels, ThreadPool& pool) {
  if (!std::filesystem::is_directory(request.run))
    return missing("{} is no directory: give the folder of a run, or its address",
                   request.run.string());
  AtHand at_hand(request.run);
  RunSource& source = request.source != nullptr ? *request.source : at_hand;
  Setting setting{request, source, record::RunDirectory(request.run),
                  kernels, pool,   record::StoredStates(pool)};
  Report report;
  report.run = source.name_of(request.run);
  Checklist list(report, request.fail_fast, source.if_missing());
  Claims claims(setting);
  States states(setting, claims);
  Replays replays(setting, claims);
  Vouchers vouchers(setting, claims.history());
  const std::string head = head_of(setting.run);
  const bool has_log = claims.check_log(list);
  // What is asked for wrongly is no answer about the run.
  if (has_log) NAITE_TRY(check_selection(request.replay, claims.history()));
  const bool goes_on = has_log && (!source.is_whole() || list.may_fail("bytes", states.bytes())) &&
                       claims.check_rest(list) &&
                       check_states(setting, claims.history(), states, vouchers, replays, list);
  if (goes_on) check_replays(vouchers, replays, request.replay, list);
  if (setting.stopped())
    return unable("interrupted: {} could not be checked; the same command begins again",
                  report.run);
  if (source.is_whole() && !claims.history().ended && head_of(setting.run) != head) list.waive();
  conclude(claims, vouchers.verifiers(), request.policy.has_value(), report);
  for (Verdict& verdict : report.verdicts) verdict.reason = shown_line(verdict.reason);
  report.sentence = shown_line(report.sentence);
  return report;
}

}  // namespace naite::verify
