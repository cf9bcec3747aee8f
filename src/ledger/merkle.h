// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Merkle tree of RFC 6962 (and 9162), section 2: leaf SHA-256(00 || data), node SHA-256(01 ||
// left || right), the left subtree being the largest whole power of two that leaves something for
// the right one. Proofs are made from all leaf hashes; verifying needs the proof only.
#include <span>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::ledger {

Digest leaf_hash(std::string_view data);
Digest node_hash(const Digest& left, const Digest& right);
Digest tree_root(std::span<const Digest> leaves);  // SHA-256("") without leaves

// From the sibling of leaf `index` upwards; index < leaves.size().
std::vector<Digest> inclusion_proof(std::span<const Digest> leaves, int64_t index);
// That the tree of the first `old_size` leaves begins this one; 0 < old_size <= leaves.size().
std::vector<Digest> consistency_proof(std::span<const Digest> leaves, int64_t old_size);

bool verify_inclusion(const Digest& leaf, int64_t index, int64_t size,
                      std::span<const Digest> proof, const Digest& root);
bool verify_consistency(int64_t old_size, const Digest& old_root, int64_t size, const Digest& root,
                        std::span<const Digest> proof);

}  // namespace naite::ledger
