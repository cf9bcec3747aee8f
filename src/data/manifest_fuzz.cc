// SPDX-License-Identifier: Apache-2.0
// Any manifest.json: refused with one line, or read and written back to the same value.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/manifest.h"

namespace naite::data {
namespace {

int check(const uint8_t* data, size_t size) {
  const Result<nlohmann::json> value =
      parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const Result<Manifest> manifest = Manifest::from_json(*value, "fuzz");
  if (!manifest) return 0;
  const nlohmann::json written = manifest->to_json();
  const Result<Manifest> again = Manifest::from_json(written, "again");
  if (!again || again->to_json() != written) std::abort();
  return 0;
}

}  // namespace
}  // namespace naite::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return naite::data::check(data, size);
}
