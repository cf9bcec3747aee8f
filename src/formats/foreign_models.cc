// SPDX-License-Identifier: Apache-2.0
#include "formats/foreign_models.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "formats/model_json.h"

namespace naite::formats {

namespace fs = std::filesystem;

namespace {

bool has(const fs::path& directory, std::string_view file) {
  std::error_code ignored;
  return fs::exists(directory / file, ignored);
}

// The name of a file of one of these kinds; empty if the directory holds none.
std::string file_with(const fs::path& directory, const std::vector<std::string_view>& endings) {
  std::string found;
  std::error_code ignored;
  for (fs::directory_iterator it(directory, ignored), end; !ignored && it != end;
       it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    const bool fits = std::any_of(endings.begin(), endings.end(),
                                  [&](std::string_view ending) { return name.ends_with(ending); });
    if (fits && (found.empty() || name < found)) found = name;
  }
  return found;
}

Status expect_directory(const fs::path& path) {
  const std::string name = path.string();
  if (has(path, "adapter_config.json"))
    return fail(
        "{}: holds an adapter (adapter_config.json), which changes a model: merge the two "
        "(merge_and_unload() in peft) and save the result",
        name);
  if (has(path, "model_index.json"))
    return fail("{}: is a pipeline of diffusers (model_index.json), not a language model", name);
  const bool has_config = has(path, "config.json");
  const bool has_whole = has(path, "model.safetensors");
  const bool has_index = has(path, "model.safetensors.index.json");
  if (has_whole && has_index)
    return fail(
        "{}: holds model.safetensors and an index (model.safetensors.index.json): programs differ "
        "in which of the two they read; remove one",
        name);
  if (has_config && (has_whole || has_index)) return {};
  if (const std::string gguf = file_with(path, {".gguf"}); !gguf.empty())
    return fail("{}: is no model directory, but holds {}: name that file", name, gguf);
  const std::string pickle = file_with(path, {".bin", ".pth", ".pt", ".ckpt", ".bin.index.json"});
  if (!pickle.empty())
    return fail(
        "{}: its weights ({}) are Python pickles, which can run code: convert them to "
        "safetensors, as save_pretrained() of transformers writes them",
        name, pickle);
  const std::string other = file_with(path, {".h5", ".msgpack", ".onnx", ".ckpt.index"});
  if (!other.empty())
    return fail("{}: its weights ({}) are of another program: convert them to safetensors", name,
                other);
  if (!has_config) return fail("{}: is no model directory: it holds no config.json", name);
  const std::string part = file_with(path, {".safetensors"});
  return fail("{}: holds neither model.safetensors nor model.safetensors.index.json{}", name,
              part.empty() ? std::string(": its weights are not there")
                           : fmt::format(", only {}: the index is not there", part));
}

}  // namespace

Status expect_gguf(std::string_view bytes, std::string_view name) {
  constexpr uint32_t kGreatestVersion = 0xffff;
  if (bytes.starts_with("GGUF") && bytes.size() >= 8) {
    uint32_t version = 0;
    std::memcpy(&version, bytes.data() + 4, sizeof version);
    if (version > kGreatestVersion)
      return fail(
          "{}: is a big-endian GGUF file, which is not read: take the little-endian one, or "
          "turn it with gguf_convert_endian.py of llama.cpp",
          name);
    return {};
  }
  if (bytes.starts_with("GGUF")) return {};
  for (const char* magic : {"lmgg", "fmgg", "tjgg", "algg"})  // "ggml" and others, turned round
    if (bytes.starts_with(magic))
      return fail("{}: is of the format before GGUF (ggml): convert the original model again",
                  name);
  const bool is_safetensors = bytes.size() > 9 && bytes[8] == '{' && bytes[7] == '\0';
  if (is_safetensors)
    return fail("{}: is a safetensors file: name the directory with its config.json", name);
  if (bytes.starts_with("{")) return fail("{}: is a JSON file: name the model's directory", name);
  return unreadable(bytes, name, fail("{}: not a GGUF file: it does not begin with GGUF", name));
}

Status expect_model(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return expect_directory(path);
  if (fs::exists(path, ignored)) return {};
  const std::string name = path.string();
  return fail(
      "{}: does not exist; a model directory or a .gguf file is expected{}", name,
      name.starts_with("~") ? " (the shell expands ~ only at the start of a word, unquoted)" : "");
}

Status expect_tokenizer(const fs::path& directory) {
  if (has(directory, "tokenizer.json")) return {};
  const std::string name = directory.string();
  if (has(directory, "tokenizer.model"))
    return fail(
        "{}: holds no tokenizer.json, only tokenizer.model: a SentencePiece tokenizer, where "
        "Naite reads byte-level BPE",
        name);
  if (has(directory, "vocab.json") && has(directory, "merges.txt"))
    return fail(
        "{}: holds no tokenizer.json, only vocab.json and merges.txt: save_pretrained() of "
        "transformers' AutoTokenizer writes one",
        name);
  return fail("{}: holds no tokenizer.json", name);
}

}  // namespace naite::formats
