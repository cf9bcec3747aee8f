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

std::string line_of(const TensorSpec& spec, std::string_view bytes) {
  return fmt::format("{} {} {} {}\n", spec.name, stored_type_info(spec.type).name,
                     shape_text(spec.shape), sha256_hex(bytes));
}

CheckpointDigests digests_of(const TensorLines& weights, const TensorLines& optimizer,
                             const Cursor& cursor) {
  Sha256 of_weights, of_state;
  for (const auto& [name, line] : weights) {
    of_weights.update(line);
    of_state.update(line);
  }
  for (const auto& [name, line] : optimizer) of_state.update(line);
  of_state.update(cursor.to_json().dump());  // keys in ascending order
  return {of_weights.hex(), of_state.hex()};
}

// The tensors of a checkpoint's file of weights, or of state/optimizer.safetensors, and their
// values.
struct TensorFile {
  std::vector<TensorSpec> specs;
  Values values;
  bool in_place = false;  // fp32 as it lies in memory

  Result<std::string_view> bytes(const TensorSpec& spec, std::string& buffer) const {
    const std::span<const float> all = values.at(spec.name);
    if (in_place)
      return std::string_view(reinterpret_cast<const char*>(all.data()), all.size_bytes());
    buffer.clear();
    NAITE_TRY(encode_floats(spec.type, all, buffer));
    return std::string_view(buffer);
  }
  // For a writer; `lines` fills on the way.
  TensorSource source(TensorLines& lines) const {
    return [this, &lines](const TensorSpec& spec, const ByteSink& sink) -> Status {
      std::string buffer;
      NAITE_ASSIGN(const std::string_view all, bytes(spec, buffer));
      lines[spec.name] = line_of(spec, all);
      return sink(all.data(), all.size());
    };
  }
};

TensorFile weights_of(const TrainingState& state, StoredType dtype) {
  TensorFile out{{}, values_of(state.specs, state.masters)};
  for (const tape::ParameterSpec& spec : state.specs)
    out.specs.push_back({spec.name, dtype, shape_of(spec)});
  return out;
}

TensorFile optimizer_of(const TrainingState& state, StoredType dtype) {
  TensorFile out{{}, {}, true};
  auto add_group = [&](const std::string& group, const std::vector<tape::ParameterSpec>& members,
                       std::span<const float> values) {
    for (const tape::ParameterSpec& spec : members)
      out.specs.push_back({group + "." + spec.name, StoredType::kF32, shape_of(spec)});
    out.values.merge(values_of(members, values, group + "."));
  };
  if (dtype != StoredType::kF32) add_group("master", state.specs, state.masters);
  for (const TrainingState::Moments& moments : state.moments)
    add_group(moments.name, specs_of(state, moments), moments.values);
  return out;
}

// The lines of `specs`, tensors side by side: bytes_of(spec, buffer) gives a tensor's bytes.
template <class Spec, class BytesOf>
Result<TensorLines> lines_of(const std::vector<Spec>& specs, ThreadPool& pool,
                             const BytesOf& bytes_of) {
  std::vector<std::string> made(specs.size());
  std::vector<Status> status(specs.size());
  pool.run(static_cast<int64_t>(specs.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    std::string buffer;
    const Result<std::string_view> bytes = bytes_of(specs[i], buffer);
    if (bytes.ok())
      made[i] = line_of(specs[i], *bytes);
    else
      status[i] = bytes.error();
  });
  TensorLines out;
  for (size_t i = 0; i < specs.size(); ++i) {
    NAITE_TRY(status[i]);
    out[specs[i].name] = std::move(made[i]);
  }
  return out;
}

Result<TensorLines> lines_of(const Safetensors& file, ThreadPool& pool) {
  return lines_of(file.tensors(), pool, [](const StoredTensor& tensor, std::string&) {
    return Result<std::string_view>(tensor.bytes);
  });
}

Result<TensorLines> lines_of(const TensorFile& file, ThreadPool& pool) {
  return lines_of(file.specs, pool, [&](const TensorSpec& spec, std::string& buffer) {
    return file.bytes(spec, buffer);
  });
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
  if (code) return system_error(code.value(), "cannot list {}", directory.string());
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

Status write_record(const fs::path& directory, Record& record) {
  NAITE_ASSIGN(const std::vector<std::string> files, files_below(directory));
  record.files.clear();
  for (const std::string& file : files) {
    NAITE_ASSIGN(record.files[file], sha256_file(directory / file));
  }
  return write_file(directory / kRecord, record.to_json().dump(2) + "\n");
}

Result<Record> write_checkpoint(const fs::path& directory, const CheckpointContent& content) {
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(directory));
  const fs::path& out = writer.path();
  NAITE_TRY(make_directories(out / "state"));
  kill_point("checkpoint_begin");
  NAITE_TRY(write_file(out / "config.json", config_text(content)));
  NAITE_TRY(write_file(out / "generation_config.json", content.generation_config.dump(2) + "\n"));
  NAITE_TRY(write_file(out / "README.md", content.model_card));
  for (const char* name : kTokenizerFiles)
    NAITE_TRY(copy_into(content.tokenizer_directory / name, out / name));
  TensorLines weight_lines, optimizer_lines;
  const TrainingState& state = *content.state;
  const TensorFile weights = weights_of(state, content.dtype);
  const TensorFile optimizer = optimizer_of(state, content.dtype);
  NAITE_TRY(write_model_safetensors(out, weights.specs, {}, weights.source(weight_lines)));
  kill_point("checkpoint_half");
  NAITE_TRY(
      write_safetensors(out / kOptimizer, optimizer.specs, {}, optimizer.source(optimizer_lines)));
  NAITE_TRY(write_file(out / kCursor, state.cursor.to_json().dump(2) + "\n"));
  Record record = content.record;
  const CheckpointDigests digests = digests_of(weight_lines, optimizer_lines, state.cursor);
  record.weights_digest = digests.weights;
  record.state_digest = digests.state;
  NAITE_TRY(write_record(out, record));
  if (content.finish) NAITE_TRY(content.finish(out, record));
  kill_point("checkpoint_rename");
  NAITE_TRY(writer.commit());
  kill_point("checkpoint_done");
  return record;
}

Result<Cursor> read_cursor(const fs::path& directory) {
  NAITE_ASSIGN(const json value, read_json(directory / kCursor));
  return Cursor::parse(value, (directory / kCursor).string() + ":");
}

Status read_tensors(const fs::path& directory, TrainingState& state) {
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  for (TrainingState::Moments& moments : state.moments)
    NAITE_TRY(read_group(optimizer, moments.name + ".", specs_of(state, moments), directory,
                         moments.values));
  return find_masters(optimizer, state.specs, directory, state.masters);
}

Status read_masters(const fs::path& directory, const std::vector<tape::ParameterSpec>& specs,
                    std::vector<float>& masters) {
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  return find_masters(optimizer, specs, directory, masters);
}

Result<std::string> weights_digest(const fs::path& directory, ThreadPool& pool) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  NAITE_ASSIGN(const TensorLines lines, lines_of(weights, pool));
  return digests_of(lines, {}, {}).weights;
}

Result<CheckpointDigests> directory_digests(const fs::path& directory, ThreadPool& pool) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  NAITE_ASSIGN(const Cursor cursor, read_cursor(directory));
  NAITE_ASSIGN(const TensorLines weight_lines, lines_of(weights, pool));
  NAITE_ASSIGN(const TensorLines optimizer_lines, lines_of(optimizer, pool));
  return digests_of(weight_lines, optimizer_lines, cursor);
}

Result<CheckpointDigests> state_digests(const TrainingState& state, StoredType dtype,
                                        ThreadPool& pool) {
  NAITE_ASSIGN(const TensorLines weights, lines_of(weights_of(state, dtype), pool));
  NAITE_ASSIGN(const TensorLines optimizer, lines_of(optimizer_of(state, dtype), pool));
  return digests_of(weights, optimizer, state.cursor);
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

}  // namespace naite::formats
