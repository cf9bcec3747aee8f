// SPDX-License-Identifier: Apache-2.0
#pragma once
// Splitting text into the pieces that BPE works on, by hand-written matchers of the split patterns
// in use. Each pattern covers every text: pieces follow one another without gaps.
#include <cstddef>
#include <optional>
#include <string_view>

namespace naite::data {

// The two families. kGpt2:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// kNewline (GPT-4, Llama 3, Qwen), with N = digits_max and the contractions in either case:
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,N}| ?[^\s\p{L}\p{N}]+[\r\n]*
//   |\s*[\r\n]+|\s+(?!\S)|\s+
struct SplitRule {
  enum class Family { kGpt2, kNewline } family = Family::kNewline;
  int digits_max = 1;
  // (?i) also takes U+017F, the long s, for an s; [sS] does not.
  bool long_s = false;
};

// The spelling that Naite writes: the same on Oniguruma, PCRE2, JavaScript, ICU and llama.cpp.
extern const std::string_view kQwenPattern;

// The rule that a tokenizer.json's regular expression stands for, if it is a known one.
std::optional<SplitRule> rule_of_pattern(std::string_view pattern);

// The end of the piece that starts at `begin` (< text.size()).
size_t piece_end(const SplitRule& rule, std::string_view text, size_t begin);

// The largest size <= `limit` at which `text` may be cut so that splitting both parts gives the
// pieces of the whole, under every rule above; 0 if there is no such place.
size_t safe_cut(std::string_view text, size_t limit);

}  // namespace naite::data
