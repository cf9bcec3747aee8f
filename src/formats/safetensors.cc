// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "formats/model_json.h"

namespace naite::formats {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr uint64_t kHeaderBytesMax = 100'000'000;
constexpr size_t kRankMax = 16;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::string_view kWeights = "model.safetensors";
constexpr std::string_view kIndexName = "model.safetensors.index.json";

std::optional<StoredType> type_of_name(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(StoredType::kF64); ++i)
    if (stored_type_info(static_cast<StoredType>(i)).name == name)
      return static_cast<StoredType>(i);
  return std::nullopt;
}

struct Entry {
  StoredTensor tensor;
  std::vector<uint64_t> offsets;
  bool has_type = false, has_shape = false, has_offsets = false;
};

// Receives the header's JSON token by token: the parser keeps no tree, so neither the depth nor the
// number of values costs memory beyond what is kept here. Returning false stops it; `error` says
// why.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  std::vector<Entry> entries;
  Metadata metadata;
  std::string error;

  bool start_object(size_t) override {
    if (depth_ == 0 || depth_ == 1) return descend();
    return refuse("a table where a value is expected");
  }
  bool key(string_t& text) override {
    if (depth_ == 1) return open_entry(text);
    if (in_metadata_) {
      field_ = text;
      return true;
    }
    Entry& entry = entries.back();
    field_ = text;
    bool* const seen = field_ == "dtype"          ? &entry.has_type
                       : field_ == "shape"        ? &entry.has_shape
                       : field_ == "data_offsets" ? &entry.has_offsets
                                                  : nullptr;
    if (seen == nullptr) return refuse(fmt::format("an unknown key `{}`", shown_name(text)));
    if (*seen) return refuse(fmt::format("the key `{}` twice", text));
    *seen = true;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1 && !in_metadata_) {
      const Entry& entry = entries.back();
      if (!entry.has_type || !entry.has_shape || !entry.has_offsets)
        return refuse("not all of dtype, shape and data_offsets");
    }
    in_metadata_ = in_metadata_ && depth_ > 1;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 2 && !in_metadata_ && (field_ == "shape" || field_ == "data_offsets"))
      return descend();
    return refuse("a list where a value is expected");
  }
  bool end_array() override {
    --depth_;
    if (field_ == "data_offsets" && entries.back().offsets.size() != 2)
      return refuse("data_offsets that are not two numbers");
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ == 2 && in_metadata_) {
      if (!metadata.emplace(field_, text).second)
        return refuse(fmt::format("the key `{}` twice", shown_name(field_)));
      return true;
    }
    if (depth_ != 2 || field_ != "dtype") return refuse("a string where it does not belong");
    const std::optional<StoredType> type = type_of_name(text);
    if (!type) return refuse(fmt::format("dtype {}, which is not supported", shown_name(text)));
    entries.back().tensor.type = *type;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 3) return refuse("a number where it does not belong");
    Entry& entry = entries.back();
    if (field_ == "data_offsets") {
      if (entry.offsets.size() == 2) return refuse("data_offsets that are not two numbers");
      entry.offsets.push_back(value);
      return true;
    }
    if (entry.tensor.shape.size() == kRankMax) return refuse("more dimensions than 16");
    if (value > INT64_MAX) return refuse("a dimension beyond 63 bits");
    entry.tensor.shape.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
  bool boolean(bool) override { return refuse("true or false where it does not belong"); }
  bool null() override { return refuse("null where it does not belong"); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    if (error.empty()) error = fmt::format("is not valid JSON near byte {}", position + 8);
    return false;
  }

 private:
  bool descend() {
    ++depth_;
    return true;
  }
  bool open_entry(const std::string& name) {
    in_metadata_ = name == kMetadataKey;
    field_.clear();
    if (in_metadata_) {
      if (seen_metadata_) return refuse("__metadata__ twice");
      seen_metadata_ = true;
      return true;
    }
    entries.emplace_back().tensor.name = name;
    return true;
  }
  bool refuse(std::string_view what) {
    if (depth_ >= 1 && in_metadata_)
      error = fmt::format("has {} in __metadata__", what);
    else if (depth_ >= 1 && !entries.empty())
      error = fmt::format("has {} in tensor {}", what, shown_name(entries.back().tensor.name));
    else
      error = fmt::format("has {}", what);
    return false;
  }

  int depth_ = 0;
  bool in_metadata_ = false, seen_metadata_ = false;
  std::string field_;
};

// Every byte of the data belongs to exactly one tensor, and each tensor has the bytes of its shape.
Status place_tensors(std::vector<Entry>& entries, std::string_view data, std::string_view name) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t covered = 0;
  for (Entry& entry : entries) {
    const std::string shown = shown_name(entry.tensor.name);
    const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (begin > end || end > data.size())
      return fail("{}: {}tensor {} lies at bytes {} to {}, outside the data ({} bytes)", name,
                  begin > end ? "" : "truncated: ", shown, begin, end, data.size());
    if (begin != covered)
      return fail("{}: tensor {} begins at byte {} of the data where {} is expected: {}", name,
                  shown, begin, covered, begin < covered ? "tensors overlap" : "there is a hole");
    const Result<int64_t> bytes = stored_bytes(entry.tensor.type, entry.tensor.shape);
    if (!bytes) return fail("{}: tensor {}: {}", name, shown, bytes.error().message);
    if (static_cast<uint64_t>(*bytes) != end - begin)
      return fail("{}: tensor {} of shape {} and dtype {} needs {} bytes, has {}", name, shown,
                  shape_text(entry.tensor.shape), stored_type_info(entry.tensor.type).name, *bytes,
                  end - begin);
    entry.tensor.bytes = data.substr(begin, end - begin);
    covered = end;
  }
  if (covered != data.size())
    return fail("{}: {} bytes after the last tensor belong to none", name, data.size() - covered);
  return {};
}

Status check_unique(const std::vector<StoredTensor>& sorted, std::string_view name) {
  for (size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i].name == sorted[i - 1].name)
      return fail("{}: tensor {} appears twice", name, shown_name(sorted[i].name));
  return {};
}

void sort_by_name(std::vector<StoredTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
}

// The JSON of one string, quoted and escaped.
std::string json_string(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

// What comes before the tensors' bytes, and in `end` how many those are.
Result<std::string> head_of(const std::vector<TensorSpec>& specs, const Metadata& metadata,
                            int64_t& end) {
  std::string text = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata)
    text +=
        fmt::format("{}{}:{}", text.back() == '{' ? "" : ",", json_string(key), json_string(value));
  text += '}';
  int64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    NAITE_ASSIGN(const int64_t bytes, stored_bytes(spec.type, spec.shape));
    text += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        json_string(spec.name), stored_type_info(spec.type).name,
                        fmt::join(spec.shape, ","), offset, offset + bytes);
    offset += bytes;
  }
  text += '}';
  while (text.size() % 8 != 0) text += ' ';
  if (text.size() > kHeaderBytesMax)
    return fail("the header would exceed {} bytes", kHeaderBytesMax);
  end = offset;
  const uint64_t header_bytes = text.size();
  return std::string(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes) + text;
}

Status check_names(const std::vector<TensorSpec>& specs) {
  std::set<std::string_view> names;
  for (const TensorSpec& spec : specs)
    if (spec.name == kMetadataKey || !names.insert(spec.name).second)
      return fail("tensor name {} is used twice or reserved", shown_name(spec.name));
  return {};
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors(std::string_view file, std::string_view name) {
  uint64_t header_bytes = 0;
  const bool has_header = file.size() > sizeof header_bytes && file[sizeof header_bytes] == '{';
  if (file.empty() || (!has_header && what_is(file.substr(0, kForeignBytes))))
    return unreadable(file, name, fail("{}: not a safetensors file", name));
  if (file.size() < sizeof header_bytes)
    return fail("{}: not a safetensors file: {} bytes, at least 8 are needed", name, file.size());
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  file.remove_prefix(sizeof header_bytes);
  if (header_bytes > kHeaderBytesMax)
    return fail(
        "{}: not a safetensors file: it claims a header of {} bytes; at most {} are allowed", name,
        header_bytes, kHeaderBytesMax);
  if (header_bytes > file.size())
    return fail("{}: truncated: a header of {} bytes is announced, {} bytes follow", name,
                header_bytes, file.size());
  const std::string_view header = file.substr(0, header_bytes);
  if (!header.starts_with('{'))
    return fail("{}: not a safetensors file: its header does not begin with {{", name);

  HeaderReader reader;
  if (!json::sax_parse(header.begin(), header.end(), &reader))
    return fail("{}: the safetensors header {}", name, reader.error);
  NAITE_TRY(place_tensors(reader.entries, file.substr(header_bytes), name));
  SafetensorsHeader out;
  out.metadata = std::move(reader.metadata);
  out.tensors.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) out.tensors.push_back(std::move(entry.tensor));
  sort_by_name(out.tensors);
  NAITE_TRY(check_unique(out.tensors, name));
  return out;
}

Result<std::map<std::string, std::set<std::string>>> parse_index(std::string_view text,
                                                                 std::string_view name) {
  if (text.size() > kHeaderBytesMax)
    return fail("{}: the index has {} bytes; at most {} are allowed", name, text.size(),
                kHeaderBytesMax);
  NAITE_ASSIGN(const json index, parse_model_json(text, name));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    return fail("{}: has no table `weight_map`", name);
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string value = shard.is_string() ? shard.get<std::string>() : "";
    if (value.empty() || value == "." || value == ".." ||
        value.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      return fail("{}: tensor {} is not mapped to the name of a file beside the index", name,
                  shown_name(tensor));
    shards[value].insert(tensor);
  }
  return shards;
}

namespace {

using Shards = std::map<std::string, std::set<std::string>>;

// The files of a model; an empty set of tensors stands for whatever the file holds.
Result<Shards> shards_of(const fs::path& directory) {
  std::error_code ignored;
  const bool has_one = fs::exists(directory / kWeights, ignored);
  const fs::path index = directory / kIndexName;
  if (!fs::exists(index, ignored)) {
    if (has_one) return Shards{{std::string(kWeights), {}}};
    return fail("{}: holds neither {} nor {}", directory.string(), kWeights, kIndexName);
  }
  NAITE_ASSIGN(const std::string text, read_file(index));
  NAITE_ASSIGN(const Shards shards, parse_index(text, index.string()));
  // Readers differ in which of the two they take.
  if (has_one && !shards.contains(std::string(kWeights)))
    return fail("{}: holds {}, and an index of other files: remove one of them", directory.string(),
                kWeights);
  for (const auto& [file, tensors] : shards)
    if (!fs::exists(directory / file, ignored))
      return fail("{}: {} is not there, although the index places {} tensors in it: fetch it",
                  directory.string(), shown_name(file), tensors.size());
  return shards;
}

// vLLM and others take every such file that they find, whatever the index says.
Status no_strays(const fs::path& directory, const Shards& shards) {
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(directory));
  for (const std::string& name : names)
    if (name.ends_with(".safetensors") && !name.starts_with('.') && !shards.contains(name))
      return fail(
          "{}: {} is no file of the model, but other programs would read it all the same: move it "
          "elsewhere",
          directory.string(), shown_name(name));
  return {};
}

Status expect_placed(const SafetensorsHeader& header, const std::set<std::string>& wanted,
                     const std::string& name) {
  std::set<std::string> absent = wanted;
  for (const StoredTensor& tensor : header.tensors)
    if (absent.erase(tensor.name) == 0)
      return fail(
          "{}: holds the tensor {}, which {} does not place there: other programs would read "
          "it all the same",
          name, shown_name(tensor.name), kIndexName);
  if (absent.empty()) return {};
  return fail("{}: lacks the tensor {}, which {} places there", name, shown_name(*absent.begin()),
              kIndexName);
}

}  // namespace

Result<Safetensors> Safetensors::open(const fs::path& path) {
  std::error_code ignored;
  const bool is_directory = fs::is_directory(path, ignored);
  Shards shards = {{path.filename().string(), {}}};
  if (is_directory) {
    NAITE_ASSIGN(shards, shards_of(path));
    NAITE_TRY(no_strays(path, shards));
  }
  const fs::path parent = is_directory ? path : path.parent_path();
  Safetensors out;
  for (const auto& [file, wanted] : shards) {
    const std::string name = (parent / file).string();
    NAITE_ASSIGN(MappedFile mapped, MappedFile::open(parent / file));
    NAITE_ASSIGN(SafetensorsHeader header, parse_safetensors(mapped.bytes(), name));
    if (!wanted.empty()) NAITE_TRY(expect_placed(header, wanted, name));
    for (StoredTensor& tensor : header.tensors) out.tensors_.push_back(std::move(tensor));
    if (out.metadata_.empty()) out.metadata_ = std::move(header.metadata);
    out.files_.push_back(std::move(mapped));
  }
  sort_by_name(out.tensors_);
  NAITE_TRY(check_unique(out.tensors_, path.string()));
  return out;
}

const StoredTensor* Safetensors::find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StoredTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Result<SafetensorsLayout> safetensors_layout(std::vector<TensorSpec> specs, Metadata metadata) {
  NAITE_TRY(check_names(specs));
  std::stable_sort(specs.begin(), specs.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return stored_type_info(a.type).block_bytes > stored_type_info(b.type).block_bytes;
  });
  metadata.emplace("format", "pt");  // some readers insist on it
  SafetensorsLayout out;
  int64_t data_bytes = 0;
  NAITE_ASSIGN(out.head, head_of(specs, metadata, data_bytes));
  out.bytes = static_cast<int64_t>(out.head.size()) + data_bytes;
  out.specs = std::move(specs);
  return out;
}

Status write_safetensors(const fs::path& path, std::vector<TensorSpec> specs, Metadata metadata,
                         const TensorSource& source) {
  NAITE_ASSIGN(const SafetensorsLayout layout,
               safetensors_layout(std::move(specs), std::move(metadata)));
  NAITE_ASSIGN(FileWriter writer, FileWriter::create(path));
  NAITE_TRY(writer.write(layout.head));
  for (const TensorSpec& spec : layout.specs) {
    NAITE_ASSIGN(const int64_t bytes, stored_bytes(spec.type, spec.shape));
    int64_t written = 0;
    NAITE_TRY(source(spec, [&](const void* data, size_t count) -> Status {
      written += static_cast<int64_t>(count);
      NAITE_CHECK(written <= bytes, "tensor {} delivers more than {} bytes", spec.name, bytes);
      return writer.write(data, count);
    }));
    NAITE_CHECK(written == bytes, "tensor {} delivers {} of {} bytes", spec.name, written, bytes);
  }
  return writer.commit();
}

Status write_model_safetensors(const fs::path& directory, std::vector<TensorSpec> specs,
                               Metadata metadata, const TensorSource& source, int64_t shard_bytes) {
  NAITE_TRY(check_names(specs));
  std::vector<std::vector<TensorSpec>> shards(1);
  int64_t total = 0, current = 0;
  for (TensorSpec& spec : specs) {
    NAITE_ASSIGN(const int64_t bytes, stored_bytes(spec.type, spec.shape));
    if (shard_bytes > 0 && !shards.back().empty() && current + bytes > shard_bytes) {
      shards.emplace_back();
      current = 0;
    }
    current += bytes;
    total += bytes;
    shards.back().push_back(std::move(spec));
  }
  if (shards.size() == 1)
    return write_safetensors(directory / "model.safetensors", std::move(shards[0]),
                             std::move(metadata), source);

  json index = {{"metadata", {{"total_size", total}}}, {"weight_map", json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const TensorSpec& spec : shards[i]) index["weight_map"][spec.name] = file;
    NAITE_TRY(write_safetensors(directory / file, std::move(shards[i]), metadata, source));
  }
  return write_file(directory / kIndexName, index.dump(2) + "\n");
}

}  // namespace naite::formats
