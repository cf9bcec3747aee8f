// SPDX-License-Identifier: Apache-2.0
// Any record.json: refused with one short line, or a list of files inside the directory.
#include <cstdint>
#include <cstdlib>

#include "base/fuzz.h"
#include "formats/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = naite::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const auto files = naite::formats::record_files(*value, "fuzz");
  if (!files) {
    naite::expect_short_line(files.error(), 600);
    return 0;
  }
  for (const auto& [file, digest] : *files)
    if (file[0] == '/' || file.starts_with("../")) std::abort();
  return 0;
}
