// SPDX-License-Identifier: Apache-2.0
#include "data/duplicates.h"

#include <algorithm>
#include <utility>

#include "data/hash.h"
#include "data/split.h"

namespace naite::data {

namespace {

constexpr int kBins = 64;
constexpr int kBinsInBand = kBins / Fingerprint::kBands;
constexpr int kRun = 5;       // pieces in a run
constexpr int kRunsMin = 16;  // fewer say too little about a document
constexpr uint64_t kEmptyBin = ~uint64_t{0};

using Bins = std::array<uint64_t, kBins>;

// The lowest hash of the runs that fall into each bin; the number of runs.
int64_t fill_bins(std::string_view text, Bins& bins) {
  bins.fill(kEmptyBin);
  const SplitRule rule;
  std::array<uint64_t, kRun> last{};
  int64_t pieces = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(rule, text, begin);
    last[static_cast<size_t>(pieces++ % kRun)] = hash_bytes(text.substr(begin, end - begin));
    begin = end;
    if (pieces < kRun) continue;
    uint64_t run = 0;
    for (int64_t i = pieces; i < pieces + kRun; ++i)
      run = fold_multiply(run ^ last[static_cast<size_t>(i % kRun)], 0x9e3779b97f4a7c15ull);
    uint64_t& bin = bins[run >> 58];
    bin = std::min(bin, run & (kEmptyBin >> 6));
  }
  return std::max<int64_t>(pieces - kRun + 1, 0);
}

}  // namespace

bool HashSet::contains(uint64_t hash) const {
  if (hash == 0) return has_zero_;
  if (slots_.empty()) return false;
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i] != 0; i = (i + 1) & mask)
    if (slots_[i] == hash) return true;
  return false;
}

bool HashSet::insert(uint64_t hash) {
  if (hash == 0) return !std::exchange(has_zero_, true);  // 0 marks a free slot
  if (used_ * 3 >= slots_.size() * 2) grow();
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    if (slots_[i] == hash) return false;
    if (slots_[i] != 0) continue;
    slots_[i] = hash;
    ++used_;
    return true;
  }
}

void HashSet::grow() {
  std::vector<uint64_t> old(std::max<size_t>(1024, slots_.size() * 2));
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const uint64_t hash : old) {
    if (hash == 0) continue;
    size_t i = hash & mask;
    while (slots_[i] != 0) i = (i + 1) & mask;
    slots_[i] = hash;
  }
}

Fingerprint fingerprint_of(std::string_view text, bool near) {
  Fingerprint print;
  print.hash = hash_bytes(text);
  if (!near) return print;
  Bins bins;
  print.has_bands = fill_bins(text, bins) >= kRunsMin;
  if (!print.has_bands) return print;
  Bins filled = bins;
  for (int i = 0; i < kBins; ++i)  // an empty bin takes the next one's value, moved by the distance
    for (uint64_t distance = 1; filled[static_cast<size_t>(i)] == kEmptyBin; ++distance) {
      const uint64_t next = bins[(static_cast<size_t>(i) + distance) % kBins];
      if (next != kEmptyBin) filled[static_cast<size_t>(i)] = next + (distance << 58);
    }
  for (size_t band = 0; band < Fingerprint::kBands; ++band) {
    uint64_t hash = band;
    for (size_t row = 0; row < kBinsInBand; ++row)
      hash = fold_multiply(hash ^ filled[band * kBinsInBand + row], 0xd6e8feb86659fd93ull) + band;
    print.bands[band] = hash;
  }
  return print;
}

Duplicates::Verdict Duplicates::judge(const Fingerprint& document) {
  if (drop_same_ && seen_.contains(document.hash)) return Verdict::kSame;
  bool near = false;
  if (document.has_bands)
    for (const uint64_t band : document.bands) near = near || bands_.contains(band);
  const bool full = seen_.size() >= kRememberedMax || bands_.size() >= kRememberedMax;
  if (full) ++not_remembered_;
  if (!full && drop_same_) seen_.insert(document.hash);
  if (!full && document.has_bands)
    for (const uint64_t band : document.bands) bands_.insert(band);
  return near ? Verdict::kNear : Verdict::kNew;
}

}  // namespace naite::data
