// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, written and read. The keys of the files that Naite writes:
//   added_tokens   the special tokens
//   pre_tokenizer  Split by kQwenPattern, then ByteLevel without its own pattern
//   model          BPE: vocab {token in the byte alphabet: id}, merges [[left, right], ...] by rank
// Files of others are kept as they are and written back unchanged. What would make encoding differ
// from the program that wrote them (another pattern, another model) is refused by name.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/json_text.h"
#include "data/added_tokens.h"
#include "data/tokenizer_model.h"
#include "data/unicode.h"

namespace naite::data {

using nlohmann::json;

namespace {

constexpr int64_t kVocabMax = 1 << 24;

constexpr std::string_view kChatTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

bool shows_as_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

std::string to_alphabet(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(byte_alphabet()[static_cast<unsigned char>(c)], text);
  return text;
}

// Back to bytes; a token with a character outside the alphabet stands for its own text.
std::string from_alphabet(std::string_view text) {
  static const std::unordered_map<uint32_t, char> kByteOf = [] {
    std::unordered_map<uint32_t, char> map;
    for (int byte = 0; byte < 256; ++byte)
      map[byte_alphabet()[static_cast<size_t>(byte)]] = static_cast<char>(byte);
    return map;
  }();
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Char c = decode_char(text, at);
    const auto found = kByteOf.find(c.code);
    if (found == kByteOf.end()) return std::string(text);
    bytes.push_back(found->second);
    at += c.size;
  }
  return bytes;
}

std::string as_json_string(std::string_view text) { return json(std::string(text)).dump(); }

}  // namespace

std::array<uint8_t, 256> byte_order() {
  std::array<uint8_t, 256> order{};
  size_t next = 0;
  for (const bool shown : {true, false})
    for (int byte = 0; byte < 256; ++byte)
      if (shows_as_itself(byte) == shown) order[next++] = static_cast<uint8_t>(byte);
  return order;
}

const std::array<uint16_t, 256>& byte_alphabet() {
  static const std::array<uint16_t, 256> kAlphabet = [] {
    std::array<uint16_t, 256> alphabet{};
    uint16_t next = 256;
    for (int byte = 0; byte < 256; ++byte)
      alphabet[static_cast<size_t>(byte)] =
          shows_as_itself(byte) ? static_cast<uint16_t>(byte) : next++;
    return alphabet;
  }();
  return kAlphabet;
}

std::shared_ptr<const Tokenizer::Model> make_model(const std::vector<Merge>& merges) {
  auto model = std::make_shared<Tokenizer::Model>();
  std::unordered_map<std::string, int32_t> ids;
  for (const uint8_t byte : byte_order()) {
    model->byte_ids[byte] = static_cast<int32_t>(model->tokens.size());
    model->tokens.emplace_back(1, static_cast<char>(byte));
    ids.emplace(model->tokens.back(), model->byte_ids[byte]);
  }
  model->merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::string joined = model->tokens[static_cast<size_t>(merge.left)] +
                               model->tokens[static_cast<size_t>(merge.right)];
    const auto [entry, added] = ids.emplace(joined, static_cast<int32_t>(model->tokens.size()));
    if (added) model->tokens.push_back(joined);
    model->merges.insert(merge.left, merge.right, static_cast<int32_t>(rank), entry->second);
  }
  model->special.assign(model->tokens.size(), 0);
  for (const std::string_view content : {kEndOfDocument, kTurnStart, kTurnEnd}) {
    AddedToken token;
    token.content = content;
    token.id = static_cast<int32_t>(model->tokens.size());
    model->tokens.push_back(token.content);
    model->special.push_back(1);
    model->added.push_back(std::move(token));
  }
  model->end_of_document = model->added[0].id;
  model->turn_start = model->added[1].id;
  model->turn_end = model->added[2].id;
  index_added_tokens(*model);
  model->json = tokenizer_json_of(*model, merges);
  model->config_json = tokenizer_config_of(*model);
  return model;
}

namespace {

// The merges that a file of ours lists; none if it is no such file.
std::optional<std::vector<Merge>> merges_of(const json& file) {
  std::unordered_map<std::string, int32_t> ids;
  for (const uint8_t byte : byte_order())
    ids.emplace(std::string(1, static_cast<char>(byte)), static_cast<int32_t>(ids.size()));
  std::vector<Merge> out;
  const json::json_pointer place("/model/merges");
  if (!file.contains(place) || !file[place].is_array()) return std::nullopt;
  for (const json& pair : file[place]) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      return std::nullopt;
    const std::string left = from_alphabet(pair[0].get_ref<const std::string&>());
    const std::string right = from_alphabet(pair[1].get_ref<const std::string&>());
    const auto first = ids.find(left), second = ids.find(right);
    if (first == ids.end() || second == ids.end()) return std::nullopt;
    out.push_back({first->second, second->second});
    ids.emplace(left + right, static_cast<int32_t>(ids.size()));
  }
  return out;
}

}  // namespace

bool Tokenizer::is_of_our_making() const {
  const Result<json> file = parse_json(model_->json, "tokenizer.json");
  if (!file) return false;
  const std::optional<std::vector<Merge>> merges = merges_of(*file);
  if (!merges) return false;
  const std::shared_ptr<const Model> again = make_model(*merges);
  return again->json == model_->json && again->config_json == model_->config_json;
}

std::string tokenizer_json_of(const Tokenizer::Model& model, const std::vector<Merge>& merges) {
  std::string out =
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
      "  \"added_tokens\": [";
  for (size_t i = 0; i < model.added.size(); ++i)
    out += fmt::format(
        "{}\n    {{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, "
        "\"rstrip\": false, \"normalized\": false, \"special\": true}}",
        i == 0 ? "" : ",", model.added[i].id, as_json_string(model.added[i].content));
  // The model has seen the end-of-document token before every document, so every text begins with
  // it.
  const std::string begin = as_json_string(kEndOfDocument);
  const std::string first =
      fmt::format("{{\"SpecialToken\": {{\"id\": {}, \"type_id\": 0}}}}", begin);
  const std::string text = "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}";
  const std::string second = "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}";
  const std::string post_processor = fmt::format(
      "{{\"type\": \"TemplateProcessing\", \"single\": [{}, {}],\n    \"pair\": [{}, {}, {}],\n"
      "    \"special_tokens\": {{{}: {{\"id\": {}, \"ids\": [{}], \"tokens\": [{}]}}}}}}",
      first, text, first, text, second, begin, begin, model.end_of_document, begin);
  constexpr std::string_view kByteLevel =
      "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, "
      "\"use_regex\": false}";
  out += fmt::format(
      "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {{\"type\": \"Sequence\", "
      "\"pretokenizers\": [\n    {{\"type\": \"Split\", \"pattern\": {{\"Regex\": {}}}, "
      "\"behavior\": \"Isolated\", \"invert\": false}},\n    {}\n  ]}},\n"
      "  \"post_processor\": {},\n  \"decoder\": {},\n",
      as_json_string(kQwenPattern), kByteLevel, post_processor, kByteLevel);
  out +=
      "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
      "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
      "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
      "    \"vocab\": {";
  const size_t plain = model.tokens.size() - model.added.size();
  for (size_t id = 0; id < plain; ++id)
    out += fmt::format("{}\n      {}: {}", id == 0 ? "" : ",",
                       as_json_string(to_alphabet(model.tokens[id])), id);
  out += "\n    },\n    \"merges\": [";
  for (size_t i = 0; i < merges.size(); ++i)
    out += fmt::format(
        "{}\n      [{}, {}]", i == 0 ? "" : ",",
        as_json_string(to_alphabet(model.tokens[static_cast<size_t>(merges[i].left)])),
        as_json_string(to_alphabet(model.tokens[static_cast<size_t>(merges[i].right)])));
  return out + "\n    ]\n  }\n}\n";
}

std::string tokenizer_config_of(const Tokenizer::Model& model) {
  nlohmann::ordered_json config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  for (const AddedToken& token : model.added)
    config["added_tokens_decoder"][std::to_string(token.id)] = {
        {"content", token.content}, {"lstrip", false},      {"normalized", false},
        {"rstrip", false},          {"single_word", false}, {"special", true}};
  config["bos_token"] = kEndOfDocument;
  config["eos_token"] = kEndOfDocument;
  config["pad_token"] = kEndOfDocument;
  config["unk_token"] = nullptr;
  config["add_bos_token"] = false;
  config["clean_up_tokenization_spaces"] = false;
  config["chat_template"] = kChatTemplate;
  return config.dump(2) + "\n";
}

namespace {

// Reads one tokenizer.json. The first fault is kept by the tables and reported by from_json().
class FileReader {
 public:
  FileReader(const json& root, std::string_view name)
      : root_(root), name_(name), model_(std::make_shared<Tokenizer::Model>()) {}

  Result<std::shared_ptr<Tokenizer::Model>> read() {
    Table table(root_, name_);
    table.ignore({"version", "truncation", "padding", "post_processor", "decoder"});
    const json* added = table.raw("added_tokens");
    const json* normalizer = table.raw("normalizer");
    const json* splitter = table.raw("pre_tokenizer");
    Table bpe = table.table("model");
    NAITE_TRY(table.finish(/*allow_unknown=*/true));
    NAITE_TRY(read_normalizer(normalizer));
    NAITE_TRY(read_splitter(splitter));
    NAITE_TRY(read_model(bpe));
    if (added != nullptr) NAITE_TRY(read_added(*added));
    finish();
    return model_;
  }

 private:
  Error unsupported(std::string_view part, const json& value) const {
    std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    if (text.size() > 160) text = text.substr(0, 157) + "...";
    return fail(
        "{}: {} is not supported: {}; use a byte-level BPE tokenizer with the GPT-2, GPT-4, "
        "Llama 3 or Qwen pattern",
        name_, part, text);
  }

  Status read_normalizer(const json* value) {
    if (value == nullptr || value->is_null()) return {};
    const json* one = value;
    if (value->is_object() && value->value("type", json()) == "Sequence") {
      const auto list = value->find("normalizers");
      if (list != value->end() && list->is_array() && list->empty()) return {};
      if (list != value->end() && list->is_array() && list->size() == 1) one = &list->at(0);
    }
    if (!one->is_object() || one->value("type", json()) != "NFC")
      return unsupported("normalizer", *value);
    model_->normalize_nfc = true;
    return {};
  }

  Status read_byte_level(const json& value, bool has_split) {
    const bool own_pattern = value.value("use_regex", json(true)) != json(false);
    if (own_pattern == has_split) return unsupported("pre_tokenizer", value);
    if (own_pattern) model_->rule = {.family = SplitRule::Family::kGpt2};
    model_->add_prefix_space = value.value("add_prefix_space", json(true)) != json(false);
    return {};
  }

  Status read_splitter(const json* value) {
    if (value == nullptr || !value->is_object()) return unsupported("pre_tokenizer", json());
    if (value->value("type", json()) == "ByteLevel") return read_byte_level(*value, false);
    const auto list = value->find("pretokenizers");
    if (value->value("type", json()) != "Sequence" || list == value->end() || !list->is_array() ||
        list->size() != 2 || !list->at(0).is_object() || !list->at(1).is_object())
      return unsupported("pre_tokenizer", *value);
    const json &split = list->at(0), &bytes = list->at(1);
    if (split.value("type", json()) != "Split" || bytes.value("type", json()) != "ByteLevel")
      return unsupported("pre_tokenizer", *value);
    const json pattern = split.value("pattern", json());
    const json inverted = split.value("invert", json(false));
    const json behavior = split.value("behavior", json());
    // The patterns cover every text, so these two mean the same.
    const bool isolated = behavior == "Isolated" && inverted == json(false);
    const bool removed = behavior == "Removed" && inverted == json(true);
    if ((!isolated && !removed) || !pattern.is_object() || !pattern.contains("Regex") ||
        !pattern["Regex"].is_string())
      return unsupported("pre_tokenizer", split);
    const std::optional<SplitRule> rule = rule_of_pattern(pattern["Regex"].get<std::string>());
    if (!rule) return unsupported("the split pattern", pattern);
    model_->rule = *rule;
    return read_byte_level(bytes, true);
  }

  Status read_model(Table& table) {
    const std::string type = table.string("type", "BPE");
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* value = table.raw(key);
      if (value == nullptr || value->is_null() || *value == json("") || *value == json(0.0))
        continue;
      return unsupported(fmt::format("model {}", key), *value);
    }
    table.ignore({"unk_token", "fuse_unk", "version"});
    if (table.boolean("byte_fallback", false))
      return unsupported("model byte_fallback", json(true));
    model_->ignore_merges = table.boolean("ignore_merges", false);
    const json* vocab = table.raw("vocab");
    const json* merges = table.raw("merges");
    if (vocab == nullptr || !vocab->is_object()) table.reject("vocab", "an object of token: id");
    if (merges == nullptr || !merges->is_array()) table.reject("merges", "a list of pairs");
    NAITE_TRY(table.finish(/*allow_unknown=*/true));
    if (type != "BPE") return unsupported("model type", json(type));
    NAITE_TRY(read_vocab(*vocab));
    return read_merges(*merges);
  }

  Status place(int64_t id, std::string bytes) {
    if (id < 0 || id >= ids_max_)
      return fail("{}: token {} has the id {}, outside 0..{}", name_, quoted_prefix(bytes), id,
                  ids_max_ - 1);
    const size_t index = static_cast<size_t>(id);
    if (index >= model_->tokens.size()) {
      model_->tokens.resize(index + 1);
      taken_.resize(index + 1, 0);
    }
    model_->tokens[index] = std::move(bytes);
    taken_[index] = 1;
    return {};
  }

  static std::string quoted_prefix(const std::string& text) {
    return json(text.substr(0, 40)).dump(-1, ' ', false, json::error_handler_t::replace);
  }

  Status read_vocab(const json& vocab) {
    model_->byte_ids.fill(-1);
    // There may be gaps between ids, but none that make a small file take a large table.
    ids_max_ = std::min(kVocabMax, 4 * static_cast<int64_t>(vocab.size()) + (1 << 16));
    ids_.reserve(vocab.size());
    for (const auto& [text, id] : vocab.items()) {
      if (!id.is_number_integer())
        return fail("{}: token {} has no integer as its id", name_, quoted_prefix(text));
      const int64_t number = id.get<int64_t>();
      std::string bytes = from_alphabet(text);
      if (bytes.size() == 1)
        model_->byte_ids[static_cast<unsigned char>(bytes[0])] = static_cast<int32_t>(number);
      ids_.emplace(text, static_cast<int32_t>(number));
      if (number >= 0 && static_cast<size_t>(number) < taken_.size() &&
          taken_[static_cast<size_t>(number)] != 0)
        return fail("{}: two tokens have the id {}, one of them {}", name_, number,
                    quoted_prefix(text));
      NAITE_TRY(place(number, std::move(bytes)));
    }
    next_added_ = static_cast<int32_t>(vocab.size());
    return {};
  }

  Result<std::pair<std::string, std::string>> pair_of(const json& value, size_t rank) const {
    if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
      return std::pair(value[0].get<std::string>(), value[1].get<std::string>());
    if (value.is_string()) {
      const std::string text = value.get<std::string>();
      const size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
        return std::pair(text.substr(0, space), text.substr(space + 1));
    }
    return fail("{}: merge {} is neither [\"left\", \"right\"] nor \"left right\"", name_, rank);
  }

  Status read_merges(const json& merges) {
    model_->merges.reserve(merges.size());
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      NAITE_ASSIGN(const auto pair, pair_of(merges[rank], rank));
      if (pair.first.empty() || pair.second.empty())
        return fail("{}: merge {} gives one of its own parts again", name_, rank);
      const auto left = ids_.find(pair.first), right = ids_.find(pair.second),
                 joined = ids_.find(pair.first + pair.second);
      if (left == ids_.end() || right == ids_.end() || joined == ids_.end())
        return fail("{}: merge {} ({} {}) names a token that `vocab` lacks", name_, rank,
                    quoted_prefix(pair.first), quoted_prefix(pair.second));
      model_->merges.insert(left->second, right->second, static_cast<int32_t>(rank),
                            joined->second);
    }
    return {};
  }

  // The tokenizers library knows an added token by its text, and numbers those that the vocabulary
  // lacks on from its end, whatever the file says.
  Status expect_own_id(const AddedToken& token) {
    const auto known = ids_.find(token.content);
    const int32_t expected = known != ids_.end() ? known->second : next_added_;
    if (token.id != expected)
      return fail("{}: the added token {} has the id {}, where other programs give it {}", name_,
                  quoted_prefix(token.content), token.id, expected);
    if (known != ids_.end()) return {};
    if (static_cast<size_t>(token.id) < taken_.size() && taken_[static_cast<size_t>(token.id)] != 0)
      return fail("{}: the added token {} has the id {}, which is taken", name_,
                  quoted_prefix(token.content), token.id);
    ids_.emplace(token.content, token.id);
    ++next_added_;
    return {};
  }

  Status read_added(const json& list) {
    if (!list.is_array()) return fail("{}: `added_tokens` must be a list", name_);
    for (const json& item : list) {
      Table table(item, name_ + ": [added_tokens]");
      AddedToken token;
      const int64_t id = table.integer("id", {}, 0, kVocabMax - 1);
      token.id = static_cast<int32_t>(id);
      token.content = table.string("content");
      token.special = table.boolean("special", false);
      token.single_word = table.boolean("single_word", false);
      token.lstrip = table.boolean("lstrip", false);
      token.rstrip = table.boolean("rstrip", false);
      token.normalized = table.boolean("normalized", !token.special);
      NAITE_TRY(table.finish(/*allow_unknown=*/true));
      NAITE_TRY(expect_own_id(token));
      NAITE_TRY(place(id, token.content));
      model_->added.push_back(std::move(token));
    }
    return {};
  }

  void finish() {
    model_->special.assign(model_->tokens.size(), 0);
    for (const AddedToken& token : model_->added)
      if (token.special) model_->special[static_cast<size_t>(token.id)] = 1;
    if (model_->ignore_merges) {
      std::vector<uint8_t> added(model_->tokens.size(), 0);
      for (const AddedToken& token : model_->added) added[static_cast<size_t>(token.id)] = 1;
      for (size_t id = 0; id < model_->tokens.size(); ++id)
        if (taken_[id] != 0 && added[id] == 0)
          model_->whole_pieces.emplace(model_->tokens[id], static_cast<int32_t>(id));
    }
    index_added_tokens(*model_);
  }

  const json& root_;
  std::string name_;
  std::shared_ptr<Tokenizer::Model> model_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<uint8_t> taken_;
  int32_t next_added_ = 0;
  int64_t ids_max_ = 0;
};

// A token named in tokenizer_config.json: a string, or an object with `content`.
std::string named_token(const json& config, const char* key) {
  if (!config.is_object()) return "";
  const auto value = config.find(key);
  if (value == config.end()) return "";
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object() && value->contains("content") && (*value)["content"].is_string())
    return (*value)["content"].get<std::string>();
  return "";
}

// What ends a document: the usual names first, then what the configuration calls the end.
void choose_ends(Tokenizer::Model& model, const json& config) {
  const auto find = [&](std::string_view content) -> int32_t {
    for (const AddedToken& token : model.added)
      if (token.content == content && !content.empty()) return token.id;
    return -1;
  };
  model.turn_start = find(kTurnStart);
  model.turn_end = find(kTurnEnd);
  for (const std::string& name : {std::string(kEndOfDocument), named_token(config, "eos_token"),
                                  std::string("<|end_of_text|>"), std::string("</s>")})
    if (model.end_of_document < 0) model.end_of_document = find(name);
}

Result<std::shared_ptr<Tokenizer::Model>> read_model_text(std::string_view text,
                                                          std::string_view name) {
  NAITE_ASSIGN(const json root, parse_json(text, name, kTokenizerJson));
  NAITE_ASSIGN(auto model, FileReader(root, name).read());
  model->json = text;
  return model;
}

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view text, std::string_view name) {
  NAITE_ASSIGN(auto model, read_model_text(text, name));
  choose_ends(*model, json());
  model->config_json = tokenizer_config_of(*model);
  return Tokenizer(std::move(model));
}

Result<Tokenizer> Tokenizer::load(const std::filesystem::path& path) {
  std::error_code code;
  const bool directory = std::filesystem::is_directory(path, code);
  const std::filesystem::path file = directory ? path / "tokenizer.json" : path;
  NAITE_ASSIGN(const std::string text, read_file(file, kTokenizerJson.bytes));
  NAITE_ASSIGN(auto model, read_model_text(text, file.string()));
  const std::filesystem::path beside = file.parent_path() / "tokenizer_config.json";
  json config;
  if (std::filesystem::exists(beside, code)) {
    NAITE_ASSIGN(model->config_json, read_file(beside, kJson.bytes));
    NAITE_ASSIGN(config, parse_json(model->config_json, beside.string()));
  }
  choose_ends(*model, config);
  if (model->config_json.empty()) model->config_json = tokenizer_config_of(*model);
  return Tokenizer(std::move(model));
}

}  // namespace naite::data
