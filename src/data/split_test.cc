// SPDX-License-Identifier: Apache-2.0
// The hand-written matchers against PCRE2 running the patterns that they stand for.
#include "data/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

#include "base/base.h"
#include "data/unicode.h"

namespace naite::data {
namespace {

constexpr const char* kPatterns[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
    "\\p{N}{1,2}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

std::vector<size_t> ends_by_pcre2(std::string_view pattern, std::string_view text) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* regex = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                    PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr);
  EXPECT_NE(regex, nullptr);
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(regex, nullptr);
  std::vector<size_t> ends;
  for (size_t at = 0; at < text.size(); at = ends.back()) {
    const int found = pcre2_match(regex, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_ANCHORED, match, nullptr);
    EXPECT_GT(found, 0);
    if (found <= 0) break;
    ends.push_back(pcre2_get_ovector_pointer(match)[1]);
  }
  pcre2_match_data_free(match);
  pcre2_code_free(regex);
  return ends;
}

std::vector<size_t> ends_by_hand(const SplitRule& rule, std::string_view text) {
  std::vector<size_t> ends;
  for (size_t at = 0; at < text.size(); at = ends.back()) ends.push_back(piece_end(rule, text, at));
  return ends;
}

std::string some_text() {
  // What the patterns tell apart, and what they might mistake.
  static const std::vector<std::string> kAtoms = {" ",        " ",
                                                  "  ",       "\n",
                                                  "\r\n",     "\r",
                                                  "\t",       "\u00a0",
                                                  "\u3000",   "\u2028",
                                                  "\u0085",   "a",
                                                  "S",        "s",
                                                  "re",       "VE",
                                                  "'",        "'",
                                                  "'s",       "'LL",
                                                  "'d",       "\u017f",
                                                  "\u2019",   "가",
                                                  "나이",     "\u1112\u1161\u11ab",
                                                  "漢",       "é",
                                                  "e\u0301",  "\u0301",
                                                  "1",        "23",
                                                  "٣",        "Ⅷ",
                                                  "½",        ".",
                                                  "!?",       "_",
                                                  "-",        "😀",
                                                  "👩\u200d👧", "\u200d",
                                                  "\ufeff",   "\u0000x",
                                                  "\u0007",   "ह\u0940",
                                                  "ß",        "\U0001d400"};
  std::string text;
  for (const size_t pick :
       *rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(0, kAtoms.size())))
    text += kAtoms[pick];
  return text;
}

RC_GTEST_PROP(Split, AgreesWithPcre2, ()) {
  const std::string text = some_text();
  for (const char* pattern : kPatterns) {
    const std::optional<SplitRule> rule = rule_of_pattern(pattern);
    RC_ASSERT(rule.has_value());
    RC_ASSERT(ends_by_hand(*rule, text) == ends_by_pcre2(pattern, text));
  }
  RC_ASSERT(rule_of_pattern(kQwenPattern).has_value());
}

RC_GTEST_PROP(Split, SafeCutsDisturbNothing, ()) {
  const std::string text = some_text() + "\n" + some_text() + " x" + some_text();
  const size_t limit = *rc::gen::inRange<size_t>(0, text.size());
  const size_t cut = safe_cut(text, limit);
  RC_ASSERT(cut <= limit);
  for (const char* pattern : kPatterns) {
    const SplitRule rule = *rule_of_pattern(pattern);
    std::vector<size_t> ends = ends_by_hand(rule, std::string_view(text).substr(0, cut));
    for (const size_t end : ends_by_hand(rule, std::string_view(text).substr(cut)))
      ends.push_back(cut + end);
    RC_ASSERT(ends == ends_by_hand(rule, text));
  }
}

RC_GTEST_PROP(Split, AnyBytesAreCovered, (const std::string& bytes)) {
  for (const char* pattern : kPatterns) {
    size_t last = 0;
    for (const size_t end : ends_by_hand(*rule_of_pattern(pattern), bytes)) {
      RC_ASSERT(end > last);
      last = end;
    }
    RC_ASSERT(last == bytes.size());
  }
}

TEST(Split, UnknownPatternsAreNotGuessed) {
  EXPECT_FALSE(rule_of_pattern("\\w+").has_value());
  EXPECT_FALSE(rule_of_pattern("").has_value());
  EXPECT_FALSE(rule_of_pattern(std::string(kPatterns[2]) + "|x").has_value());
}

TEST(Unicode, InvalidBytesAreFound) {
  EXPECT_EQ(find_invalid_utf8("가나다 abcdefghijk"), std::string_view("가나다 abcdefghijk").size());
  EXPECT_EQ(find_invalid_utf8("abcdefgh\xc0\x80"), 8u);
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);
  EXPECT_EQ(find_invalid_utf8("a\xf4\x90\x80\x80"), 1u);
  EXPECT_EQ(find_invalid_utf8("\xe0\x9f\xbf"), 0u);
  EXPECT_EQ(find_invalid_utf8("ab\xf0\x9f\x98"), 2u);
  for (uint32_t code = 0; code < 0x110000; code += 7) {
    if (code >= 0xd800 && code < 0xe000) continue;
    std::string text;
    append_utf8(code, text);
    ASSERT_EQ(decode_char(text, 0).code, code);
    ASSERT_EQ(find_invalid_utf8(text), text.size());
  }
}

}  // namespace
}  // namespace naite::data
