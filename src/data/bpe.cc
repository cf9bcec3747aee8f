// SPDX-License-Identifier: Apache-2.0
// Applying merges: lowest rank first, leftmost among equals.
#include <algorithm>
#include <queue>

#include "data/tokenizer_model.h"

namespace naite::data {

namespace {

// Up to this many tokens, looking for the lowest rank again after every merge beats a heap.
constexpr size_t kScanMax = 96;

void merge_by_scan(const PairTable& merges, std::vector<int32_t>& ids) {
  PairTable::Found next[kScanMax];  // next[i]: what joining tokens i and i + 1 gives
  size_t count = ids.size();
  for (size_t i = 0; i + 1 < count; ++i) next[i] = merges.find(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (next[i].rank < next[best].rank) best = i;
    if (next[best].rank == PairTable::kNone) break;
    ids[best] = next[best].id;
    std::copy(ids.begin() + best + 2, ids.begin() + count, ids.begin() + best + 1);
    std::copy(next + best + 1, next + count - 1, next + best);
    --count;
    if (best > 0) next[best - 1] = merges.find(ids[best - 1], ids[best]);
    if (best + 1 < count) next[best] = merges.find(ids[best], ids[best + 1]);
  }
  ids.resize(count);
}

// For long pieces: a doubly linked list of tokens and a heap of candidate merges, O(n log n). An
// entry is stale if its tokens have been joined with others since.
void merge_by_heap(const PairTable& merges, std::vector<int32_t>& ids) {
  struct Candidate {
    int32_t rank;
    uint32_t at;  // index of the left token
    int32_t left, right, joined;
    bool operator<(const Candidate& other) const {  // a heap keeps its greatest on top
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  constexpr uint32_t kEnd = UINT32_MAX;
  const uint32_t count = static_cast<uint32_t>(ids.size());
  std::vector<uint32_t> before(count), after(count);
  std::vector<uint8_t> gone(count, 0);
  std::vector<Candidate> storage;
  storage.reserve(count);
  std::priority_queue<Candidate> heap({}, std::move(storage));
  const auto consider = [&](uint32_t left, uint32_t right) {
    const PairTable::Found found = merges.find(ids[left], ids[right]);
    if (found.rank != PairTable::kNone)
      heap.push({found.rank, left, ids[left], ids[right], found.id});
  };
  for (uint32_t i = 0; i < count; ++i) {
    before[i] = i == 0 ? kEnd : i - 1;
    after[i] = i + 1 == count ? kEnd : i + 1;
    if (i + 1 < count) consider(i, i + 1);
  }
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    if (gone[top.at] || ids[top.at] != top.left) continue;
    const uint32_t right = after[top.at];
    if (right == kEnd || ids[right] != top.right) continue;
    ids[top.at] = top.joined;
    gone[right] = 1;
    after[top.at] = after[right];
    if (after[right] != kEnd) {
      before[after[right]] = top.at;
      consider(top.at, after[top.at]);
    }
    if (before[top.at] != kEnd) consider(before[top.at], top.at);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (!gone[i]) ids[kept++] = ids[i];
  ids.resize(kept);
}

}  // namespace

void PairTable::reserve(size_t pairs) {
  size_t size = 2;
  while (size < pairs * 2 + 2) size *= 2;
  slots_.assign(size, Slot{});
  mask_ = size - 1;
}

void PairTable::insert(int32_t left, int32_t right, int32_t rank, int32_t id) {
  const uint64_t key = key_of(left, right);
  size_t i = slot_of(key);
  while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & mask_;
  if (slots_[i].key == kEmpty) slots_[i] = {key, {rank, id}};
}

void apply_merges(const PairTable& merges, std::vector<int32_t>& ids) {
  if (ids.size() <= kScanMax) return merge_by_scan(merges, ids);
  merge_by_heap(merges, ids);
}

}  // namespace naite::data
