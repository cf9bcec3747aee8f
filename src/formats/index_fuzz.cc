// SPDX-License-Identifier: Apache-2.0
// Any model.safetensors.index.json: refused with one line, or every tensor in one file that lies
// beside the index.
#include <set>

#include "base/fuzz.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto shards =
      naite::formats::parse_index({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!shards) {
    naite::expect_short_line(shards.error());
    return 0;
  }
  std::set<std::string> tensors;
  for (const auto& [file, wanted] : *shards) {
    const std::filesystem::path path = std::filesystem::path("directory") / file;
    naite::require(path.lexically_normal().parent_path() == "directory");
    for (const std::string& tensor : wanted) naite::require(tensors.insert(tensor).second);
  }
  return 0;
}
