// SPDX-License-Identifier: Apache-2.0
// Whatever the bytes are, reading them ends in tensors that lie inside the file or in one short
// line.
#include "formats/gguf.h"

#include <cstdlib>

#include "base/fuzz.h"

using naite::formats::element_count;
using naite::formats::parse_gguf;
using naite::formats::read_floats;
using naite::formats::StoredTensor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto header = parse_gguf(file, "fuzz");
  if (!header) {
    naite::expect_short_line(header.error(), 600);
    return 0;
  }
  std::vector<float> values;
  for (const StoredTensor& tensor : header->tensors) {
    if (!tensor.bytes.empty() && (tensor.bytes.data() < file.data() ||
                                  tensor.bytes.data() + tensor.bytes.size() > file.data() + size))
      std::abort();
    // Quantised blocks of any content can be read.
    values.resize(static_cast<size_t>(*element_count(tensor.shape)));
    const naite::Status status = read_floats(tensor, values);
    if (!status && status.error().message.empty()) std::abort();
  }
  return 0;
}
