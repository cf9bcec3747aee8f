// SPDX-License-Identifier: Apache-2.0
#include "data/stats.h"

#include <unicode/uscript.h>

#include <algorithm>

#include "data/documents.h"
#include "data/inputs.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

std::string script_name(uint32_t code) {
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(static_cast<UChar32>(code), &error);
  const char* name = U_SUCCESS(error) ? uscript_getName(script) : nullptr;
  return name == nullptr ? "Common" : name;
}

// The code point of each letter that starts or goes on at a byte; 0 elsewhere.
std::vector<uint32_t> letters_of(std::string_view text) {
  std::vector<uint32_t> letters(text.size(), 0);
  for (size_t at = 0; at < text.size();) {
    const Char c = decode_char(text, at);
    if (class_of(c.code) == CharClass::kLetter)
      std::fill_n(letters.begin() + static_cast<std::ptrdiff_t>(at), c.size, c.code);
    at += c.size;
  }
  return letters;
}

}  // namespace

double TokenStats::bytes_per_token() const {
  return tokens == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(tokens);
}

double TokenStats::single_byte_share() const {
  return tokens == 0 ? 0.0 : static_cast<double>(single_byte_tokens) / static_cast<double>(tokens);
}

void TokenStats::add(const TokenStats& other) {
  bytes += other.bytes;
  tokens += other.tokens;
  single_byte_tokens += other.single_byte_tokens;
}

void add_stats(const Tokenizer& tokenizer, Encoder& encoder, std::string_view text,
               SourceStats& stats) {
  std::vector<int32_t> ids;
  encoder.encode(text, Specials::kAsText, ids);
  const std::vector<uint32_t> letters = letters_of(text);
  std::map<uint32_t, TokenStats> by_letter;  // few distinct ones; named once at the end
  size_t at = 0;
  for (const int32_t id : ids) {
    const size_t size = std::min(tokenizer.token_bytes(id).size(), text.size() - at);
    const auto first = letters.begin() + static_cast<std::ptrdiff_t>(at);
    const auto letter = std::find_if(first, first + static_cast<std::ptrdiff_t>(size),
                                     [](uint32_t code) { return code != 0; });
    const bool found = letter != first + static_cast<std::ptrdiff_t>(size);
    by_letter[found ? *letter : 0].add({static_cast<int64_t>(size), 1, size == 1 ? 1 : 0});
    at += size;
  }
  for (const auto& [code, counts] : by_letter) {
    stats.scripts[code == 0 ? "Common" : script_name(code)].add(counts);
    stats.all.add(counts);
  }
}

Result<std::vector<SourceStats>> tokenizer_stats(const Tokenizer& tokenizer,
                                                 const std::vector<SourceOptions>& sources) {
  std::vector<SourceStats> all;
  Encoder encoder(tokenizer);
  for (const SourceOptions& source : sources) {
    SourceStats stats;
    stats.name = source.name;
    NAITE_ASSIGN(const InputFiles inputs, find_inputs(source.path, {}));
    if (inputs.files.empty()) return no_text_file(source.path, inputs);
    ReadCounts counts;
    for (const InputFile& file : inputs.files)
      NAITE_TRY(read_documents(
          file, source, /*strict=*/false,
          [&](const Document& document) -> Result<bool> {
            add_stats(tokenizer, encoder, document.text, stats);
            return true;
          },
          counts, nullptr));
    if (stats.all.tokens == 0)
      return fail("{} holds no text{}", source.path,
                  counts.first.empty() ? "" : ": " + counts.first[0]);
    all.push_back(std::move(stats));
  }
  return all;
}

}  // namespace naite::data
