// SPDX-License-Identifier: Apache-2.0
#include "verify/vouchers.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/clock.h"
#include "ledger/ledger.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::StoredState;

bool Vouchers::asks_for_organisations() const {
  return setting_.request.policy && !setting_.request.policy->organisations.empty();
}

bool Vouchers::has_cosignatures() const {
  std::error_code code;
  return asks_for_organisations() ||
         std::any_of(history_.stored.begin(), history_.stored.end(), [&](const StoredState& state) {
           return fs::exists(setting_.run.path() / state.directory / ledger::kCosignaturesDirectory,
                             code);
         });
}

Result<std::vector<ledger::ModelCosignature>> Vouchers::cosignatures_of(
    const StoredState& state) const {
  const fs::path directory = setting_.run.path() / state.directory;
  if (setting_.request.policy && fs::exists(directory))
    for (const Organisation& organisation : setting_.request.policy->organisations)
      NAITE_TRY(setting_.source.fetch_cosignature(state, organisation.key));
  return ledger::read_cosignatures(directory);
}

// Every co-signature that is there signs the files that the log has; who signed which.
Result<Finding> Vouchers::cosignatures() const {
  std::map<std::string, std::vector<int64_t>> signed_by;  // hint of a key: steps
  int64_t checkpoints = 0, last = 0;
  for (const StoredState& state : history_.stored) {
    if (!state.checkpoint) continue;
    ++checkpoints;
    last = state.step;
    NAITE_ASSIGN(const std::vector<ledger::ModelCosignature> found, cosignatures_of(state));
    for (const ledger::ModelCosignature& one : found) {
      if (ledger::to_hex(one.signature.manifest.digest()) != state.manifest)
        return fail("{}: the co-signature {} is over other files", state.directory,
                    ledger::cosignature_id(one.key));
      if (one.key.public_pem() == history_.commitment.model_key)
        return fail("{}: the co-signature {} is of the publisher's own key", state.directory,
                    ledger::cosignature_id(one.key));
      signed_by[one.key.hint()].push_back(state.step);
    }
  }
  std::string known, unknown;
  int64_t of_the_last = 0;
  for (const auto& [hint, steps] : signed_by) {
    const Organisation* organisation = nullptr;
    if (setting_.request.policy)
      for (const Organisation& candidate : setting_.request.policy->organisations)
        if (candidate.key.hint() == hint) organisation = &candidate;
    of_the_last += organisation != nullptr && steps.back() == last;
    std::string& list = organisation != nullptr ? known : unknown;
    list += fmt::format("{}{} ({} of {} checkpoints)", list.empty() ? "" : ", ",
                        organisation != nullptr ? organisation->name : "key " + hint.substr(0, 16),
                        steps.size(), checkpoints);
  }
  if (!asks_for_organisations())
    return Finding{"by " + unknown + "; no policy says whose keys they are", Outcome::kOpen};
  if (of_the_last < setting_.request.policy->organisation_quorum)
    return refused("{} of the policy's organisations co-signed the last checkpoint, it asks for {}",
                   of_the_last, setting_.request.policy->organisation_quorum);
  return Finding{fmt::format("by {}{}{}", known.empty() ? "nobody whom the policy names" : known,
                             unknown.empty() ? "" : "; and by unknown ", unknown)};
}

// What a verifier says against a run counts if it is one whom somebody trusts.
Error Vouchers::accusation(const std::string& what) const {
  if (setting_.request.policy) return fail("{}", what);
  return unable("{}; no policy says who that is", what);
}

// By somebody else than the run's publisher, whom the policy names, under one name.
Status Vouchers::check_verifier(const SignedReport& report) {
  const ledger::Verifier& signer = report.signer;
  const auto& policy = setting_.request.policy;
  if (policy && std::find(policy->verifiers.begin(), policy->verifiers.end(), signer) ==
                    policy->verifiers.end())
    return fail("signed by {}, whom the policy does not name under `verifiers`", signer.vkey());
  const Result<ledger::Verifier> own = ledger::Verifier::parse(history_.commitment.vkey);
  if (own.ok() && own->key == signer.key)
    return fail("signed by {} with the key of the run itself", signer.name);
  const std::string& known = names_.try_emplace(signer.key, signer.name).first->second;
  if (known != signer.name)
    return fail("signed with one key under two names, {} and {}", known, signer.name);
  if (report.version != kVersion)
    return fail("made by naite {}, this is {}: combine it with that version", report.version,
                kVersion);
  if (report.time < history_.commitment.time - kClockSkew)
    return fail("it says that it was made before the run; the clock there or here is wrong");
  if (report.time > unix_seconds() + kClockSkew)
    return fail("it says that it was made in the future; the clock there or here is wrong");
  return {};
}

// One verifier's report: about this very log, by a verifier whom the policy names, without a
// failure, complete, and about intervals that the log has.
Status Vouchers::take_report(const fs::path& file, const Report& ours,
                             const std::vector<Interval>& all, std::vector<std::string>& who) {
  const Result<SignedReport> loaded = SignedReport::load(file);
  if (!loaded) return unable("{}", loaded.error().message);  // it vouches for nothing
  const SignedReport& report = *loaded;
  const std::string& name = report.signer.name;
  if (report.head != ours.head || report.commitment != ours.commitment)
    return unable("{} is about another head: {} with {} entries, here {} with {}", file.string(),
                  report.head.origin, report.head.size, ours.head.origin, ours.head.size);
  if (const Status status = check_verifier(report); !status)
    return unable("{}: {}", file.string(), status.error().message);
  if (report.num_intervals != static_cast<int64_t>(all.size()))
    return unable("{} is about {} intervals, the log has {}", file.string(), report.num_intervals,
                  all.size());
  std::set<size_t> replayed;
  for (const Replay& replay : report.replays) {
    const auto interval = std::find_if(all.begin(), all.end(), [&](const Interval& one) {
      return one.begin->step == replay.first_step && one.end->step == replay.end_step;
    });
    if (interval == all.end())
      return unable("{}: steps {} to {} are no interval of the log", file.string(),
                    replay.first_step + 1, replay.end_step);
    if (!replay.same_bits)
      return accusation(fmt::format("{}: {} found other bits in steps {} to {}", file.string(),
                                    name, replay.first_step + 1, replay.end_step));
    if (!replayed.insert(static_cast<size_t>(interval - all.begin())).second)
      return unable("{}: steps {} to {} are in it twice", file.string(), replay.first_step + 1,
                    replay.end_step);
  }
  if (!report.failure.empty())
    return accusation(fmt::format("{}: {} found that the run does not hold: {}", file.string(),
                                  name, report.failure));
  if (const Status status = report.check_complete(!history_.commitment.branch.is_null()); !status)
    return unable("{} says too little: {}", file.string(), status.error().message);
  for (const size_t i : replayed) who[i] += (who[i].empty() ? "by " : ", ") + name;
  if (std::find(verifiers_.begin(), verifiers_.end(), name) == verifiers_.end())
    verifiers_.push_back(name);
  return {};
}

// The reports together: every interval is vouched for.
Result<Finding> Vouchers::reports(Report& report) {
  const std::vector<Interval> all = intervals_of(history_);
  report.num_intervals = static_cast<int64_t>(all.size());
  std::vector<std::string> who(all.size());
  for (const fs::path& file : setting_.request.replay.reports)
    NAITE_TRY(take_report(file, report, all, who));
  if (all.empty()) return Finding{kNothingToReplay, Outcome::kOpen};
  for (size_t i = 0; i < all.size(); ++i)
    if (who[i].empty())
      return unable("no report is about steps {} to {}: a shard is missing", all[i].begin->step + 1,
                    all[i].end->step);
  for (size_t i = 0; i < all.size(); ++i)
    report.replays.push_back({all[i].begin->step, all[i].end->step, true, who[i]});
  report.miss_tenth = report.miss_one = 0;
  const std::string detail = fmt::format("{} reports of {} cover {} of {} intervals: same bits",
                                         setting_.request.replay.reports.size(),
                                         fmt::join(verifiers_, ", "), all.size(), all.size());
  if (setting_.request.policy) return Finding{detail};
  return Finding{detail + "; no policy says who they are", Outcome::kOpen};
}

}  // namespace naite::verify
