// SPDX-License-Identifier: Apache-2.0
#pragma once
// What others vouch for: organisations that signed checkpoints beside the publisher, and verifiers
// who replayed a part each.
#include <map>

#include "ledger/cosignatures.h"
#include "verify/replays.h"
#include "verify/signed_report.h"

namespace naite::verify {

class Vouchers {
 public:
  Vouchers(Setting& setting, const record::RunHistory& history)
      : setting_(setting), history_(history) {}

  // Whether there is anything to say about co-signatures.
  bool has_cosignatures() const;
  Result<Finding> cosignatures() const;
  // The reports together: every interval is vouched for. The report gets each of them.
  Result<Finding> reports(Report& report);
  const std::vector<std::string>& verifiers() const { return verifiers_; }  // by name

 private:
  bool asks_for_organisations() const;
  Result<std::vector<ledger::ModelCosignature>> cosignatures_of(
      const record::StoredState& state) const;
  Error accusation(const std::string& what) const;
  Status check_verifier(const SignedReport& report);
  Status take_report(const std::filesystem::path& file, const Report& ours,
                     const std::vector<Interval>& all, std::vector<std::string>& who);

  Setting& setting_;
  const record::RunHistory& history_;
  std::vector<std::string> verifiers_;
  std::map<Digest, std::string> names_;  // by key
};

}  // namespace naite::verify
