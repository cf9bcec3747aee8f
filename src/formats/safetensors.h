// SPDX-License-Identifier: Apache-2.0
#pragma once
// safetensors: the weights format of the Hugging Face ecosystem.
//
//   u64 N | N bytes of UTF-8 JSON, beginning "{", padded with spaces | data
//   {"name": {"dtype": "BF16", "shape": [...], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {"format": "pt", ...}}
//
// Offsets count from the start of the data, the end is exclusive. The tensors cover the data
// exactly, without holes or overlaps; names are unique; metadata values are strings; N is at most
// 100 MB. A model in several files has `model-00001-of-0000N.safetensors` and
// `model.safetensors.index.json`:
// {"metadata": {"total_size": BYTES}, "weight_map": {tensor: file}}. Every file must hold exactly
// the tensors that the index places there: readers of whole files would see others too.
//
// Reading maps the files and checks every statement of the header before anything is used; memory
// is bounded by a small multiple of the header. A file that breaks a rule gives one line that names
// it.
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/stored.h"

namespace naite::formats {

using Metadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // ascending by name
  Metadata metadata;
};

// Parse the bytes of one file; `name` stands in messages. The views point into `file`.
Result<SafetensorsHeader> parse_safetensors(std::string_view file, std::string_view name);

// The text of an index: each file, by a name without a path, with the tensors that it must hold.
Result<std::map<std::string, std::set<std::string>>> parse_index(std::string_view text,
                                                                 std::string_view name);

// An open file, or a directory with model.safetensors or model.safetensors.index.json. Of a
// directory, every *.safetensors file is one of the model's: some programs read all that lie there.
class Safetensors {
 public:
  static Result<Safetensors> open(const std::filesystem::path& path);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // ascending by name
  const StoredTensor* find(std::string_view name) const;                 // nullptr if absent
  const Metadata& metadata() const { return metadata_; }  // of the first file that has any

 private:
  std::vector<MappedFile> files_;
  std::vector<StoredTensor> tensors_;
  Metadata metadata_;
};

// A file that is going to hold these tensors, but for their values. They are laid down wide element
// types first, so that all are aligned, in the order given otherwise. `metadata` gains format =
// "pt" unless it has a format.
struct SafetensorsLayout {
  std::vector<TensorSpec> specs;  // in the order of their bytes
  std::string head;               // the length, the header and its padding: what comes before them
  int64_t bytes = 0;              // of the whole file
};
Result<SafetensorsLayout> safetensors_layout(std::vector<TensorSpec> specs, Metadata metadata = {});

// One file, complete or absent (base/files.h), laid out so; `source` is called once for each tensor
// in that order and must deliver exactly its bytes.
Status write_safetensors(const std::filesystem::path& path, std::vector<TensorSpec> specs,
                         Metadata metadata, const TensorSource& source);

// model.safetensors in `directory`; or, when the tensors exceed `shard_bytes` (0: no limit),
// numbered shards of at most that many bytes each (a larger tensor stands alone), and the index,
// written last.
Status write_model_safetensors(const std::filesystem::path& directory,
                               std::vector<TensorSpec> specs, Metadata metadata,
                               const TensorSource& source, int64_t shard_bytes = 0);

}  // namespace naite::formats
