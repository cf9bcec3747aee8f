// SPDX-License-Identifier: Apache-2.0
// Whatever the bytes are, reading them ends in tensors that lie inside the file or in one short
// line.
#include "formats/safetensors.h"

#include <cstdlib>

#include "base/fuzz.h"

using naite::formats::parse_safetensors;
using naite::formats::StoredTensor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto header = parse_safetensors(file, "fuzz");
  if (!header) {
    naite::expect_short_line(header.error(), 600);
    return 0;
  }
  size_t covered = 0;
  for (const StoredTensor& tensor : header->tensors) {
    covered += tensor.bytes.size();
    if (!tensor.bytes.empty() && (tensor.bytes.data() < file.data() ||
                                  tensor.bytes.data() + tensor.bytes.size() > file.data() + size))
      std::abort();
  }
  if (covered > size) std::abort();
  return 0;
}
