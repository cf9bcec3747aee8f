// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a verifier found, signed, so that several can divide a replay and others can combine what
// they say. A signed note (ledger/note.h) under the verifier's Ed25519 key; its text is one line of
// canonical JSON with exactly these keys:
//
//   format        1
//   type          "verification"
//   vkey          the verifier's public key
//   origin, size, root   the head of the log that was verified; root in hexadecimal
//   commitment    SHA-256 of the log's first entry
//   time          the verifier's clock, seconds since 1970
//   checks        [[name, "holds" | "fails" | "open", detail], ...]
//   intervals     how many the log has
//   replays       [[steps before the first, last step, same bits], ...]
//   verifier      {version, source_commit, compiler, binary_sha256}
#include <map>
#include <string>
#include <vector>

#include "ledger/note.h"
#include "verify/report.h"

namespace naite::verify {

inline constexpr size_t kReportBytesMax = size_t{64} << 20;

struct SignedReport {
  ledger::Verifier signer;
  ledger::Head head;
  std::string commitment;
  int64_t time = 0;
  std::string version;  // of the program
  std::map<std::string, Outcome> checks;
  std::string failure;  // the first check that fails, in words; empty: all hold or are open
  int64_t num_intervals = 0;
  std::vector<Replay> replays;

  // Its signature is that of the key that it names. Whose key that is, is the caller's to know.
  static Result<SignedReport> load(const std::filesystem::path& file);
  // What keeps its replays from counting for a run: a check that they rest on and that is not there
  // or does not hold. A run that goes on from another one has no initial tensors of its own.
  Status check_complete(bool is_branch) const;
};

// An error if the report is about no log.
Result<std::string> sign_report(const Report& report, const ledger::Signer& signer);

}  // namespace naite::verify
