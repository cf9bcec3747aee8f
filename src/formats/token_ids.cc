// SPDX-License-Identifier: Apache-2.0
#include "formats/token_ids.h"

#include <algorithm>
#include <map>

#include "formats/stored.h"

namespace naite::formats {

namespace {

using nlohmann::json;

constexpr int64_t kNone = -1;  // how some configs say that there is no such token

std::string shown(const json& value) {
  return shown_name(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

const json* find(const json& table, std::string_view key) {
  if (!table.is_object()) return nullptr;
  const auto it = table.find(std::string(key));
  return it == table.end() || it->is_null() ? nullptr : &*it;
}

bool is_true(const json& table, std::string_view key) {
  const json* value = find(table, key);
  return value != nullptr && *value == json(true);
}

// A token that a config names: its text, or a table with it.
const std::string* text_of(const json& token) {
  const json* content = token.is_object() ? find(token, "content") : &token;
  return content == nullptr ? nullptr : content->get_ptr<const std::string*>();
}

class Tokens {
 public:
  Tokens(const TokenFiles& files, int64_t vocab_size) : files_(files), size_(vocab_size) {}

  Result<TokenUse> read() {
    NAITE_TRY(read_vocab());
    NAITE_TRY(read_added());
    NAITE_TRY(read_post_processor());
    NAITE_TRY(read_decoder());
    NAITE_TRY(read_map());
    NAITE_TRY(read_names(files_.tokenizer_config));
    NAITE_TRY(read_names(files_.special_tokens));
    NAITE_TRY(read_flags());
    NAITE_TRY(read_ids(files_.generation));
    NAITE_TRY(read_ids(files_.config));
    return std::move(use_);
  }

 private:
  Error outside(const std::string& file, const std::string& token, const json& id) const {
    return fail("{}: the token {} has the id {}, but the model's vocab_size is {}", file,
                shown_name(token), shown(id), size_);
  }

  // An id of the model, or an error that names it.
  Result<int64_t> id_of(const std::string& file, const std::string& token, const json& id) const {
    const bool fits = id.is_number_integer() && id >= 0 && id < size_;
    if (!fits) return outside(file, token, id);
    return id.get<int64_t>();
  }

  Status place(const std::string& text, int64_t id) {
    const auto [at, is_new] = texts_.emplace(id, text);
    if (!is_new && at->second != text)
      return fail("{}: the tokens {} and {} have the same id {}", files_.tokenizer.name,
                  shown_name(at->second), shown_name(text), id);
    const auto [known, first] = ids_.emplace(text, id);
    if (!first && known->second != id)
      return fail("{}: the token {} has the ids {} and {}", files_.tokenizer.name, shown_name(text),
                  known->second, id);
    return {};
  }

  Status read_vocab() {
    const json* model = find(files_.tokenizer.value, "model");
    const json* vocab = model == nullptr ? nullptr : find(*model, "vocab");
    if (vocab == nullptr || !vocab->is_object())
      return fail("{}: has no model with a vocab", files_.tokenizer.name);
    for (const auto& [text, id] : vocab->items()) {
      NAITE_ASSIGN(const int64_t number, id_of(files_.tokenizer.name, text, id));
      NAITE_TRY(place(text, number));
    }
    next_ = static_cast<int64_t>(vocab->size());
    return {};
  }

  // The tokenizers library gives a token that the vocabulary lacks the next free number, whatever
  // the file says.
  Status read_added() {
    const json* added = find(files_.tokenizer.value, "added_tokens");
    if (added == nullptr) return {};
    if (!added->is_array()) return fail("{}: `added_tokens` must be a list", files_.tokenizer.name);
    for (const json& token : *added) {
      const std::string* text = text_of(token);
      const json* id = find(token, "id");
      if (!token.is_object() || text == nullptr || id == nullptr)
        return fail("{}: an added token has no content or no id", files_.tokenizer.name);
      NAITE_ASSIGN(const int64_t number, id_of(files_.tokenizer.name, *text, *id));
      const bool is_known = ids_.contains(*text);
      NAITE_TRY(place(*text, number));
      added_[*text] = &token;
      if (!is_known && number != next_)
        return fail(
            "{}: the token {} has the id {}, where other programs give it {}, the next "
            "after the vocabulary",
            files_.tokenizer.name, shown_name(*text), number, next_);
      if (!is_known) ++next_;
    }
    return {};
  }

  Status expect_known(const std::string& file, const std::string& text, int64_t id) const {
    const auto known = ids_.find(text);
    if (known != ids_.end() && known->second == id) return {};
    return fail("{}: the token {} has the id {}, in {} it has {}", file, shown_name(text), id,
                files_.tokenizer.name,
                known == ids_.end() ? std::string("none") : std::to_string(known->second));
  }

  Status read_post_processor() {
    const json* processor = find(files_.tokenizer.value, "post_processor");
    if (processor == nullptr) return {};
    const json* list = find(*processor, "processors");
    const json parts = list != nullptr && list->is_array() ? *list : json::array({*processor});
    for (const json& part : parts) {
      const json* type = find(part, "type");
      if (type != nullptr && *type == "ByteLevel") continue;
      if (type == nullptr || *type != "TemplateProcessing")
        return fail(
            "{}: `post_processor` of type {} is not supported; ByteLevel and "
            "TemplateProcessing are",
            files_.tokenizer.name, type == nullptr ? "none" : shown(*type));
      NAITE_TRY(read_template(part));
    }
    return {};
  }

  // Special tokens before the text; after it they would stand between a prompt and what follows.
  Status read_template(const json& part) {
    const json* single = find(part, "single");
    if (single == nullptr || !single->is_array()) return {};
    bool after_text = false;
    for (const json& piece : *single) {
      const json* special = find(piece, "SpecialToken");
      after_text |= special == nullptr;
      if (special == nullptr) continue;
      const json* name = find(*special, "id");
      const std::string* text = name == nullptr ? nullptr : name->get_ptr<const std::string*>();
      const json* known = find(part, "special_tokens");
      const json* entry = text == nullptr || known == nullptr ? nullptr : find(*known, *text);
      const json* ids = entry == nullptr ? nullptr : find(*entry, "ids");
      if (ids == nullptr || !ids->is_array())
        return fail("{}: `post_processor` names a token without ids", files_.tokenizer.name);
      if (after_text)
        return fail("{}: `post_processor` puts {} behind every text, so no text could go on",
                    files_.tokenizer.name, shown_name(*text));
      for (const json& id : *ids) {
        NAITE_ASSIGN(const int64_t number, id_of(files_.tokenizer.name, *text, id));
        if (ids->size() == 1) NAITE_TRY(expect_known(files_.tokenizer.name, *text, number));
        use_.begin.push_back(static_cast<int32_t>(number));
      }
    }
    return {};
  }

  // tokenizer_config.json's own list of added tokens, by ids that are texts.
  Status read_decoder() {
    const json* decoder = find(files_.tokenizer_config.value, "added_tokens_decoder");
    if (decoder == nullptr || !decoder->is_object()) return {};
    for (const auto& [key, token] : decoder->items()) {
      const std::string* text = text_of(token);
      const std::string name = text == nullptr ? "?" : *text;
      const bool is_number = !key.empty() && key.size() < 10 &&
                             key.find_first_not_of("0123456789") == std::string::npos;
      NAITE_ASSIGN(const int64_t id, id_of(files_.tokenizer_config.name, name,
                                           is_number ? json(std::stoll(key)) : json(key)));
      NAITE_TRY(expect_known(files_.tokenizer_config.name, name, id));
      NAITE_TRY(expect_same_token(name, token));
    }
    return {};
  }

  // Other programs add the token as it stands here, whatever tokenizer.json says of it.
  Status expect_same_token(const std::string& text, const json& token) const {
    const auto added = added_.find(text);
    if (added == added_.end())
      return fail("{}: the token {} is an added one here and an ordinary one in {}: add it there",
                  files_.tokenizer_config.name, shown_name(text), files_.tokenizer.name);
    for (const char* flag : {"lstrip", "rstrip", "single_word", "special"})
      if (is_true(token, flag) != is_true(*added->second, flag))
        return fail("{}: `{}` of the token {} is not what it is in {}: make them agree",
                    files_.tokenizer_config.name, flag, shown_name(text), files_.tokenizer.name);
    return {};
  }

  Status read_map() {
    if (!files_.added_tokens.value.is_object()) return {};
    for (const auto& [text, value] : files_.added_tokens.value.items()) {
      NAITE_ASSIGN(const int64_t id, id_of(files_.added_tokens.name, text, value));
      NAITE_TRY(expect_known(files_.added_tokens.name, text, id));
    }
    return {};
  }

  // A named token that the tokenizer lacks would be added by other programs, with a new id.
  Status read_names(const NamedJson& file) {
    for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                            "cls_token", "mask_token"})
      if (const json* token = find(file.value, key); token != nullptr)
        NAITE_TRY(expect_named(file.name, key, *token));
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
      if (const json* list = find(file.value, key); list != nullptr && list->is_structured())
        for (const json& token : *list) NAITE_TRY(expect_named(file.name, key, token));
    if (const json* token = find(file.value, "eos_token"); token != nullptr)
      add_stop(ids_.find(*text_of(*token))->second);
    return {};
  }

  Status expect_named(const std::string& file, const char* key, const json& token) const {
    const std::string* text = text_of(token);
    if (text != nullptr && ids_.contains(*text)) return {};
    return fail(
        "{}: `{}` is {}, which {} does not have (vocab_size {}): add it there, or remove "
        "the name",
        file, key, shown(token), files_.tokenizer.name, size_);
  }

  // Whether the splitter puts a space before every text, by the file itself.
  bool puts_space() const {
    const json* splitter = find(files_.tokenizer.value, "pre_tokenizer");
    const json* type = splitter == nullptr ? nullptr : find(*splitter, "type");
    if (type == nullptr || *type != "ByteLevel") return false;
    const json* space = find(*splitter, "add_prefix_space");
    return space == nullptr || *space == json(true);
  }

  Status read_flags() {
    const json& config = files_.tokenizer_config.value;
    // What makes other programs read another file, or the same text otherwise.
    for (const char* key : {"fast_tokenizer_files", "do_lower_case", "split_special_tokens"})
      if (const json* value = find(config, key);
          value != nullptr && *value != json(false) && !value->empty())
        return fail("{}: `{}` is {}, which Naite does not do: it would be another tokenizer",
                    files_.tokenizer_config.name, key, shown(*value));
    if (config.is_object() && puts_space() != is_true(config, "add_prefix_space"))
      return fail(
          "{}: `add_prefix_space` is not what {} says: programs differ in which they believe",
          files_.tokenizer_config.name, files_.tokenizer.name);
    if (const json* flag = find(config, "add_eos_token"); flag != nullptr && *flag == json(true))
      return fail("{}: `add_eos_token` is true, so no text could go on",
                  files_.tokenizer_config.name);
    const json* begins = find(config, "add_bos_token");
    if (begins == nullptr || *begins != json(true) || !use_.begin.empty()) return {};
    const json* token = find(config, "bos_token");
    if (token == nullptr) token = find(files_.special_tokens.value, "bos_token");
    if (token == nullptr)
      return fail("{}: `add_bos_token` is true, but there is no `bos_token`",
                  files_.tokenizer_config.name);
    use_.begin.push_back(static_cast<int32_t>(ids_.find(*text_of(*token))->second));
    return {};
  }

  void add_stop(int64_t id) {
    if (std::find(use_.stop.begin(), use_.stop.end(), id) == use_.stop.end())
      use_.stop.push_back(static_cast<int32_t>(id));
  }

  // Ids by number: every key that ends in token_id, and lists of ids.
  Status read_ids(const NamedJson& file) {
    if (!file.value.is_object()) return {};
    for (const auto& [key, value] : file.value.items()) {
      const bool is_list = key == "suppress_tokens" || key == "begin_suppress_tokens";
      if (value.is_null() || (!key.ends_with("token_id") && !is_list)) continue;
      const json ids = value.is_array() ? value : json::array({value});
      for (const json& id : ids) {
        if (id == json(kNone)) continue;
        NAITE_ASSIGN(const int64_t number, id_of(file.name, key, id));
        if (key == "eos_token_id") add_stop(number);
      }
    }
    return {};
  }

  const TokenFiles& files_;
  const int64_t size_;
  std::map<std::string, int64_t> ids_;        // by text
  std::map<int64_t, std::string> texts_;      // by id
  std::map<std::string, const json*> added_;  // by text
  int64_t next_ = 0;
  TokenUse use_;
};

}  // namespace

Result<TokenUse> use_tokens(const TokenFiles& files, int64_t vocab_size) {
  return Tokens(files, vocab_size).read();
}

}  // namespace naite::formats
