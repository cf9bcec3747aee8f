// SPDX-License-Identifier: Apache-2.0
#include "verify/follow.h"

#include "base/clock.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::StoredState;

Result<Followed> follow_once(Mirror& mirror, const std::optional<Policy>& policy,
                             const OnCheckpoint& on_checkpoint) {
  NAITE_TRY(mirror.fetch_log());
  NAITE_ASSIGN(const ledger::LogContent log, ledger::read_log(mirror.path() / "ledger"));
  Followed out;
  NAITE_ASSIGN(out.history, record::RunHistory::parse(log.entries));
  const record::Commitment& claims = out.history.commitment;
  NAITE_ASSIGN(const ledger::Verifier signer, ledger::Verifier::parse(claims.vkey));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(log.note, signer));
  if (!is_signed || claims.origin != log.head.origin || signer.name != log.head.origin)
    return fail("{}: the log is not signed by the key that its first entry names", mirror.url());
  if (policy) NAITE_TRY(policy->accept(signer, log.note, claims.time, unix_seconds()));
  out.signer = signer.vkey();
  if (!claims.is_unsigned()) NAITE_TRY(mirror.fetch_publisher());
  NAITE_TRY(mirror.fetch_claims(out.history));
  NAITE_ASSIGN(const data::Manifest manifest, data::Manifest::load(mirror.path()));
  NAITE_TRY(mirror.fetch_data(manifest));
  NAITE_ASSIGN(RunContents contents,
               RunContents::open(out.history, record::RunDirectory(mirror.path())));
  for (const StoredState& state : out.history.stored) {
    std::error_code code;
    const bool was_here = fs::exists(mirror.path() / state.directory, code);
    NAITE_TRY(mirror.fetch_state(out.history, state, [&](const formats::Record& claimed) {
      return contents.expected(out.history, state, claimed);
    }));
    if (!was_here && state.checkpoint) on_checkpoint(out.history, state);
  }
  out.ended = out.history.ended || out.history.abandoned;
  return out;
}

}  // namespace naite::verify
