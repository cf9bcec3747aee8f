// SPDX-License-Identifier: Apache-2.0
// An event gives its step without being read beyond; the length of the whole records is a prefix
// that reads to the same length again.
#include <cstdlib>

#include "formats/tfevents.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const size_t whole = naite::formats::whole_records(file);
  if (whole > size || naite::formats::whole_records(file.substr(0, whole)) != whole) std::abort();
  naite::formats::step_of_event(file);
  return 0;
}
