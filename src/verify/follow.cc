// SPDX-License-Identifier: Apache-2.0
#include "verify/follow.h"

#include <algorithm>

namespace naite::verify {

namespace fs = std::filesystem;
using train::StoredState;

namespace {

// That the policy, if there is one, trusts the key and enough witnesses have seen this head.
Status check_policy(const std::optional<Policy>& policy, const ledger::Verifier& signer,
                    const ledger::Note& note) {
  if (!policy) return {};
  const bool known = std::any_of(
      policy->publishers.begin(), policy->publishers.end(), [&](const ledger::Verifier& publisher) {
        return publisher.key == signer.key && signer.name.starts_with(publisher.name + "/");
      });
  if (!known) return fail("signed by {}, whom the policy does not trust", signer.vkey());
  int64_t cosigned = 0;
  for (const ledger::Verifier& witness : policy->witnesses) {
    NAITE_ASSIGN(const std::optional<uint64_t> time, ledger::verify_cosignature(note, witness));
    cosigned += time.has_value();
  }
  if (cosigned >= policy->quorum) return {};
  return fail("{} of the policy's witnesses have cosigned the head of {}, it asks for {}", cosigned,
              signer.name, policy->quorum);
}

}  // namespace

Result<Followed> follow_once(Mirror& mirror, const std::optional<Policy>& policy,
                             const OnCheckpoint& on_checkpoint) {
  NAITE_TRY(mirror.fetch_log());
  NAITE_ASSIGN(const ledger::LogContent log, ledger::read_log(mirror.path() / "ledger"));
  Followed out;
  NAITE_ASSIGN(out.history, train::RunHistory::parse(log.entries));
  const train::Commitment& claims = out.history.commitment;
  NAITE_ASSIGN(const ledger::Verifier signer, ledger::Verifier::parse(claims.vkey));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(log.note, signer));
  if (!is_signed || claims.origin != log.head.origin || signer.name != log.head.origin)
    return fail("{}: the log is not signed by the key that its first entry names", mirror.url());
  NAITE_TRY(check_policy(policy, signer, log.note));
  out.signer = signer.vkey();
  if (!train::is_unsigned(claims)) NAITE_TRY(mirror.fetch_publisher());
  NAITE_TRY(mirror.fetch_claims(out.history));
  NAITE_ASSIGN(const data::Manifest manifest, data::Manifest::load(mirror.path()));
  NAITE_TRY(mirror.fetch_data(manifest));
  for (const StoredState* state : train::newest_states(out.history)) {
    std::error_code code;
    const bool was_here = fs::exists(mirror.path() / state->directory, code);
    NAITE_TRY(mirror.fetch_state(out.history, *state));
    if (!was_here && state->checkpoint) on_checkpoint(out.history, *state);
  }
  out.ended = out.history.ended || out.history.abandoned;
  return out;
}

}  // namespace naite::verify
