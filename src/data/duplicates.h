// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finding documents that came before.
// The same bytes: by a 64-bit hash; among n documents a false match has the probability n^2 / 2^65,
// one in 10^4 for 60 million.
// Much alike: by MinHash (Broder 1997) with one permutation (Li, Owen & Zhang, NIPS 2012; empty
// bins filled by rotation, Shrivastava & Li, arXiv 1406.4784) over runs of five pieces of text, 64
// bins in 8 bands of 8. Two documents that share a band count as alike: with a share s of common
// runs that happens with the probability 1 - (1 - s^8)^8, 0.99 at s = 0.9, 0.77 at 0.8, 0.03 at
// 0.5. Memory is bounded: when the tables are full, documents are compared with the remembered ones
// and not remembered themselves; the manifest counts them.
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/options.h"

namespace naite::data {

// A set of 64-bit hashes, open addressing.
class HashSet {
 public:
  bool contains(uint64_t hash) const;
  // False if it was there already.
  bool insert(uint64_t hash);
  size_t size() const { return used_; }

 private:
  void grow();
  std::vector<uint64_t> slots_;
  size_t used_ = 0;
  bool has_zero_ = false;
};

struct Fingerprint {
  static constexpr int kBands = 8;
  uint64_t hash = 0;
  bool has_bands = false;  // short documents have none
  std::array<uint64_t, kBands> bands{};
};

// `near`: compute the bands too.
Fingerprint fingerprint_of(std::string_view text, bool near);

class Duplicates {
 public:
  enum class Verdict { kNew, kSame, kNear };
  static constexpr size_t kRememberedMax = 44'000'000;  // hashes in each table: 512 MiB

  explicit Duplicates(bool drop_same) : drop_same_(drop_same) {}
  Verdict judge(const Fingerprint& document);
  // Documents that found the tables full.
  int64_t not_remembered() const { return not_remembered_; }

 private:
  bool drop_same_;
  HashSet seen_, bands_;
  int64_t not_remembered_ = 0;
};

}  // namespace naite::data
