// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "formats/safetensors.h"

namespace naite::formats {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kOptimizer = "state/optimizer.safetensors";
constexpr const char* kCursor = "state/cursor.json";
constexpr const char* kRecord = "record.json";

Shape shape_of(const tape::ParameterSpec& spec) {
  if (spec.role == tape::Role::kVector) return {spec.cols};
  return {spec.rows, spec.cols};
}

std::string_view dtype_in_config(StoredType dtype) {
  switch (dtype) {
    case StoredType::kBf16:
      return "bfloat16";
    case StoredType::kF16:
      return "float16";
    default:
      return "float32";
  }
}

std::vector<tape::ParameterSpec> specs_of(const TrainingState& state,
                                          const TrainingState::Moments& moments) {
  if (moments.members.empty()) return state.specs;
  std::vector<tape::ParameterSpec> out;
  for (const int member : moments.members) out.push_back(state.specs[member]);
  return out;
}

// Each parameter's values among those of `specs`.
using Values = std::map<std::string, std::span<const float>>;
Values values_of(const std::vector<tape::ParameterSpec>& specs, std::span<const float> all,
                 const std::string& prefix = "") {
  Values out;
  int64_t offset = 0;
  for (const tape::ParameterSpec& spec : specs) {
    out[prefix + spec.name] = all.subspan(offset, spec.size());
    offset += spec.size();
  }
  return out;
}

// One line a tensor, by name: type, shape and the SHA-256 of its bytes. Digests are over these
// lines, so they are known while tensors are written, without reading anything back.
using TensorLines = std::map<std::string, std::string>;

void add_line(TensorLines& lines, const TensorSpec& spec, std::string_view bytes) {
  lines[spec.name] = fmt::format("{} {} {} {}\n", spec.name, stored_type_info(spec.type).name,
                                 shape_text(spec.shape), sha256_hex(bytes));
}

TensorLines lines_of(const Safetensors& file) {
  TensorLines lines;
  for (const StoredTensor& tensor : file.tensors()) add_line(lines, tensor, tensor.bytes);
  return lines;
}

std::string digest_of(const TensorLines& weights) {
  Sha256 hash;
  for (const auto& [name, line] : weights) hash.update(line);
  return hash.hex();
}

std::string digest_of(const TensorLines& weights, const TensorLines& optimizer,
                      const json& cursor) {
  Sha256 hash;
  for (const auto& [name, line] : weights) hash.update(line);
  for (const auto& [name, line] : optimizer) hash.update(line);
  hash.update(cursor.dump());  // keys in ascending order
  return hash.hex();
}

// The tensors of model.safetensors, and where their bytes come from; `lines` fills on the way.
std::vector<TensorSpec> weight_specs(const TrainingState& state, StoredType dtype) {
  std::vector<TensorSpec> specs;
  for (const tape::ParameterSpec& spec : state.specs)
    specs.push_back({spec.name, dtype, shape_of(spec)});
  return specs;
}

TensorSource weight_source(const TrainingState& state, TensorLines& lines) {
  return [&lines, values = values_of(state.specs, state.masters)](const TensorSpec& spec,
                                                                  const ByteSink& sink) -> Status {
    std::string bytes;
    NAITE_TRY(encode_floats(spec.type, values.at(spec.name), bytes));
    add_line(lines, spec, bytes);
    return sink(bytes.data(), bytes.size());
  };
}

// The same for state/optimizer.safetensors.
std::vector<TensorSpec> optimizer_specs(const TrainingState& state, StoredType dtype) {
  std::vector<TensorSpec> specs;
  auto add_group = [&](const std::string& group, const std::vector<tape::ParameterSpec>& members) {
    for (const tape::ParameterSpec& spec : members)
      specs.push_back({group + "." + spec.name, StoredType::kF32, shape_of(spec)});
  };
  if (dtype != StoredType::kF32) add_group("master", state.specs);
  for (const TrainingState::Moments& moments : state.moments)
    add_group(moments.name, specs_of(state, moments));
  return specs;
}

TensorSource optimizer_source(const TrainingState& state, TensorLines& lines) {
  Values values = values_of(state.specs, state.masters, "master.");
  for (const TrainingState::Moments& moments : state.moments)
    values.merge(values_of(specs_of(state, moments), moments.values, moments.name + "."));
  return [&lines, values = std::move(values)](const TensorSpec& spec,
                                              const ByteSink& sink) -> Status {
    const std::span<const float> all = values.at(spec.name);
    const std::string_view bytes(reinterpret_cast<const char*>(all.data()), all.size_bytes());
    add_line(lines, spec, bytes);
    return sink(bytes.data(), bytes.size());
  };
}

constexpr std::array kTokenizerFiles = {"tokenizer.json", "tokenizer_config.json"};

std::string config_text(const CheckpointContent& content) {
  json config = content.config;
  config["torch_dtype"] = dtype_in_config(content.dtype);
  config["dtype"] = dtype_in_config(content.dtype);
  return config.dump(2) + "\n";
}

Status copy_into(const fs::path& from, const fs::path& to) {
  NAITE_ASSIGN(const std::string text, read_file(from));
  return write_file(to, text);
}

// Every regular file below the directory except record.json, as relative paths, sorted.
Result<std::vector<std::string>> files_below(const fs::path& directory) {
  std::error_code code;
  std::vector<std::string> out;
  fs::recursive_directory_iterator it(directory, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code))
    if (it->is_regular_file()) out.push_back(fs::relative(it->path(), directory).string());
  if (code) return fail("cannot list {}: {}", directory.string(), code.message());
  std::erase(out, kRecord);
  std::sort(out.begin(), out.end());
  return out;
}

Status read_group(const Safetensors& file, const std::string& prefix,
                  const std::vector<tape::ParameterSpec>& specs, const fs::path& directory,
                  std::vector<float>& values) {
  int64_t total = 0;
  for (const tape::ParameterSpec& spec : specs) total += spec.size();
  values.resize(static_cast<size_t>(total));
  int64_t offset = 0;
  for (const tape::ParameterSpec& spec : specs) {
    const StoredTensor* tensor = file.find(prefix + spec.name);
    if (tensor == nullptr) return fail("{}: no tensor {}{}", directory.string(), prefix, spec.name);
    if (tensor->shape != shape_of(spec))
      return fail("{}: tensor {}{} is {}, expected {}", directory.string(), prefix, spec.name,
                  shape_text(tensor->shape), shape_text(shape_of(spec)));
    NAITE_TRY(read_floats(*tensor, std::span(values).subspan(offset, spec.size())));
    offset += spec.size();
  }
  return {};
}

// Beside the moments, or in the model's own file when that is in fp32.
Status find_masters(const Safetensors& optimizer, const std::vector<tape::ParameterSpec>& specs,
                    const fs::path& directory, std::vector<float>& masters) {
  if (!specs.empty() && optimizer.find("master." + specs.front().name) != nullptr)
    return read_group(optimizer, "master.", specs, directory, masters);
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory / kWeights));
  return read_group(weights, "", specs, directory, masters);
}

}  // namespace

Status write_record(const fs::path& directory, json record) {
  NAITE_ASSIGN(const std::vector<std::string> files, files_below(directory));
  record["files"] = json::object();
  for (const std::string& file : files) {
    NAITE_ASSIGN(record["files"][file], sha256_file(directory / file));
  }
  return write_file(directory / kRecord, record.dump(2) + "\n");
}

Status write_checkpoint(const fs::path& directory, const CheckpointContent& content) {
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(directory));
  const fs::path& out = writer.path();
  NAITE_TRY(make_directories(out / "state"));
  kill_point("checkpoint_begin");
  NAITE_TRY(write_file(out / "config.json", config_text(content)));
  NAITE_TRY(write_file(out / "generation_config.json", content.generation_config.dump(2) + "\n"));
  NAITE_TRY(write_file(out / "README.md", content.model_card));
  for (const char* name : kTokenizerFiles)
    NAITE_TRY(copy_into(content.tokenizer_directory / name, out / name));
  TensorLines weights, optimizer;
  const TrainingState& state = *content.state;
  NAITE_TRY(write_model_safetensors(out, weight_specs(state, content.dtype), {},
                                    weight_source(state, weights)));
  kill_point("checkpoint_half");
  NAITE_TRY(write_safetensors(out / kOptimizer, optimizer_specs(state, content.dtype), {},
                              optimizer_source(state, optimizer)));
  NAITE_TRY(write_file(out / kCursor, state.cursor.dump(2) + "\n"));
  json record = content.record;
  record["weights_digest"] = digest_of(weights);
  record["state_digest"] = digest_of(weights, optimizer, state.cursor);
  NAITE_TRY(write_record(out, std::move(record)));
  if (content.finish) NAITE_TRY(content.finish(out));
  kill_point("checkpoint_rename");
  NAITE_TRY(writer.commit());
  kill_point("checkpoint_done");
  return {};
}

Status check_files(const fs::path& directory) {
  NAITE_ASSIGN(const json record, read_json(directory / kRecord));
  using Files = std::map<std::string, std::string>;
  NAITE_ASSIGN(const Files files, record_files(record, (directory / kRecord).string()));
  for (const auto& [file, expected] : files) {
    NAITE_ASSIGN(const std::string found, sha256_file(directory / file));
    if (found != expected)
      return fail(
          "{} is damaged: its SHA-256 is not the one in record.json; remove {} to go on "
          "from an earlier checkpoint",
          (directory / file).string(), directory.string());
  }
  return {};
}

Status read_checkpoint(const fs::path& directory, TrainingState& state) {
  NAITE_TRY(check_files(directory));
  NAITE_ASSIGN(state.cursor, read_json(directory / kCursor));
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  for (TrainingState::Moments& moments : state.moments)
    NAITE_TRY(read_group(optimizer, moments.name + ".", specs_of(state, moments), directory,
                         moments.values));
  return find_masters(optimizer, state.specs, directory, state.masters);
}

Status read_masters(const fs::path& directory, const std::vector<tape::ParameterSpec>& specs,
                    std::vector<float>& masters) {
  NAITE_TRY(check_files(directory));
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  return find_masters(optimizer, specs, directory, masters);
}

Result<std::map<std::string, std::string>> record_files(const json& record,
                                                        const std::string& name) {
  if (!record.is_object() || !record.contains("files") || !record["files"].is_object())
    return fail(
        "{} lists no files: the checkpoint is damaged; remove it to go on from an earlier "
        "one",
        name);
  std::map<std::string, std::string> out;
  for (const auto& [file, digest] : record["files"].items()) {
    const fs::path path(file);
    const bool leaves = path.is_absolute() || file.empty() ||
                        file.find('\0') != std::string::npos ||
                        std::find(path.begin(), path.end(), "..") != path.end();
    if (leaves || !digest.is_string())
      return fail("{}: `files` must give the SHA-256 of files in its directory, has {}", name,
                  shown_name(file));
    out[file] = digest.get<std::string>();
  }
  return out;
}

Result<std::string> weights_digest(const fs::path& directory) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  return digest_of(lines_of(weights));
}

Result<std::string> state_digest(const fs::path& directory) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  NAITE_ASSIGN(const json cursor, read_json(directory / kCursor));
  return digest_of(lines_of(weights), lines_of(optimizer), cursor);
}

Status check_model_files(const fs::path& directory, const CheckpointContent& content) {
  std::map<std::string, std::string> expected = {
      {"config.json", config_text(content)},
      {"generation_config.json", content.generation_config.dump(2) + "\n"}};
  for (const char* name : kTokenizerFiles) {
    NAITE_ASSIGN(expected[name], read_file(content.tokenizer_directory / name));
  }
  for (const auto& [name, text] : expected) {
    NAITE_ASSIGN(const std::string found, read_file(directory / name));
    if (found != text)
      return fail("{} is not what the recipe makes of it", (directory / name).string());
  }
  return {};
}

Result<std::string> state_digest(const TrainingState& state, StoredType dtype) {
  TensorLines weights, optimizer;
  const TensorSource weight = weight_source(state, weights);
  const TensorSource other = optimizer_source(state, optimizer);
  const ByteSink nowhere = [](const void*, size_t) { return Status(); };
  for (const TensorSpec& spec : weight_specs(state, dtype)) NAITE_TRY(weight(spec, nowhere));
  for (const TensorSpec& spec : optimizer_specs(state, dtype)) NAITE_TRY(other(spec, nowhere));
  return digest_of(weights, optimizer, state.cursor);
}

}  // namespace naite::formats
