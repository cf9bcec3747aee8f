// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a Tokenizer holds, for the files of this folder: tables only, built once by make_model() or
// by the reader of tokenizer.json, never changed afterwards.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/split.h"
#include "data/tokenizer.h"

namespace naite::data {

struct Merge {
  int32_t left = 0, right = 0;
};

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = true, single_word = false, lstrip = false, rstrip = false, normalized = false;
};

// (left, right) -> (rank, joined id): open addressing, at most half full.
class PairTable {
 public:
  struct Found {
    int32_t rank = kNone, id = -1;
  };
  static constexpr int32_t kNone = INT32_MAX;

  void reserve(size_t pairs);
  // The first insertion of a pair stays.
  void insert(int32_t left, int32_t right, int32_t rank, int32_t id);
  Found find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].found;
      if (slots_[i].key == kEmpty) return {};
    }
  }

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Found found;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    return static_cast<size_t>((key * 0x9e3779b97f4a7c15ull) >> 20) & mask_;
  }
  std::vector<Slot> slots_ = std::vector<Slot>(2);
  size_t mask_ = 1;
};

// Indices into Model::added by first byte, longer contents first.
using AddedByByte = std::array<std::vector<int32_t>, 256>;

struct Tokenizer::Model {
  std::vector<std::string> tokens;  // raw bytes by id
  std::vector<uint8_t> special;     // 1 for special tokens, by id
  std::array<int32_t, 256> byte_ids{};
  PairTable merges;
  bool ignore_merges = false;  // a piece that is a token as a whole is that token
  std::unordered_map<std::string_view, int32_t> whole_pieces;  // only if ignore_merges
  SplitRule rule;
  bool add_prefix_space = false;
  bool normalize_nfc = false;
  std::vector<AddedToken> added;
  AddedByByte added_raw, added_normalized;  // looked for before and after normalisation
  bool any_added_raw = false, any_added_normalized = false, any_added_not_special = false;
  int32_t end_of_document = -1, turn_start = -1, turn_end = -1;
  std::string json, config_json;
};

// The order of the 256 byte tokens in a new vocabulary (that of GPT-2): bytes that show as
// themselves come first, then the others.
std::array<uint8_t, 256> byte_order();

// The byte alphabet of GPT-2: byte -> the code point that stands for it in tokenizer.json.
const std::array<uint16_t, 256>& byte_alphabet();

// A new vocabulary: byte tokens 0..255 in byte_order(), one token for each merge that makes a new
// string, special tokens last. The merges must be in rank order.
std::shared_ptr<const Tokenizer::Model> make_model(const std::vector<Merge>& merges);

// Joins the byte tokens in `ids` by merge rank, in place.
void apply_merges(const PairTable& merges, std::vector<int32_t>& ids);

// The text of the file for a vocabulary of ours, and the configuration beside it.
std::string tokenizer_json_of(const Tokenizer::Model& model, const std::vector<Merge>& merges);
std::string tokenizer_config_of(const Tokenizer::Model& model);

}  // namespace naite::data
