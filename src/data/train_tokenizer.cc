// SPDX-License-Identifier: Apache-2.0
#include "data/train_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <queue>
#include <string>
#include <unordered_map>

#include "data/hash.h"
#include "data/tokenizer_model.h"

namespace naite::data {

void PieceCounts::add_to(Part& part, std::string_view piece, uint64_t hash, int64_t count) {
  if (part.used * 2 >= part.slots.size()) resize(part, std::max<size_t>(64, part.slots.size() * 2));
  const size_t mask = part.slots.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    Piece& slot = part.slots[i];
    if (slot.size == 0) {
      slot = {hash, part.bytes.size(), static_cast<uint32_t>(piece.size()), count};
      part.bytes.insert(part.bytes.end(), piece.begin(), piece.end());
      ++part.used;
      return;
    }
    if (slot.hash == hash && slot.size == piece.size() &&
        std::memcmp(part.bytes.data() + slot.offset, piece.data(), piece.size()) == 0) {
      slot.count += count;
      return;
    }
  }
}

void PieceCounts::resize(Part& part, size_t slots) {
  std::vector<Piece> old(slots);
  old.swap(part.slots);
  for (const Piece& piece : old) {
    if (piece.size == 0) continue;
    size_t i = piece.hash & (slots - 1);
    while (part.slots[i].size != 0) i = (i + 1) & (slots - 1);
    part.slots[i] = piece;
  }
}

void PieceCounts::add(std::string_view piece, int64_t count) {
  const uint64_t hash = hash_bytes(piece);
  add_to(parts_[hash >> 59], piece, hash, count);  // the top five bits
}

void PieceCounts::add_text(const SplitRule& rule, std::string_view text) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(rule, text, begin);
    add(text.substr(begin, end - begin));
    begin = end;
  }
}

void PieceCounts::add_part(const PieceCounts& other, int part) {
  const Part& from = other.parts_[part];
  for (const Piece& piece : from.slots)
    if (piece.size != 0)
      add_to(parts_[part], {from.bytes.data() + piece.offset, piece.size}, piece.hash, piece.count);
}

void PieceCounts::clear() {
  for (Part& part : parts_) {
    if (part.used == 0) continue;
    std::fill(part.slots.begin(), part.slots.end(), Piece{});
    part.bytes.clear();
    part.used = 0;
  }
}

int64_t PieceCounts::num_pieces() const {
  int64_t count = 0;
  for (const Part& part : parts_) count += static_cast<int64_t>(part.used);
  return count;
}

void PieceCounts::keep_most_frequent(int64_t most) {
  std::unordered_map<int64_t, int64_t> pieces_with_count;
  for (const Part& part : parts_)
    for (const Piece& piece : part.slots)
      if (piece.size != 0) ++pieces_with_count[piece.count];
  std::vector<std::pair<int64_t, int64_t>> rising(pieces_with_count.begin(),
                                                  pieces_with_count.end());
  std::sort(rising.begin(), rising.end());
  int64_t left = num_pieces(), threshold = 0;
  for (const auto& [count, pieces] : rising) {
    if (left <= most) break;
    threshold = count;
    left -= pieces;
  }
  for (Part& part : parts_) {
    Part kept;
    for (const Piece& piece : part.slots)
      if (piece.size != 0 && piece.count > threshold)
        add_to(kept, {part.bytes.data() + piece.offset, piece.size}, piece.hash, piece.count);
    part = std::move(kept);
  }
}

void PieceCounts::for_each(
    const std::function<void(std::string_view piece, int64_t count)>& visit) const {
  for (const Part& part : parts_)
    for (const Piece& piece : part.slots)
      if (piece.size != 0) visit({part.bytes.data() + piece.offset, piece.size}, piece.count);
}

namespace {

// The state of merging: every distinct piece as a row of token ids that shrinks as pairs are
// joined.
class MergeLearner {
 public:
  explicit MergeLearner(const PieceCounts& pieces) {
    const std::array<uint8_t, 256> order = byte_order();
    std::array<int32_t, 256> id_of{};
    for (int32_t id = 0; id < 256; ++id) {
      id_of[order[static_cast<size_t>(id)]] = id;
      tokens_.emplace_back(1, static_cast<char>(order[static_cast<size_t>(id)]));
      ids_.emplace(tokens_.back(), id);
    }
    pieces.for_each([&](std::string_view piece, int64_t count) {
      if (piece.size() < 2) return;
      rows_.push_back(
          {static_cast<int64_t>(symbols_.size()), static_cast<int32_t>(piece.size()), count});
      for (const char c : piece) symbols_.push_back(id_of[static_cast<unsigned char>(c)]);
    });
  }

  std::vector<Merge> learn(int64_t num_tokens,
                           const std::function<bool(int64_t, int64_t)>& progress) {
    std::vector<Merge> merges;
    const int64_t total = num_tokens - 256;
    if (!count_pairs([&] { return !progress || progress(0, total); })) return merges;
    while (static_cast<int64_t>(tokens_.size()) < num_tokens && !heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      Pair& pair = pairs_[top.pair];
      if (pair.count != top.count) {  // it has been used up in part since: back with its true count
        if (pair.count >= TokenizerTrainer::kCountMin) heap_.push({pair.count, pair.key, top.pair});
        continue;
      }
      const Merge merge{static_cast<int32_t>(pair.key >> 32), static_cast<int32_t>(pair.key)};
      merges.push_back(merge);
      join(merge, top.pair);
      // The first merges touch most of the text: often enough that a stop is heard soon.
      const bool due = progress && merges.size() % 8 == 0;
      if (due && !progress(static_cast<int64_t>(tokens_.size()) - 256, total)) break;
    }
    return merges;
  }

 private:
  struct Row {
    int64_t begin;
    int32_t size;
    int64_t count;
  };
  struct Pair {
    uint64_t key = 0;
    int64_t count = 0;
    bool fresh = false;          // seen for the first time, or more often, since queue_fresh()
    std::vector<uint32_t> rows;  // where it occurs, or did
  };
  struct Candidate {
    int64_t count;
    uint64_t key;
    uint32_t pair;
    bool operator<(const Candidate& other) const {  // a heap keeps its greatest on top
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }

  // The pairs of all rows; false if `go_on` said no.
  template <class GoOn>
  bool count_pairs(GoOn go_on) {
    constexpr size_t kRowsBetween = 1 << 16;
    for (size_t row = 0; row < rows_.size(); ++row) {
      if (row % kRowsBetween == 0 && !go_on()) return false;
      const int32_t* symbol = symbols_.data() + rows_[row].begin;
      for (int32_t i = 0; i + 1 < rows_[row].size; ++i)
        change(symbol[i], symbol[i + 1], rows_[row].count, static_cast<uint32_t>(row));
    }
    queue_fresh();
    return true;
  }

  uint32_t pair_index(int32_t left, int32_t right) {
    const PairTable::Found found = index_.find(left, right);
    if (found.id >= 0) return static_cast<uint32_t>(found.id);
    const uint32_t index = static_cast<uint32_t>(pairs_.size());
    if (pairs_.size() == indexed_max_) grow_index();
    index_.insert(left, right, 0, static_cast<int32_t>(index));
    pairs_.push_back({key_of(left, right), 0, false, {}});
    return index;
  }

  void grow_index() {
    indexed_max_ = std::max<size_t>(1 << 16, indexed_max_ * 2);
    index_.reserve(indexed_max_);
    for (size_t i = 0; i < pairs_.size(); ++i)
      index_.insert(static_cast<int32_t>(pairs_[i].key >> 32), static_cast<int32_t>(pairs_[i].key),
                    0, static_cast<int32_t>(i));
  }

  void change(int32_t left, int32_t right, int64_t by, uint32_t row) {
    const uint32_t index = pair_index(left, right);
    Pair& pair = pairs_[index];
    pair.count += by;
    if (by < 0) return;
    if (!pair.fresh) fresh_.push_back(index);
    pair.fresh = true;
    if (pair.rows.empty() || pair.rows.back() != row) pair.rows.push_back(row);
  }

  void queue_fresh() {
    for (const uint32_t index : fresh_) {
      pairs_[index].fresh = false;
      if (pairs_[index].count >= TokenizerTrainer::kCountMin)
        heap_.push({pairs_[index].count, pairs_[index].key, index});
    }
    fresh_.clear();
  }

  // Two ways of joining can make the same string; it is one token then.
  int32_t token_of(const Merge& merge) {
    const std::string joined =
        tokens_[static_cast<size_t>(merge.left)] + tokens_[static_cast<size_t>(merge.right)];
    const auto [entry, added] = ids_.emplace(joined, static_cast<int32_t>(tokens_.size()));
    if (added) tokens_.push_back(joined);
    return entry->second;
  }

  void join(const Merge& merge, uint32_t index) {
    const int32_t joined = token_of(merge);
    const std::vector<uint32_t> rows = std::move(pairs_[index].rows);
    pairs_[index].rows = {};
    for (const uint32_t row : rows) join_in_row(merge, joined, row);
    pairs_[index].count = 0;
    queue_fresh();
  }

  void join_in_row(const Merge& merge, int32_t joined, uint32_t row_index) {
    Row& row = rows_[row_index];
    int32_t* symbol = symbols_.data() + row.begin;
    int32_t out = 0;
    for (int32_t i = 0; i < row.size; ++i) {
      if (i + 1 == row.size || symbol[i] != merge.left || symbol[i + 1] != merge.right) {
        symbol[out++] = symbol[i];
        continue;
      }
      if (out > 0) {
        change(symbol[out - 1], merge.left, -row.count, row_index);
        change(symbol[out - 1], joined, row.count, row_index);
      }
      if (i + 2 < row.size) {
        change(merge.right, symbol[i + 2], -row.count, row_index);
        change(joined, symbol[i + 2], row.count, row_index);
      }
      symbol[out++] = joined;
      ++i;
    }
    row.size = out;
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> symbols_;
  std::vector<Row> rows_;
  std::vector<Pair> pairs_;
  PairTable index_;  // pair -> its place in pairs_
  size_t indexed_max_ = 0;
  std::vector<uint32_t> fresh_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

TokenizerTrainer::TokenizerTrainer(ThreadPool& pool)
    : pool_(pool), of_thread_(static_cast<size_t>(pool.num_threads())) {}

void TokenizerTrainer::add(std::span<const std::string_view> texts, const std::atomic<bool>* stop) {
  const SplitRule rule;
  const auto stopped = [stop] { return stop != nullptr && stop->load(); };
  pool_.run(static_cast<int64_t>(texts.size()), [&](int64_t task, int thread) {
    if (stopped()) return;
    of_thread_[static_cast<size_t>(thread)].add_text(rule, texts[static_cast<size_t>(task)]);
  });
  pool_.run(PieceCounts::kParts, [&](int64_t part, int) {
    if (stopped()) return;
    for (const PieceCounts& counts : of_thread_) total_.add_part(counts, static_cast<int>(part));
  });
  for (PieceCounts& counts : of_thread_) counts.clear();
  if (!stopped() && total_.num_pieces() > kPiecesMax) total_.keep_most_frequent(kPiecesMax / 2);
}

Tokenizer TokenizerTrainer::train(
    int64_t vocab_size, const std::function<bool(int64_t done, int64_t total)>& progress) const {
  MergeLearner learner(total_);
  return Tokenizer(make_model(learner.learn(vocab_size - kNumSpecialTokens, progress)));
}

}  // namespace naite::data
