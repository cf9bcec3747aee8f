// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "data/added_tokens.h"
#include "data/hash.h"
#include "data/tokenizer_model.h"

namespace naite::data {

namespace {

// Remembers the ids of pieces. Full, it forgets everything: what it gives is always what merging
// would give, so forgetting changes the speed alone.
class PieceCache {
 public:
  static constexpr size_t kPieceMax = 64;  // longer pieces rarely come again

  struct Entry {
    uint64_t hash = 0;
    uint32_t piece = 0;  // offset of the bytes
    uint32_t ids = 0;    // offset of the ids, or the id itself if there is one only
    uint16_t piece_size = 0, num_ids = 0;  // piece_size 0: free
  };

  Entry* find(std::string_view piece, uint64_t hash) {
    if (entries_.empty()) entries_.resize(kSlots);
    for (size_t i = hash & (kSlots - 1);; i = (i + 1) & (kSlots - 1)) {
      Entry& entry = entries_[i];
      if (entry.piece_size == 0) return &entry;
      if (entry.hash == hash && entry.piece_size == piece.size() &&
          std::memcmp(bytes_.data() + entry.piece, piece.data(), piece.size()) == 0)
        return &entry;
    }
  }

  void fill(Entry* entry, std::string_view piece, uint64_t hash, const std::vector<int32_t>& ids) {
    if (++used_ > kSlots / 2) {
      forget();
      entry = find(piece, hash);
      used_ = 1;
    }
    entry->hash = hash;
    entry->piece = static_cast<uint32_t>(bytes_.size());
    entry->piece_size = static_cast<uint16_t>(piece.size());
    entry->num_ids = static_cast<uint16_t>(ids.size());
    bytes_.insert(bytes_.end(), piece.begin(), piece.end());
    entry->ids = static_cast<uint32_t>(ids.size() == 1 ? ids[0] : ids_.size());
    if (ids.size() != 1) ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

  void append(const Entry& entry, std::vector<int32_t>& out) const {
    if (entry.num_ids == 1) {
      out.push_back(static_cast<int32_t>(entry.ids));
      return;
    }
    const int32_t* first = ids_.data() + entry.ids;
    out.insert(out.end(), first, first + entry.num_ids);
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 17;

  void forget() {
    std::fill(entries_.begin(), entries_.end(), Entry{});
    bytes_.clear();
    ids_.clear();
  }

  std::vector<Entry> entries_;
  std::vector<char> bytes_;
  std::vector<int32_t> ids_;
  size_t used_ = 0;
};

}  // namespace

struct Encoder::State {
  Tokenizer tokenizer;
  bool caching = true;
  PieceCache cache;
  std::vector<int32_t> piece_ids;

  explicit State(const Tokenizer& source) : tokenizer(source) {}
  void merge_piece(std::string_view piece);
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids);
  void encode_plain(std::string_view text, std::vector<int32_t>& ids);
  void encode(std::string_view text, Specials specials, std::vector<int32_t>& ids);
};

void Encoder::State::merge_piece(std::string_view piece) {
  const Tokenizer::Model& model = tokenizer.model();
  piece_ids.clear();
  if (model.ignore_merges) {
    const auto whole = model.whole_pieces.find(piece);
    if (whole != model.whole_pieces.end()) {
      piece_ids.push_back(whole->second);
      return;
    }
  }
  for (const char c : piece) {
    const int32_t id = model.byte_ids[static_cast<unsigned char>(c)];
    if (id >= 0) piece_ids.push_back(id);
  }
  apply_merges(model.merges, piece_ids);
}

void Encoder::State::encode_piece(std::string_view piece, std::vector<int32_t>& ids) {
  if (!caching || piece.size() > PieceCache::kPieceMax) {
    merge_piece(piece);
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
    return;
  }
  const uint64_t hash = hash_bytes(piece);
  PieceCache::Entry* entry = cache.find(piece, hash);
  if (entry->piece_size == 0) {
    merge_piece(piece);
    cache.fill(entry, piece, hash, piece_ids);
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
    return;
  }
  cache.append(*entry, ids);
}

void Encoder::State::encode_plain(std::string_view text, std::vector<int32_t>& ids) {
  const Tokenizer::Model& model = tokenizer.model();
  std::string prefixed;
  if (model.add_prefix_space && !text.empty() && text[0] != ' ') {
    prefixed.reserve(text.size() + 1);
    prefixed.push_back(' ');
    prefixed.append(text);
    text = prefixed;
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(model.rule, text, begin);
    encode_piece(text.substr(begin, end - begin), ids);
    begin = end;
  }
}

void Encoder::State::encode(std::string_view text, Specials specials, std::vector<int32_t>& ids) {
  for_each_section(tokenizer.model(), text, specials, [&](std::string_view section, int32_t id) {
    if (id >= 0) {
      ids.push_back(id);
    } else {
      encode_plain(section, ids);
    }
  });
}

Encoder::Encoder(const Tokenizer& tokenizer, bool caching)
    : state_(std::make_unique<State>(tokenizer)) {
  state_->caching = caching;
}
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder::~Encoder() = default;

void Encoder::encode(std::string_view text, Specials specials, std::vector<int32_t>& ids) {
  state_->encode(text, specials, ids);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, Specials specials) const {
  constexpr size_t kWorthCaching = 1 << 16;  // below, setting up the cache costs more than it saves
  std::vector<int32_t> ids;
  Encoder(*this, text.size() > kWorthCaching).encode(text, specials, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_specials) const {
  std::string text;
  for (const int32_t id : ids)
    if (!skip_specials || !is_special(id)) text += token_bytes(id);
  return text;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(model_->tokens.size()); }

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= model_->tokens.size()) return {};
  return model_->tokens[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < model_->special.size() &&
         model_->special[static_cast<size_t>(id)] != 0;
}

int64_t Tokenizer::text_bytes(int32_t id) const {
  return is_special(id) ? 0 : static_cast<int64_t>(token_bytes(id).size());
}

int32_t Tokenizer::added_token(std::string_view text) const {
  for (const AddedToken& token : model_->added)
    if (token.content == text) return token.id;
  return -1;
}

int32_t Tokenizer::end_of_document() const { return model_->end_of_document; }
int32_t Tokenizer::turn_start() const { return model_->turn_start; }
int32_t Tokenizer::turn_end() const { return model_->turn_end; }

Tokenizer Tokenizer::bytes() { return Tokenizer(make_model({})); }

std::string Tokenizer::to_json() const { return model_->json; }
std::string Tokenizer::config_to_json() const { return model_->config_json; }

Status Tokenizer::save(const std::filesystem::path& directory) const {
  NAITE_TRY(write_file(directory / "tokenizer_config.json", model_->config_json));
  return write_file(directory / "tokenizer.json", model_->json);
}

std::string StreamDecoder::add(int32_t id) {
  if (!skip_specials_ || !tokenizer_.is_special(id)) held_ += tokenizer_.token_bytes(id);
  // Hold back what may still become a character: a lead byte whose continuation has not come.
  size_t ready = held_.size();
  for (size_t back = 1; back <= 3 && back <= held_.size(); ++back) {
    const unsigned char c = static_cast<unsigned char>(held_[held_.size() - back]);
    if ((c & 0xc0) == 0x80) continue;
    const size_t needed = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
    if (c <= 0xf4 && needed > back) ready = held_.size() - back;
    break;
  }
  std::string out = held_.substr(0, ready);
  held_.erase(0, ready);
  return out;
}

std::string StreamDecoder::finish() { return std::exchange(held_, {}); }

}  // namespace naite::data
