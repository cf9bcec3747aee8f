// SPDX-License-Identifier: Apache-2.0
// What others vouch for: organisations that signed checkpoints beside the publisher, and verifiers
// who replayed a part each.
#include <algorithm>
#include <map>

#include "ledger/ledger.h"
#include "verify/audit.h"
#include "verify/mirror.h"
#include "verify/signed_report.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::StoredState;

bool Audit::asks_for_organisations() const {
  return request_.policy && !request_.policy->organisations.empty();
}

bool Audit::has_cosignatures() const {
  std::error_code code;
  return std::any_of(history_.stored.begin(), history_.stored.end(), [&](const StoredState& state) {
    return fs::exists(request_.run / state.directory / ledger::kCosignaturesDirectory, code);
  });
}

// Every co-signature that is there signs the files that the log has; who signed which.
Result<Finding> Audit::cosignatures() const {
  std::map<std::string, std::vector<int64_t>> signed_by;  // hint of a key: steps
  int64_t checkpoints = 0, last = 0;
  for (const StoredState& state : history_.stored) {
    if (history_.find(state.step) != &state || !state.checkpoint) continue;
    ++checkpoints;
    last = state.step;
    if (request_.mirror != nullptr && request_.policy && fs::exists(request_.run / state.directory))
      for (const Organisation& organisation : request_.policy->organisations)
        NAITE_TRY(request_.mirror->fetch_cosignature(state, organisation.key));
    NAITE_ASSIGN(const std::vector<ledger::ModelCosignature> found,
                 ledger::read_cosignatures(request_.run / state.directory));
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
    if (request_.policy)
      for (const Organisation& candidate : request_.policy->organisations)
        if (candidate.key.hint() == hint) organisation = &candidate;
    of_the_last += organisation != nullptr && steps.back() == last;
    std::string& list = organisation != nullptr ? known : unknown;
    list += fmt::format("{}{} ({} of {} checkpoints)", list.empty() ? "" : ", ",
                        organisation != nullptr ? organisation->name : "key " + hint.substr(0, 16),
                        steps.size(), checkpoints);
  }
  if (!asks_for_organisations())
    return Finding{"by " + unknown + "; no policy says whose keys they are", Outcome::kOpen};
  if (of_the_last < request_.policy->organisation_quorum)
    return fail("{} of the policy's organisations co-signed the last checkpoint, it asks for {}",
                of_the_last, request_.policy->organisation_quorum);
  return Finding{fmt::format("by {}{}{}", known.empty() ? "nobody whom the policy names" : known,
                             unknown.empty() ? "" : "; and by unknown ", unknown)};
}

// One verifier's report: about this very log, by a verifier whom the policy names, without a
// failure, and about intervals that the log has.
Status Audit::take_report(const fs::path& file, const std::vector<Interval>& all,
                          std::vector<std::string>& who) {
  NAITE_ASSIGN(const SignedReport report, SignedReport::load(file));
  const std::string& name = report.signer.name;
  if (report.head != report_.head || report.commitment != report_.commitment)
    return fail("{} is about another head: {} with {} entries, here {} with {}", file.string(),
                report.head.origin, report.head.size, report_.head.origin, report_.head.size);
  if (request_.policy &&
      std::find(request_.policy->verifiers.begin(), request_.policy->verifiers.end(),
                report.signer) == request_.policy->verifiers.end())
    return fail("{} is signed by {}, whom the policy does not name under `verifiers`",
                file.string(), report.signer.vkey());
  for (const Replay& replay : report.replays) {
    const auto interval = std::find_if(all.begin(), all.end(), [&](const Interval& one) {
      return one.begin->step == replay.first_step && one.end->step == replay.end_step;
    });
    if (interval == all.end())
      return fail("{}: steps {} to {} are no interval of the log", file.string(),
                  replay.first_step + 1, replay.end_step);
    if (!replay.same_bits)
      return fail("{}: {} found other bits in steps {} to {}", file.string(), name,
                  replay.first_step + 1, replay.end_step);
    std::string& names = who[static_cast<size_t>(interval - all.begin())];
    names += (names.empty() ? "by " : ", ") + name;
  }
  if (!report.failure.empty())
    return fail("{}: {} found that the run does not hold: {}", file.string(), name, report.failure);
  if (std::find(verifiers_.begin(), verifiers_.end(), name) == verifiers_.end())
    verifiers_.push_back(name);
  return {};
}

// The reports together: every interval is vouched for.
Result<Finding> Audit::reports() {
  NAITE_ASSIGN(const std::vector<Interval> all, intervals());
  report_.num_intervals = static_cast<int64_t>(all.size());
  std::vector<std::string> who(all.size());
  for (const fs::path& file : request_.replay.reports) NAITE_TRY(take_report(file, all, who));
  for (size_t i = 0; i < all.size(); ++i)
    if (who[i].empty())
      return fail("no report is about steps {} to {}: a shard is missing", all[i].begin->step + 1,
                  all[i].end->step);
  for (size_t i = 0; i < all.size(); ++i)
    report_.replays.push_back({all[i].begin->step, all[i].end->step, true, who[i]});
  report_.miss_tenth = report_.miss_one = 0;
  const std::string detail = fmt::format("{} reports of {} cover {} of {} intervals: same bits",
                                         request_.replay.reports.size(),
                                         fmt::join(verifiers_, ", "), all.size(), all.size());
  if (request_.policy) return Finding{detail};
  return Finding{detail + "; no policy says who they are", Outcome::kOpen};
}

}  // namespace naite::verify
