// SPDX-License-Identifier: Apache-2.0
#include "data/added_tokens.h"

#include <algorithm>

#include "data/nfc.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

bool is_word(const Char& c) {
  if (c.code == '_') return true;
  const CharClass kind = class_of(c.code);
  return kind == CharClass::kLetter || kind == CharClass::kNumber;
}

size_t previous_char(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word(decode_char(text, previous_char(text, begin)))) return false;
  return end == text.size() || !is_word(decode_char(text, end));
}

size_t strip_left(std::string_view text, size_t begin, size_t least) {
  while (begin > least) {
    const size_t at = previous_char(text, begin);
    if (at < least || class_of(decode_char(text, at).code) != CharClass::kSpace) break;
    begin = at;
  }
  return begin;
}

size_t strip_right(std::string_view text, size_t end) {
  while (end < text.size()) {
    const Char c = decode_char(text, end);
    if (class_of(c.code) != CharClass::kSpace) break;
    end += c.size;
  }
  return end;
}

// The longest token of `set` at text[at]; nullptr if there is none.
const AddedToken* token_at(const Tokenizer::Model& model, const AddedByByte& set,
                           std::string_view text, size_t at) {
  for (const int32_t index : set[static_cast<unsigned char>(text[at])]) {
    const AddedToken& token = model.added[static_cast<size_t>(index)];
    if (text.substr(at).starts_with(token.content)) return &token;
  }
  return nullptr;
}

template <class Visit>
void split_by(const Tokenizer::Model& model, const AddedByByte& set, std::string_view text,
              Specials specials, Visit visit) {
  size_t done = 0, at = 0;
  while (at < text.size()) {
    const AddedToken* token = token_at(model, set, text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->special && specials == Specials::kAsText) continue;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = strip_left(text, begin, done);
    if (token->rstrip) end = strip_right(text, end);
    if (done < begin) visit(text.substr(done, begin - done), -1);
    visit(text.substr(begin, end - begin), token->id);
    done = end;
    at = std::max(at, end);
  }
  if (done < text.size()) visit(text.substr(done), -1);
}

}  // namespace

void index_added_tokens(Tokenizer::Model& model) {
  for (size_t i = 0; i < model.added.size(); ++i) {
    const AddedToken& token = model.added[i];
    if (token.content.empty()) continue;
    AddedByByte& set = token.normalized ? model.added_normalized : model.added_raw;
    set[static_cast<unsigned char>(token.content[0])].push_back(static_cast<int32_t>(i));
    (token.normalized ? model.any_added_normalized : model.any_added_raw) = true;
    if (!token.special) model.any_added_not_special = true;
  }
  const auto longer = [&](int32_t a, int32_t b) {
    return model.added[static_cast<size_t>(a)].content.size() >
           model.added[static_cast<size_t>(b)].content.size();
  };
  for (AddedByByte* set : {&model.added_raw, &model.added_normalized})
    for (auto& list : *set) std::stable_sort(list.begin(), list.end(), longer);
}

void for_each_section(const Tokenizer::Model& model, std::string_view text, Specials specials,
                      const std::function<void(std::string_view section, int32_t id)>& visit) {
  const auto after_first = [&](std::string_view section, int32_t id) {
    if (id >= 0) return visit(section, id);
    std::string normalized;
    if (model.normalize_nfc) {
      normalized = to_nfc(section);
      section = normalized;
    }
    if (!model.any_added_normalized) return visit(section, -1);
    split_by(model, model.added_normalized, section, specials, visit);
  };
  // With specials as text and no other added tokens there is nothing to look for.
  const bool look =
      model.any_added_raw && (specials == Specials::kParse || model.any_added_not_special);
  if (look) return split_by(model, model.added_raw, text, specials, after_first);
  if (!text.empty()) after_first(text, -1);
}

}  // namespace naite::data
