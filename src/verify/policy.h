// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whom a verifier trusts. This comes from the verifier's own file, never from the run:
//
//   publishers = ["example.org/team+1234abcd+AbC..."]      public keys of publishers' logs
//   witnesses = ["witness.example+5678ef01+BdE..."]        public keys of cosigners (type 04)
//   quorum = 1                                             so many of them must have cosigned
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/note.h"

namespace naite::verify {

struct Policy {
  std::vector<ledger::Verifier> publishers, witnesses;
  int64_t quorum = 0;

  static Result<Policy> load(const std::filesystem::path& path);
  static Result<Policy> parse(std::string_view text, const std::string& name);
};

}  // namespace naite::verify
