// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asking a witness to cosign a log's head (c2sp.org/tlog-witness). A witness remembers the largest
// head that it has seen of each log and signs only what goes on from it, so whoever is shown a head
// with its cosignature knows that nobody was shown another history.
//
//   POST URL/add-checkpoint    "old N\n", a consistency proof from N entries, one base64 hash a
//                              line, an empty line, the signed head
//   200                        signature lines, one of which is the cosignature (ledger/note.h)
//   409                        the size that it has seen, if that is not N; else it saw another
//   root 404, 403, 422              it does not know the log, or its key; the proof does not lead
//   there
#include <span>
#include <string>
#include <vector>

#include "ledger/http.h"
#include "ledger/log.h"

namespace naite::ledger {

struct Witness {
  std::string url;  // without add-checkpoint and without a slash at its end
  Verifier key;     // of type 04

  static Result<Witness> make(std::string_view url, std::string_view vkey);
  // URL+VKEY, as an option has it.
  static Result<Witness> parse(std::string_view text);
};

// A head to show: the signed note with all its lines, what it says, the leaves below it.
struct ShownHead {
  std::string note;
  Head head;
  std::vector<Digest> leaves;
};

class WitnessClient {
 public:
  WitnessClient(Witness witness, HttpOptions options)
      : witness_(std::move(witness)), http_(std::move(options)) {}

  const Witness& witness() const { return witness_; }
  // The witness's cosignature of the head, valid, as a line with its line feed; empty if the head
  // carries one already. An error says whether the witness is away or saw another history.
  Result<std::string> cosign(const ShownHead& shown);

 private:
  Result<std::string> cosignature_of(const ShownHead& shown, std::string_view lines) const;

  Witness witness_;
  HttpClient http_;
  int64_t seen_ = 0;  // what it has seen, as far as is known
};

}  // namespace naite::ledger
