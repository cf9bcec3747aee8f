// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whom a verifier trusts. This comes from the verifier's own file, never from the run:
//
//   publishers = ["example.org/team+1234abcd+AbC..."]      public keys of publishers' logs
//   witnesses = ["witness.example+5678ef01+BdE..."]        public keys of cosigners (type 04)
//   quorum = 1                                             so many of them must have cosigned
//   organisations = ["university.pub"]                     P-256 keys that co-sign checkpoints: PEM
//                                                          files beside the policy, or their text
//   organisation_quorum = 1                                so many must have signed the last one
//   verifiers = ["auditor.example+9abcde01+AfG..."]        public keys whose reports count
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/model_signature.h"
#include "ledger/note.h"

namespace naite::verify {

struct Organisation {
  std::string name;  // of its file, or the id of the key
  ledger::ModelKey key;
};

struct Policy {
  std::vector<ledger::Verifier> publishers, witnesses, verifiers;
  int64_t quorum = 0;
  std::vector<Organisation> organisations;
  int64_t organisation_quorum = 0;

  static Result<Policy> load(const std::filesystem::path& path);
  // `name` is the file's, beside which those of organisations lie.
  static Result<Policy> parse(std::string_view text, const std::string& name);

  // The witnesses that have cosigned a head of `signer`'s log; an error if the policy does not
  // trust that key, or asks for more of them.
  Result<int64_t> accept(const ledger::Verifier& signer, const ledger::Note& head) const;
};

}  // namespace naite::verify
