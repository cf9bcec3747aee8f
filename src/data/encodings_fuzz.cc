// SPDX-License-Identifier: Apache-2.0
// Guessing encodings: any bytes give an advice of one short line, and the encoding that it names is
// one that iconv knows.
#include "data/encodings.h"

#include <iconv.h>

#include <cstdint>

#include "base/foreign_files.h"
#include "base/fuzz.h"

namespace naite::data {
namespace {

void expect_known(const std::string& encoding) {
  if (encoding.empty()) return;
  const iconv_t converter = ::iconv_open("UTF-8", encoding.c_str());
  require(converter != reinterpret_cast<iconv_t>(-1));
  ::iconv_close(converter);
}

}  // namespace
}  // namespace naite::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naite;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  data::expect_known(data::guess_encoding(bytes));
  data::expect_known(data::guess_wide_encoding(bytes));
  data::expect_known(data::declared_encoding(bytes, bytes));
  expect_short_line(fail("{}", data::not_utf8_advice(bytes, "a.txt.gz")));
  if (const auto foreign = what_is(bytes))
    require(!foreign->what.empty() && !foreign->advice.empty());
  require(without_byte_order_mark(bytes).size() <= size);
  return 0;
}
