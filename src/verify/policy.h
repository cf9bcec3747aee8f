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
//
// Who counts is counted once: among witnesses, verifiers and organisations, one key under two names
// and two keys under one are refused, and so is a publisher's key among witnesses or verifiers.
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

// Clocks may differ by so much, in seconds.
inline constexpr int64_t kClockSkew = 600;

// A witness that signed a head, and when by its own clock.
struct Cosigner {
  std::string name;
  int64_t time = 0;  // seconds since 1970
};
// "; NAME at TIME, ..." of all; nothing if there are none.
std::string cosigners_named(const std::vector<Cosigner>& cosigners);

struct Policy {
  std::vector<ledger::Verifier> publishers, witnesses, verifiers;
  int64_t quorum = 0;
  std::vector<Organisation> organisations;
  int64_t organisation_quorum = 0;

  static Result<Policy> load(const std::filesystem::path& path);
  // `name` is the file's, beside which those of organisations lie.
  static Result<Policy> parse(std::string_view text, const std::string& name);

  // The witnesses that have signed a head of `signer`'s log, each once, never the signer itself.
  // One that states a time before `earliest`, or after `now`, does not count; a signature that is
  // wrong is an error.
  Result<std::vector<Cosigner>> cosigners(const ledger::Verifier& signer, const ledger::Note& head,
                                          int64_t earliest, int64_t now) const;
  // The same; an error if the policy does not trust that key, or asks for more of them.
  Result<std::vector<Cosigner>> accept(const ledger::Verifier& signer, const ledger::Note& head,
                                       int64_t earliest, int64_t now) const;
};

}  // namespace naite::verify
