// SPDX-License-Identifier: Apache-2.0
#pragma once
// Philox4x32-10: counter-based random numbers (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A value is a pure function of (seed, purpose, index); nothing holds a stream.
#include <array>
#include <cstdint>
#include <string_view>

namespace naite {

// Purposes keep the uses of one seed apart. Never renumber: every number is part of the contract.
enum class Purpose : uint32_t {
  kInitialTensor = 1,  // index: position in the tensor; the tensor's name is mixed into the key
  kDataOrder = 2,
  kSampling = 3,
  kDropToken = 4,
  kPacking = 5,
};

using PhiloxBlock = std::array<uint32_t, 4>;

PhiloxBlock philox4x32(const PhiloxBlock& counter, const std::array<uint32_t, 2>& key);

// The block of random words for (seed, purpose, index). `stream` separates tensors and sources.
PhiloxBlock random_block(uint64_t seed, Purpose purpose, uint64_t index, uint32_t stream = 0);

// A uniform integer in [0, bound), bound >= 1, by multiplication of 64 random bits (bias < 2^-32).
uint64_t random_below(uint64_t bound, uint64_t seed, Purpose purpose, uint64_t index,
                      uint32_t stream = 0);

// A uniform number in [0, 1) with 53 random bits.
double random_unit(uint64_t seed, Purpose purpose, uint64_t index, uint32_t stream = 0);

}  // namespace naite
