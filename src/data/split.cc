// SPDX-License-Identifier: Apache-2.0
#include "data/split.h"

#include "data/unicode.h"

namespace naite::data {

const std::string_view kQwenPattern =
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

namespace {

struct Known {
  std::string_view contractions, rest;
  SplitRule rule;
};

using Family = SplitRule::Family;

constexpr std::string_view kFolded = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|";
constexpr std::string_view kFoldedShort = "'(?i:[sdmt]|ll|ve|re)|";
constexpr std::string_view kSpelled = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|";
constexpr std::string_view kPlain = "'s|'t|'re|'ve|'m|'ll|'d|";
constexpr std::string_view kPlainShort = "'(?:[sdmt]|ll|ve|re)|";

// After the contractions, up to the digits and after them.
constexpr std::string_view kLetters = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
constexpr std::string_view kLettersPossessive = "[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|";
constexpr std::string_view kTails[] = {
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
};
constexpr std::string_view kGpt2Rest = " ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "\p{N}", "\p{N}{1,K}" or "\p{N}{1,K}+" up to the next alternative.
std::optional<int> take_digits(std::string_view& text) {
  if (!take(text, "\\p{N}")) return std::nullopt;
  if (!take(text, "{1,")) return 1;
  if (text.size() < 2 || text[0] < '1' || text[0] > '9' || text[1] != '}') return std::nullopt;
  const int count = text[0] - '0';
  text.remove_prefix(2);
  take(text, "+");
  return count;
}

CharClass ascii_class(unsigned char c) {
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return CharClass::kLetter;
  if (c >= '0' && c <= '9') return CharClass::kNumber;
  if (c == ' ' || (c >= 9 && c <= 13)) return CharClass::kSpace;
  return CharClass::kOther;
}

struct Scanner {
  std::string_view text;

  struct Seen {
    CharClass kind;
    uint32_t size;
  };
  Seen at(size_t i) const {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) return {ascii_class(c), 1};
    const Char found = decode_char(text, i);
    return {class_of(found.code), found.size};
  }
  bool is(size_t i, CharClass kind) const { return i < text.size() && at(i).kind == kind; }
  // The end of the run of `kind` that starts at i; at most `most` characters.
  size_t run(size_t i, CharClass kind, int64_t most = INT64_MAX) const {
    while (i < text.size() && most-- > 0) {
      const Seen seen = at(i);
      if (seen.kind != kind) break;
      i += seen.size;
    }
    return i;
  }
  bool newline(size_t i) const { return i < text.size() && (text[i] == '\n' || text[i] == '\r'); }
};

// The end of a contraction ('s, 't, 're, 've, 'm, 'll, 'd) whose apostrophe is at `i`; i if none.
size_t contraction(std::string_view text, size_t i, bool either_case, bool long_s) {
  const auto letter = [&](size_t j) -> char {
    if (j >= text.size()) return 0;
    const char c = text[j];
    return either_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  const char a = letter(i + 1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
  const char b = letter(i + 2);
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
  if (long_s && text.substr(i + 1).starts_with("\u017f")) return i + 3;
  return i;
}

// \s+(?!\S)|\s+ : a run of spaces leaves its last character to what follows, if anything does.
size_t spaces(const Scanner& scan, size_t begin) {
  size_t i = begin, last = begin;
  while (scan.is(i, CharClass::kSpace)) {
    last = i;
    i += scan.at(i).size;
  }
  return i == scan.text.size() || last == begin ? i : last;
}

size_t gpt2_end(std::string_view text, size_t begin) {
  const Scanner scan{text};
  if (text[begin] == '\'')
    if (const size_t end = contraction(text, begin, false, false); end > begin) return end;
  const size_t body = begin + (text[begin] == ' ');
  if (body < text.size()) {
    const Scanner::Seen seen = scan.at(body);
    if (seen.kind != CharClass::kSpace) return scan.run(body + seen.size, seen.kind);
  }
  return spaces(scan, begin);
}

size_t newline_end(const SplitRule& rule, std::string_view text, size_t begin) {
  const Scanner scan{text};
  const Scanner::Seen first = scan.at(begin);
  const size_t second = begin + first.size;
  if (text[begin] == '\'')
    if (const size_t end = contraction(text, begin, true, rule.long_s); end > begin) return end;
  if (first.kind == CharClass::kLetter) return scan.run(second, CharClass::kLetter);
  if (first.kind == CharClass::kNumber)
    return scan.run(second, CharClass::kNumber, rule.digits_max - 1);
  if (!scan.newline(begin) && scan.is(second, CharClass::kLetter))
    return scan.run(second, CharClass::kLetter);
  const size_t body = begin + (text[begin] == ' ');
  if (scan.is(body, CharClass::kOther)) {
    size_t end = scan.run(body, CharClass::kOther);
    while (scan.newline(end)) ++end;
    return end;
  }
  // Spaces. \s*[\r\n]+ ends after the last newline of the run.
  size_t i = begin, after_newline = begin;
  while (scan.is(i, CharClass::kSpace)) {
    const bool newline = scan.newline(i);
    i += scan.at(i).size;
    if (newline) after_newline = i;
  }
  return after_newline > begin ? after_newline : spaces(scan, begin);
}

}  // namespace

std::optional<SplitRule> rule_of_pattern(std::string_view pattern) {
  SplitRule rule;
  if (take(pattern, kPlain) || take(pattern, kPlainShort)) {
    if (pattern != kGpt2Rest) return std::nullopt;
    rule.family = Family::kGpt2;
    return rule;
  }
  if (take(pattern, kFolded) || take(pattern, kFoldedShort)) {
    rule.long_s = true;
  } else if (!take(pattern, kSpelled)) {
    return std::nullopt;
  }
  if (!take(pattern, kLetters) && !take(pattern, kLettersPossessive)) return std::nullopt;
  const std::optional<int> digits = take_digits(pattern);
  if (!digits) return std::nullopt;
  rule.digits_max = *digits;
  for (std::string_view tail : kTails)
    if (pattern == tail) return rule;
  return std::nullopt;
}

size_t piece_end(const SplitRule& rule, std::string_view text, size_t begin) {
  if (rule.family == Family::kGpt2) return gpt2_end(text, begin);
  return newline_end(rule, text, begin);
}

// A piece never goes on from a character that is no space into a plain space, nor from a single
// newline into something that is no space. (Of several spaces the last may belong to what follows.)
size_t safe_cut(std::string_view text, size_t limit) {
  if (limit >= text.size()) return text.size();
  const Scanner scan{text};
  const auto continues = [&](size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80;
  };
  const auto follows_no_space = [&](size_t i) {
    if (i == 0) return false;
    size_t previous = i - 1;
    while (previous > 0 && i - previous < 4 && continues(previous)) --previous;
    const Scanner::Seen seen = scan.at(previous);
    return previous + seen.size == i && seen.kind != CharClass::kSpace;
  };
  for (size_t i = limit; i > 0; --i) {
    if (continues(i)) continue;
    if (text[i] == ' ' && follows_no_space(i)) return i;
    if (text[i - 1] == '\n' && !scan.is(i, CharClass::kSpace) && follows_no_space(i - 1)) return i;
  }
  return 0;
}

}  // namespace naite::data
