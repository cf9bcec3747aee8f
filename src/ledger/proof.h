// SPDX-License-Identifier: Apache-2.0
#pragma once
// A proof that one entry is in a signed log, in one file (c2sp.org/tlog-proof):
//
//   c2sp.org/tlog-proof@v1 \n
//   extra BASE64 \n            may be absent; nothing authenticates it
//   index I \n
//   BASE64 \n                  one a hash, from the leaf's sibling upwards
//   \n
//   the signed head, verbatim
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "ledger/note.h"

namespace naite::ledger {

struct LogProof {
  std::optional<std::string> extra;
  int64_t index = 0;
  std::vector<Digest> hashes;
  std::string head;  // the signed note

  std::string text() const;
  static Result<LogProof> parse(std::string_view text, std::string_view where);

  // That `entry` is in the log whose head `log` has signed.
  Status verify(std::string_view entry, const Verifier& log) const;
};

}  // namespace naite::ledger
