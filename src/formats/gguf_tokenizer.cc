// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/gguf_keys.h"

namespace naite::formats {

using nlohmann::json;

namespace {

enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

constexpr std::string_view kStopsKey = "naite.eos_token_ids";
constexpr int64_t kVocabMax = int64_t{1} << 24;
constexpr std::string_view kContractions =
    R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|)";
constexpr std::string_view kRest = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The split patterns by llama.cpp's names, as the run of digits that makes one piece (0: GPT-2's
// own pattern) and whether words of the vocabulary skip the merges.
struct Splitter {
  std::string_view pre;
  int digits_max;
  bool ignore_merges;
};
constexpr Splitter kSplitters[] = {
    {"qwen2", 1, false}, {"llama-bpe", 3, true}, {"smaug-bpe", 3, false}, {"gpt-2", 0, false}};

const json* find(const json& value, const char* key) {
  if (!value.is_object()) return nullptr;
  const auto it = value.find(key);
  return it == value.end() || it->is_null() ? nullptr : &*it;
}

bool flag(const json& value, const char* key) {
  const json* found = find(value, key);
  return found != nullptr && *found == json(true);
}

// The pattern of the first Split in a pre-tokenizer, which may be a sequence.
std::string pattern_of(const json& pre_tokenizer) {
  if (const json* parts = find(pre_tokenizer, "pretokenizers"); parts != nullptr) {
    for (const json& part : *parts)
      if (std::string pattern = pattern_of(part); !pattern.empty()) return pattern;
    return "";
  }
  const json* pattern = find(pre_tokenizer, "pattern");
  const json* regex = pattern == nullptr ? nullptr : find(*pattern, "Regex");
  return regex != nullptr && regex->is_string() ? regex->get<std::string>() : "";
}

Result<std::string_view> pre_name(const json& tokenizer, const json& model) {
  const json* pre_tokenizer = find(tokenizer, "pre_tokenizer");
  const std::string pattern = pre_tokenizer == nullptr ? "" : pattern_of(*pre_tokenizer);
  const auto contains = [&](std::string_view part) { return pattern.find(part) != pattern.npos; };
  int digits_max = -1;
  if (pattern.empty()) digits_max = 0;
  if (contains("|\\p{N}|")) digits_max = 1;
  if (contains("|\\p{N}{1,3}|")) digits_max = 3;
  const bool ignore_merges = flag(model, "ignore_merges");
  for (const Splitter& splitter : kSplitters)
    if (splitter.digits_max == digits_max && splitter.ignore_merges == ignore_merges)
      return splitter.pre;
  return fail("tokenizer.json: llama.cpp has no name for the split pattern {}", pattern);
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;

  Status put(const json& id, const std::string& text, TokenType type) {
    const int64_t at = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (at < 0 || at >= static_cast<int64_t>(texts.size()))
      return fail("tokenizer.json: the token {} has the id {}; the model has {} tokens",
                  shown_name(text), id.dump(), texts.size());
    texts[at] = text;
    types[at] = type;
    return {};
  }
};

Result<Tokens> tokens_of(const json& tokenizer, const json& model, int64_t vocab_size) {
  if (vocab_size < 1 || vocab_size > kVocabMax) return fail("a vocabulary of {}", vocab_size);
  Tokens tokens;
  for (int64_t i = 0; i < vocab_size; ++i) tokens.texts.push_back(fmt::format("[PAD{}]", i));
  tokens.types.assign(vocab_size, kUnused);
  const json* vocab = find(model, "vocab");
  if (vocab == nullptr || !vocab->is_object())
    return fail("tokenizer.json: has no model with a vocab");
  for (const auto& [text, id] : vocab->items()) NAITE_TRY(tokens.put(id, text, kNormal));
  if (const json* added = find(tokenizer, "added_tokens"); added != nullptr)
    for (const json& token : *added) {
      const json* content = find(token, "content");
      if (content == nullptr || !content->is_string())
        return fail("tokenizer.json: an added token has no content");
      const json* id = find(token, "id");
      NAITE_TRY(tokens.put(id == nullptr ? json() : *id, content->get<std::string>(),
                           flag(token, "special") ? kControl : kUserDefined));
    }
  return tokens;
}

Result<std::vector<std::string>> merges_of(const json& model) {
  std::vector<std::string> out;
  const json* merges = find(model, "merges");
  if (merges == nullptr) return out;
  for (const json& merge : *merges) {
    const bool pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (pair)
      out.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    else if (merge.is_string())
      out.push_back(merge.get<std::string>());
    else
      return fail("tokenizer.json: a merge is neither a pair nor a text");
  }
  return out;
}

// A special token's id: generation_config.json has numbers (or a list), tokenizer_config.json
// names.
std::optional<uint32_t> special_id(const json& generation, const json& tokenizer_config,
                                   const Tokens& tokens, const std::string& which) {
  if (const json* id = find(generation, (which + "_token_id").c_str()); id != nullptr) {
    const json& first = id->is_array() && !id->empty() ? id->front() : *id;
    if (first.is_number_unsigned() && first.get<uint64_t>() < tokens.texts.size())
      return first.get<uint32_t>();
  }
  const json* token = find(tokenizer_config, (which + "_token").c_str());
  if (token != nullptr && token->is_object()) token = find(*token, "content");
  if (token == nullptr || !token->is_string()) return std::nullopt;
  const auto it = std::find(tokens.texts.begin(), tokens.texts.end(), token->get<std::string>());
  if (it == tokens.texts.end()) return std::nullopt;
  return static_cast<uint32_t>(it - tokens.texts.begin());
}

// llama.cpp knows an end of text, of a turn and of a message; all of them stop it, as does what it
// knows by its text. The whole list is kept for the way back.
void put_stops(GgufKeys& keys, const std::vector<int32_t>& stops,
               const std::map<std::string, uint32_t>& special) {
  const auto eos = special.find("eos");
  std::vector<const char*> names = {"eot", "eom"};
  if (eos == special.end()) names.insert(names.begin(), "eos");
  size_t next = 0;
  for (const int32_t id : stops) {
    if (eos != special.end() && eos->second == static_cast<uint32_t>(id)) continue;
    if (next == names.size()) break;
    keys.u32(fmt::format("tokenizer.ggml.{}_token_id", names[next++]), static_cast<uint32_t>(id));
  }
  if (stops.size() > 1) keys.i32s(kStopsKey, stops);
}

json split_of(const Splitter& splitter) {
  json byte_level = {{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", false},
                     {"use_regex", splitter.digits_max == 0}};
  if (splitter.digits_max == 0) return byte_level;
  const std::string pattern = std::string(kContractions) +
                              (splitter.digits_max == 1 ? R"(\p{N})" : R"(\p{N}{1,3})") +
                              std::string(kRest);
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
}

Result<Splitter> splitter_from_gguf(const Gguf& file) {
  NAITE_ASSIGN(const std::string model, file.text("tokenizer.ggml.model"));
  if (model != "gpt2")
    return fail("{}: its tokenizer is of type {}; byte-level BPE (gpt2) can be read", file.name(),
                shown_name(model));
  NAITE_ASSIGN(const std::string pre, file.text("tokenizer.ggml.pre"));
  for (const Splitter& splitter : kSplitters)
    if (splitter.pre == pre) return splitter;
  return fail("{}: tokenizer.ggml.pre is {}; qwen2, llama-bpe, smaug-bpe and gpt-2 can be read",
              file.name(), shown_name(pre));
}

// What stands before every text: a template with the token, if the file asks for one.
Result<json> post_processor_from_gguf(const Gguf& file,
                                      const std::vector<std::string_view>& tokens) {
  if (!file.has("tokenizer.ggml.add_bos_token") || !file.has("tokenizer.ggml.bos_token_id"))
    return json(nullptr);
  NAITE_ASSIGN(const bool wanted, file.boolean("tokenizer.ggml.add_bos_token"));
  NAITE_ASSIGN(const int64_t id, file.integer("tokenizer.ggml.bos_token_id"));
  if (!wanted || id < 0 || id >= static_cast<int64_t>(tokens.size())) return json(nullptr);
  const std::string token(tokens[id]);
  const json first = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  const json known = {{"id", token}, {"ids", json::array({id})}, {"tokens", json::array({token})}};
  return json{{"type", "TemplateProcessing"},
              {"single", json::array({first, text})},
              {"pair", json::array({first, text, second})},
              {"special_tokens", {{token, known}}}};
}

// Other programs number added tokens on from the end of the vocabulary. So the vocabulary takes in
// what stands before its last ordinary token, or before the last one of all if unused ones stand
// between.
size_t end_of_vocab(const std::vector<int64_t>& types) {
  size_t end = 0, last = 0;
  bool has_gap = false;
  for (size_t id = 0; id < types.size(); ++id) {
    const bool is_added = types[id] == kControl || types[id] == kUserDefined;
    if (types[id] == kUnused) continue;
    has_gap |= is_added && id != last;
    last = id + 1;
    if (is_added) continue;
    end = last;
    has_gap = false;
  }
  return has_gap ? last : end;
}

}  // namespace

Status put_tokenizer(GgufKeys& keys, const json& tokenizer, const json& tokenizer_config,
                     const json& generation_config, const TokenUse& use, int64_t vocab_size) {
  const json* model = find(tokenizer, "model");
  const json* type = model == nullptr ? nullptr : find(*model, "type");
  if (model == nullptr || (type != nullptr && *type != json("BPE")))
    return fail("tokenizer.json: only byte-level BPE can be written to GGUF");
  NAITE_ASSIGN(const std::string_view pre, pre_name(tokenizer, *model));
  NAITE_ASSIGN(const Tokens tokens, tokens_of(tokenizer, *model, vocab_size));
  NAITE_ASSIGN(const std::vector<std::string> merges, merges_of(*model));
  keys.text("tokenizer.ggml.model", "gpt2");
  keys.text("tokenizer.ggml.pre", pre);
  keys.texts("tokenizer.ggml.tokens", tokens.texts);
  keys.i32s("tokenizer.ggml.token_type", tokens.types);
  keys.texts("tokenizer.ggml.merges", merges);
  std::map<std::string, uint32_t> special;
  for (const char* which : {"bos", "eos", "pad"})
    if (const auto id = special_id(generation_config, tokenizer_config, tokens, which); id)
      special[which] = *id;
  if (use.begin.size() > 1)
    return fail("tokenizer.json: {} tokens begin every text, GGUF has room for one",
                use.begin.size());
  if (!use.begin.empty()) special["bos"] = static_cast<uint32_t>(use.begin[0]);
  for (const auto& [which, id] : special)
    keys.u32(fmt::format("tokenizer.ggml.{}_token_id", which == "pad" ? "padding" : which), id);
  put_stops(keys, use.stop, special);
  keys.boolean("tokenizer.ggml.add_bos_token", !use.begin.empty());
  const json* chat = find(tokenizer_config, "chat_template");
  if (chat != nullptr && chat->is_string())
    keys.text("tokenizer.chat_template", chat->get<std::string>());
  return {};
}

Result<std::string> tokenizer_from_gguf(const Gguf& file) {
  NAITE_ASSIGN(const Splitter splitter, splitter_from_gguf(file));
  NAITE_ASSIGN(const std::vector<std::string_view> tokens, file.texts("tokenizer.ggml.tokens"));
  NAITE_ASSIGN(const std::vector<int64_t> types, file.integers("tokenizer.ggml.token_type"));
  NAITE_ASSIGN(const std::vector<std::string_view> merges, file.texts("tokenizer.ggml.merges"));
  if (types.size() != tokens.size())
    return fail("{}: {} tokens, but {} token types", file.name(), tokens.size(), types.size());
  json vocab = json::object(), added = json::array(), pairs = json::array();
  const size_t vocab_end = end_of_vocab(types);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (id < vocab_end && !vocab.emplace(tokens[id], id).second)
      return fail("{}: the tokens {} and {} have the same text {}", file.name(),
                  vocab[std::string(tokens[id])].dump(), id, shown_name(tokens[id]));
    if (types[id] == kControl || types[id] == kUserDefined)
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types[id] == kControl}});
  }
  for (const std::string_view merge : merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos)
      return fail("{}: the merge {} is not two tokens", file.name(), shown_name(merge));
    pairs.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", false},
                           {"use_regex", false}};
  NAITE_ASSIGN(const json post_processor, post_processor_from_gguf(file, tokens));
  const json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", split_of(splitter)},
                          {"post_processor", post_processor},
                          {"decoder", byte_level},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", splitter.ignore_merges},
                            {"vocab", vocab},
                            {"merges", pairs}}}};
  return tokenizer.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<json> generation_config_from_gguf(const Gguf& file) {
  json out = json::object();
  for (const auto& [which, key] : {std::pair("bos", "bos"), {"eos", "eos"}, {"pad", "padding"}}) {
    const std::string name = fmt::format("tokenizer.ggml.{}_token_id", key);
    if (!file.has(name)) continue;
    NAITE_ASSIGN(out[fmt::format("{}_token_id", which)], file.integer(name));
  }
  std::vector<int64_t> stops;
  if (file.has(kStopsKey)) {
    NAITE_ASSIGN(stops, file.integers(kStopsKey));
  } else {
    if (out.contains("eos_token_id")) stops.push_back(out["eos_token_id"].get<int64_t>());
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      if (!file.has(key)) continue;
      NAITE_ASSIGN(const int64_t id, file.integer(key));
      if (std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
    }
  }
  if (stops.size() > 1) out["eos_token_id"] = stops;
  return out;
}

Result<json> tokenizer_config_from_gguf(const Gguf& file) {
  json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"clean_up_tokenization_spaces", false},
              {"add_bos_token", false}};
  if (file.has("tokenizer.ggml.add_bos_token")) {
    NAITE_ASSIGN(out["add_bos_token"], file.boolean("tokenizer.ggml.add_bos_token"));
  }
  if (file.has("tokenizer.ggml.add_eos_token")) {
    NAITE_ASSIGN(out["add_eos_token"], file.boolean("tokenizer.ggml.add_eos_token"));
  }
  if (file.has("tokenizer.chat_template")) {
    NAITE_ASSIGN(out["chat_template"], file.text("tokenizer.chat_template"));
  }
  NAITE_ASSIGN(const std::vector<std::string_view> tokens, file.texts("tokenizer.ggml.tokens"));
  NAITE_ASSIGN(const json ids, generation_config_from_gguf(file));
  for (const auto& [key, value] : ids.items()) {
    const json& id = value.is_array() ? value.front() : value;
    if (id >= 0 && id < tokens.size())
      out[key.substr(0, key.size() - 3)] = tokens[id.get<uint64_t>()];
  }
  return out;
}

}  // namespace naite::formats
