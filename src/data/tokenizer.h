// SPDX-License-Identifier: Apache-2.0
#pragma once
// Byte-level BPE (Sennrich et al., arXiv 1508.07909; byte alphabet of GPT-2), in the file format of
// Hugging Face `tokenizer.json`. Text is split by a pattern, each piece is a row of byte tokens,
// and the pair with the lowest merge rank is joined first, the leftmost among equals. Any bytes
// encode, valid UTF-8 or not, and decode() gives the same bytes back. A Tokenizer is immutable and
// cheap to copy; all its members may be called from many threads.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::data {

inline constexpr std::string_view kEndOfDocument = "<|endoftext|>";
inline constexpr std::string_view kTurnStart = "<|im_start|>";
inline constexpr std::string_view kTurnEnd = "<|im_end|>";
inline constexpr int kNumSpecialTokens = 3;

// Whether special tokens spelled out in a text count as such. Documents and users' messages are
// kAsText, so that no text can end its own document; templates and prompts are kParse.
enum class Specials { kParse, kAsText };

class Tokenizer {
 public:
  // `path` is a tokenizer.json or a directory that holds one.
  static Result<Tokenizer> load(const std::filesystem::path& path);
  static Result<Tokenizer> from_json(std::string_view text, std::string_view name);
  // 256 byte tokens and the special tokens.
  static Tokenizer bytes();

  std::vector<int32_t> encode(std::string_view text, Specials specials = Specials::kParse) const;
  // The bytes of the tokens; ids outside the vocabulary stand for nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_specials = false) const;

  int64_t vocab_size() const;  // largest id + 1
  // Raw bytes of a token; a special token's text. Empty for an id outside the vocabulary.
  std::string_view token_bytes(int32_t id) const;
  bool is_special(int32_t id) const;
  // How many bytes of raw text a token stands for: none if it is special.
  int64_t text_bytes(int32_t id) const;
  // The id of a token that was added by its text, such as "<|im_start|>"; -1 if there is none.
  int32_t added_token(std::string_view text) const;

  // Ids that Naite relies on; -1 if the vocabulary has none. The end-of-document token stands
  // before every document in the shards: it opens one and, as a target, closes the one before.
  int32_t end_of_document() const;
  int32_t turn_start() const;
  int32_t turn_end() const;

  // Whether both files are, letter by letter, those of a vocabulary that is trained here: then they
  // say nothing but their merges.
  bool is_of_our_making() const;

  std::string to_json() const;         // the text of tokenizer.json
  std::string config_to_json() const;  // the text of tokenizer_config.json
  // Write both files into a directory that exists.
  Status save(const std::filesystem::path& directory) const;

  struct Model;
  const Model& model() const { return *model_; }
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

 private:
  std::shared_ptr<const Model> model_;
};

// Encodes many texts, remembering the pieces it has met. One per thread.
class Encoder {
 public:
  // Without caching, setting up costs nothing: for a few short texts.
  explicit Encoder(const Tokenizer& tokenizer, bool caching = true);
  Encoder(Encoder&&) noexcept;
  ~Encoder();

  // Appends the ids of `text`.
  void encode(std::string_view text, Specials specials, std::vector<int32_t>& ids);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Decodes token by token and gives out whole UTF-8 characters only: bytes of a character that is
// not complete are held back until it is, or until finish().
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_specials = false)
      : tokenizer_(std::move(tokenizer)), skip_specials_(skip_specials) {}

  std::string add(int32_t id);
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_specials_;
  std::string held_;
};

}  // namespace naite::data
