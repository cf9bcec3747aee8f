// SPDX-License-Identifier: Apache-2.0
// Any tokenizer.json: refused with one line, or a tokenizer that encodes and decodes without harm.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/fuzz.h"
#include "data/tokenizer.h"

namespace naite::data {
namespace {

int check(const uint8_t* data, size_t size) {
  const Result<Tokenizer> tokenizer =
      Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!tokenizer) {
    naite::expect_short_line(tokenizer.error());
    return 0;
  }
  for (const int32_t id : tokenizer->encode("나이테 rings aaaa 123\n\n<|endoftext|>\xff  x"))
    if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
  return 0;
}

}  // namespace
}  // namespace naite::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return naite::data::check(data, size);
}
