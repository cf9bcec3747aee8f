// SPDX-License-Identifier: Apache-2.0
#include "ledger/merkle.h"

#include <bit>

namespace naite::ledger {

namespace {

// The size of the left subtree: the largest power of two below `size`, size >= 2.
size_t left_size(size_t size) { return std::bit_floor(size - 1); }

// RFC 6962, section 2.1.1.
void collect_inclusion(std::span<const Digest> leaves, size_t index, std::vector<Digest>& out) {
  if (leaves.size() == 1) return;
  const size_t k = left_size(leaves.size());
  if (index < k) {
    collect_inclusion(leaves.first(k), index, out);
    out.push_back(tree_root(leaves.subspan(k)));
  } else {
    collect_inclusion(leaves.subspan(k), index - k, out);
    out.push_back(tree_root(leaves.first(k)));
  }
}

// RFC 6962, section 2.1.2; `known`: the verifier has the old root itself.
void collect_consistency(std::span<const Digest> leaves, size_t old_size, bool known,
                         std::vector<Digest>& out) {
  if (old_size == leaves.size()) {
    if (!known) out.push_back(tree_root(leaves));
    return;
  }
  const size_t k = left_size(leaves.size());
  if (old_size <= k) {
    collect_consistency(leaves.first(k), old_size, known, out);
    out.push_back(tree_root(leaves.subspan(k)));
  } else {
    collect_consistency(leaves.subspan(k), old_size - k, false, out);
    out.push_back(tree_root(leaves.first(k)));
  }
}

}  // namespace

Digest leaf_hash(std::string_view data) {
  Sha256 hash;
  hash.update(std::string_view("\0", 1));
  hash.update(data);
  return hash.digest();
}

Digest node_hash(const Digest& left, const Digest& right) {
  Sha256 hash;
  hash.update(std::string_view("\1", 1));
  hash.update(left.data(), left.size());
  hash.update(right.data(), right.size());
  return hash.digest();
}

Digest tree_root(std::span<const Digest> leaves) {
  if (leaves.empty()) return sha256("");
  if (leaves.size() == 1) return leaves[0];
  const size_t k = left_size(leaves.size());
  return node_hash(tree_root(leaves.first(k)), tree_root(leaves.subspan(k)));
}

std::vector<Digest> inclusion_proof(std::span<const Digest> leaves, int64_t index) {
  NAITE_CHECK(index >= 0 && index < static_cast<int64_t>(leaves.size()), "leaf {} of {}", index,
              leaves.size());
  std::vector<Digest> out;
  collect_inclusion(leaves, static_cast<size_t>(index), out);
  return out;
}

std::vector<Digest> consistency_proof(std::span<const Digest> leaves, int64_t old_size) {
  NAITE_CHECK(old_size > 0 && old_size <= static_cast<int64_t>(leaves.size()), "{} of {}", old_size,
              leaves.size());
  std::vector<Digest> out;
  collect_consistency(leaves, static_cast<size_t>(old_size), true, out);
  return out;
}

// RFC 9162, section 2.1.3.2.
bool verify_inclusion(const Digest& leaf, int64_t index, int64_t size,
                      std::span<const Digest> proof, const Digest& root) {
  if (index < 0 || index >= size) return false;
  int64_t fn = index, sn = size - 1;
  Digest r = leaf;
  for (const Digest& p : proof) {
    if (sn == 0) return false;
    if ((fn & 1) != 0 || fn == sn) {
      r = node_hash(p, r);
      while ((fn & 1) == 0 && fn > 0) {
        fn >>= 1;
        sn >>= 1;
      }
    } else {
      r = node_hash(r, p);
    }
    fn >>= 1;
    sn >>= 1;
  }
  return sn == 0 && r == root;
}

// RFC 9162, section 2.1.4.2.
bool verify_consistency(int64_t old_size, const Digest& old_root, int64_t size, const Digest& root,
                        std::span<const Digest> proof) {
  if (old_size <= 0 || old_size > size) return false;
  if (old_size == size) return proof.empty() && old_root == root;
  std::vector<Digest> path(proof.begin(), proof.end());
  if (std::has_single_bit(static_cast<uint64_t>(old_size))) path.insert(path.begin(), old_root);
  if (path.empty()) return false;
  int64_t fn = old_size - 1, sn = size - 1;
  while ((fn & 1) != 0) {
    fn >>= 1;
    sn >>= 1;
  }
  Digest fr = path[0], sr = path[0];
  for (size_t i = 1; i < path.size(); ++i) {
    if (sn == 0) return false;
    if ((fn & 1) != 0 || fn == sn) {
      fr = node_hash(path[i], fr);
      sr = node_hash(path[i], sr);
      while ((fn & 1) == 0 && fn > 0) {
        fn >>= 1;
        sn >>= 1;
      }
    } else {
      sr = node_hash(sr, path[i]);
    }
    fn >>= 1;
    sn >>= 1;
  }
  return fr == old_root && sr == root && sn == 0;
}

}  // namespace naite::ledger
