// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

namespace naite::formats {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kOptimizer = "state/optimizer.safetensors";
constexpr const char* kCursor = "state/cursor.json";
constexpr const char* kRecord = "record.json";
constexpr const char* kBill = "bom.cdx.json";

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
using Lines = std::map<std::string, std::string>;

std::string line_of(const TensorSpec& spec, std::string_view bytes) {
  return fmt::format("{} {} {} {}\n", spec.name, stored_type_info(spec.type).name,
                     shape_text(spec.shape), sha256_hex(bytes));
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
  TensorSource source(Lines& lines) const {
    return [this, &lines](const TensorSpec& spec, const ByteSink& sink) -> Status {
      std::string buffer;
      NAITE_ASSIGN(const std::string_view all, bytes(spec, buffer));
      lines[spec.name] = line_of(spec, all);
      return sink(all.data(), all.size());
    };
  }
};

std::vector<TensorSpec> weight_specs(const TrainingState& state, StoredType dtype) {
  std::vector<TensorSpec> out;
  for (const tape::ParameterSpec& spec : state.specs)
    out.push_back({spec.name, dtype, shape_of(spec)});
  return out;
}

// The groups of state/optimizer.safetensors: name, members, values.
template <class Use>
void for_each_group(const TrainingState& state, StoredType dtype, const Use& use) {
  if (dtype != StoredType::kF32) use("master", state.specs, state.masters);
  for (const TrainingState::Moments& moments : state.moments)
    use(moments.name, specs_of(state, moments), moments.values);
}

std::vector<TensorSpec> optimizer_specs(const TrainingState& state, StoredType dtype) {
  std::vector<TensorSpec> out;
  for_each_group(state, dtype,
                 [&](const std::string& group, const std::vector<tape::ParameterSpec>& members,
                     std::span<const float>) {
                   for (const tape::ParameterSpec& spec : members)
                     out.push_back({group + "." + spec.name, StoredType::kF32, shape_of(spec)});
                 });
  return out;
}

TensorFile weights_of(const TrainingState& state, StoredType dtype) {
  return {weight_specs(state, dtype), values_of(state.specs, state.masters)};
}

TensorFile optimizer_of(const TrainingState& state, StoredType dtype) {
  TensorFile out{optimizer_specs(state, dtype), {}, true};
  for_each_group(state, dtype,
                 [&](const std::string& group, const std::vector<tape::ParameterSpec>& members,
                     std::span<const float> values) {
                   out.values.merge(values_of(members, values, group + "."));
                 });
  return out;
}

// The lines of `specs`, tensors side by side: bytes_of(spec, buffer) gives a tensor's bytes.
template <class Spec, class BytesOf>
Result<Lines> lines_of(const std::vector<Spec>& specs, ThreadPool& pool, const BytesOf& bytes_of) {
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
  Lines out;
  for (size_t i = 0; i < specs.size(); ++i) {
    NAITE_TRY(status[i]);
    out[specs[i].name] = std::move(made[i]);
  }
  return out;
}

Result<Lines> lines_of(const Safetensors& file, ThreadPool& pool) {
  return lines_of(file.tensors(), pool, [](const StoredTensor& tensor, std::string&) {
    return Result<std::string_view>(tensor.bytes);
  });
}

Result<Lines> lines_of(const TensorFile& file, ThreadPool& pool) {
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

std::string record_text(const Record& record) { return record.to_json().dump(2) + "\n"; }

Status write_record(const fs::path& directory, Record& record) {
  NAITE_ASSIGN(const std::vector<std::string> files, files_below(directory));
  record.files.clear();
  for (const std::string& file : files) {
    NAITE_ASSIGN(record.files[file], sha256_file(directory / file));
  }
  return write_file(directory / kRecord, record_text(record));
}

Result<CheckpointLayout> layout_of(const CheckpointContent& content) {
  const TrainingState& state = *content.state;
  CheckpointLayout out;
  out.texts = {{"config.json", config_text(content)},
               {"generation_config.json", content.generation_config.dump(2) + "\n"},
               {"README.md", content.model_card},
               {kCursor, state.cursor.to_json().dump(2) + "\n"}};
  if (!content.bill_of_materials.empty()) out.texts[kBill] = content.bill_of_materials;
  for (const char* name : kTokenizerFiles) {
    NAITE_ASSIGN(out.texts[name], read_file(content.tokenizer_directory / name));
  }
  NAITE_ASSIGN(out.tensors[kWeights], safetensors_layout(weight_specs(state, content.dtype)));
  NAITE_ASSIGN(out.tensors[kOptimizer], safetensors_layout(optimizer_specs(state, content.dtype)));
  out.record = content.record;
  return out;
}

Record CheckpointLayout::record_of(const CheckpointDigests& digests,
                                   const std::map<std::string, std::string>& tensor_files) const {
  Record out = record;
  out.weights_digest = digests.weights;
  out.state_digest = digests.state;
  out.files = tensor_files;
  for (const auto& [path, text] : texts) out.files[path] = sha256_hex(text);
  return out;
}

Result<Record> write_checkpoint(const fs::path& directory, const CheckpointContent& content) {
  NAITE_ASSIGN(const CheckpointLayout layout, layout_of(content));
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(directory));
  const fs::path& out = writer.path();
  NAITE_TRY(make_directories(out / "state"));
  kill_point("checkpoint_begin");
  for (const auto& [path, text] : layout.texts) NAITE_TRY(write_file(out / path, text));
  TensorLines lines;
  const TrainingState& state = *content.state;
  const TensorFile weights = weights_of(state, content.dtype);
  const TensorFile optimizer = optimizer_of(state, content.dtype);
  NAITE_TRY(write_safetensors(out / kWeights, weights.specs, {}, weights.source(lines.weights)));
  kill_point("checkpoint_half");
  NAITE_TRY(
      write_safetensors(out / kOptimizer, optimizer.specs, {}, optimizer.source(lines.optimizer)));
  std::map<std::string, std::string> tensor_files;
  for (const auto& [path, tensors] : layout.tensors) {
    NAITE_ASSIGN(tensor_files[path], sha256_file(out / path));
  }
  const Record record = layout.record_of(lines.digests(state.cursor), tensor_files);
  NAITE_TRY(write_file(out / kRecord, record_text(record)));
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

CheckpointDigests TensorLines::digests(const Cursor& cursor) const {
  Sha256 of_weights, of_state;
  for (const auto& [name, line] : weights) {
    of_weights.update(line);
    of_state.update(line);
  }
  for (const auto& [name, line] : optimizer) of_state.update(line);
  of_state.update(cursor.to_json().dump());  // keys in ascending order
  return {of_weights.hex(), of_state.hex()};
}

Result<std::string> weights_digest(const fs::path& directory, ThreadPool& pool) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  TensorLines lines;
  NAITE_ASSIGN(lines.weights, lines_of(weights, pool));
  return lines.digests({}).weights;
}

Result<TensorLines> directory_lines(const fs::path& directory, ThreadPool& pool) {
  NAITE_ASSIGN(const Safetensors weights, Safetensors::open(directory));
  NAITE_ASSIGN(const Safetensors optimizer, Safetensors::open(directory / kOptimizer));
  TensorLines out;
  NAITE_ASSIGN(out.weights, lines_of(weights, pool));
  NAITE_ASSIGN(out.optimizer, lines_of(optimizer, pool));
  return out;
}

Result<CheckpointDigests> directory_digests(const fs::path& directory, ThreadPool& pool) {
  NAITE_ASSIGN(const Cursor cursor, read_cursor(directory));
  NAITE_ASSIGN(const TensorLines lines, directory_lines(directory, pool));
  return lines.digests(cursor);
}

Result<CheckpointDigests> state_digests(const TrainingState& state, StoredType dtype,
                                        ThreadPool& pool) {
  TensorLines lines;
  NAITE_ASSIGN(lines.weights, lines_of(weights_of(state, dtype), pool));
  NAITE_ASSIGN(lines.optimizer, lines_of(optimizer_of(state, dtype), pool));
  return lines.digests(state.cursor);
}

}  // namespace naite::formats
