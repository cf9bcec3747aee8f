// SPDX-License-Identifier: Apache-2.0
// Any model.sig, public key or canonical JSON: refused with one short line, or read as what is
// written the same way again.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/fuzz.h"
#include "ledger/ledger.h"

namespace naite::ledger {
namespace {

void read_signature(std::string_view text) {
  const Result<ModelSignature> signature = ModelSignature::parse(text, "fuzz");
  if (!signature) return expect_short_line(signature.error());
  const Result<std::string> written = signature->text();
  if (!written) return expect_short_line(written.error());
  const Result<ModelSignature> again = ModelSignature::parse(*written, "again");
  require(again.ok() && again->payload == signature->payload &&
          again->signature == signature->signature && again->manifest == signature->manifest);
}

void read_public_key(std::string_view text) {
  const Result<ModelKey> key = ModelKey::parse_public(text);
  if (!key) return expect_short_line(key.error());
  const Result<ModelKey> again = ModelKey::parse_public(key->public_pem());
  require(again.ok() && again->hint() == key->hint() && !key->verify(text, text));
}

void read_canonical_json(std::string_view text) {
  const Result<nlohmann::json> value = parse_canonical_json(text, "fuzz");
  if (!value) return expect_short_line(value.error());
  require(*canonical_json(*value) == text);
}

}  // namespace
}  // namespace naite::ledger

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  naite::ledger::read_signature(text);
  naite::ledger::read_public_key(text);
  naite::ledger::read_canonical_json(text);
  return 0;
}
