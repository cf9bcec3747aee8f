// SPDX-License-Identifier: Apache-2.0
#include "verify/verify.h"

#include "base/shown.h"
#include "verify/autosaves.h"
#include "verify/states.h"
#include "verify/verdict.h"
#include "verify/vouchers.h"

namespace naite::verify {

bool Checklist::check(std::string_view name, const Result<Finding>& finding) {
  Check out{std::string(name), Outcome::kFails, ""};
  if (finding.ok()) {
    out.outcome = finding->outcome;
    out.detail = shown_line(finding->detail);
  } else {
    out.detail = finding.error().message;
  }
  report_.checks.push_back(std::move(out));
  return finding.ok();
}

bool Checklist::failed(std::string_view name) const {
  const Check* check = report_.find(name);
  return check != nullptr && check->outcome == Outcome::kFails;
}

namespace {

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

}  // namespace

Result<Report> verify(const VerifyRequest& request, kernels::Kernels& kernels, ThreadPool& pool) {
  if (!std::filesystem::is_directory(request.run))
    return fail("{} is no run directory", request.run.string());
  RunSource at_hand;
  RunSource& source = request.source != nullptr ? *request.source : at_hand;
  Setting setting{request, source, record::RunDirectory(request.run),
                  kernels, pool,   record::StoredStates(pool)};
  Report report;
  report.run = source.name_of(request.run);
  Checklist list(report, request.fail_fast);
  Claims claims(setting);
  States states(setting, claims);
  Replays replays(setting, claims);
  Vouchers vouchers(setting, claims.history());
  const bool goes_on = claims.check_log(list) &&
                       (!source.is_whole() || list.may_fail("bytes", states.bytes())) &&
                       claims.check_rest(list) &&
                       check_states(setting, claims.history(), states, vouchers, replays, list);
  // What cannot be asked, or not be done here, is no fault of the run.
  if (!claims.has_begun())
    return fail("{}: its log has no state yet: there is nothing to verify yet", report.run);
  const bool replay = request.replay.kind != Selection::Kind::kNone;
  if (replay && !replays.fit())
    return fail("{}: {}; take a machine with more, or leave the replay to others", report.run,
                report.find("memory")->detail);
  if (goes_on && request.replay.kind == Selection::Kind::kReports) {
    list.check("reports", vouchers.reports(report));
  } else if (goes_on && replay) {
    NAITE_ASSIGN(const std::vector<Interval> chosen, replays.selected(report));
    list.check("replay", replays.replays(chosen, report));
  }
  if (setting.stopped()) return fail("interrupted");
  conclude(claims, vouchers.verifiers(), request.policy.has_value(), report);
  for (Verdict& verdict : report.verdicts) verdict.reason = shown_line(verdict.reason);
  report.sentence = shown_line(report.sentence);
  return report;
}

}  // namespace naite::verify
