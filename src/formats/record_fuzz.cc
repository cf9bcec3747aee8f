// SPDX-License-Identifier: Apache-2.0
// Any record.json: refused with one short line, or a record whose files lie inside the directory
// and which reads back as it is written.
#include <cstdint>

#include "base/fuzz.h"
#include "formats/record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = naite::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const auto record = naite::formats::Record::parse(*value, "fuzz:");
  if (!record) {
    naite::expect_short_line(record.error());
    return 0;
  }
  for (const auto& [file, digest] : record->files)
    naite::require(file[0] != '/' && !file.starts_with("../"));
  const nlohmann::json written = record->to_json();
  const auto again = naite::formats::Record::parse(written, "again:");
  naite::require(again.ok() && again->to_json() == written);
  return 0;
}
