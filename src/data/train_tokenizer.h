// SPDX-License-Identifier: Apache-2.0
#pragma once
// Training a byte-level BPE vocabulary. Pieces of text are counted, then the most frequent pair of
// neighbouring tokens is joined, again and again. Ties go to the pair with the lower left id, then
// the lower right id; counts are whole numbers. So the result is a function of the text alone: not
// of the order of documents, nor of the number of threads. Memory is bounded: above kPiecesMax
// distinct pieces the rarest are forgotten, at places that the stream of text decides. Only then
// does the order of documents matter.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "data/split.h"
#include "data/tokenizer.h"

namespace naite::data {

// How often each distinct piece occurs. Pieces are kept in sub-tables by their hash, so that
// threads can join their counts without meeting.
class PieceCounts {
 public:
  static constexpr int kParts = 32;
  struct Piece {
    uint64_t hash = 0;
    uint64_t offset = 0;
    uint32_t size = 0;  // 0: free slot
    int64_t count = 0;
  };

  void add(std::string_view piece, int64_t count = 1);
  void add_text(const SplitRule& rule, std::string_view text);
  // Adds the counts of one part of `other`.
  void add_part(const PieceCounts& other, int part);
  void clear();
  int64_t num_pieces() const;
  // Forgets the rarest pieces until at most `most` are left; all of one count go together.
  void keep_most_frequent(int64_t most);
  void for_each(const std::function<void(std::string_view piece, int64_t count)>& visit) const;

 private:
  struct Part {
    std::vector<Piece> slots;
    std::vector<char> bytes;
    size_t used = 0;
  };
  static void add_to(Part& part, std::string_view piece, uint64_t hash, int64_t count);
  static void resize(Part& part, size_t slots);
  Part parts_[kParts];
};

class TokenizerTrainer {
 public:
  static constexpr int64_t kPiecesMax = 3'000'000;
  static constexpr int64_t kCountMin = 2;  // a pair that occurs once is no pattern

  explicit TokenizerTrainer(ThreadPool& pool);

  // Counts a batch of texts; pieces never cross from one text to the next. Once `stop`, if given,
  // is set, it returns early, and the counts are worth nothing.
  void add(std::span<const std::string_view> texts, const std::atomic<bool>* stop = nullptr);
  // Learns merges until the vocabulary, special tokens included, has `vocab_size` entries or no
  // pair occurs kCountMin times, or `progress` says no.
  Tokenizer train(int64_t vocab_size,
                  const std::function<bool(int64_t done, int64_t total)>& progress) const;

 private:
  ThreadPool& pool_;
  PieceCounts total_;
  std::vector<PieceCounts> of_thread_;
};

}  // namespace naite::data
