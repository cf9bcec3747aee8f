// SPDX-License-Identifier: Apache-2.0
#include "base/philox.h"

namespace naite {

PhiloxBlock philox4x32(const PhiloxBlock& counter, const std::array<uint32_t, 2>& key) {
  PhiloxBlock c = counter;
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

PhiloxBlock random_block(uint64_t seed, Purpose purpose, uint64_t index, uint32_t stream) {
  return philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                     static_cast<uint32_t>(purpose), stream},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

namespace {
uint64_t random_bits(uint64_t seed, Purpose purpose, uint64_t index, uint32_t stream) {
  const PhiloxBlock block = random_block(seed, purpose, index, stream);
  return (uint64_t{block[1]} << 32) | block[0];
}
}  // namespace

uint64_t random_below(uint64_t bound, uint64_t seed, Purpose purpose, uint64_t index,
                      uint32_t stream) {
  const unsigned __int128 product =
      static_cast<unsigned __int128>(random_bits(seed, purpose, index, stream)) * bound;
  return static_cast<uint64_t>(product >> 64);
}

double random_unit(uint64_t seed, Purpose purpose, uint64_t index, uint32_t stream) {
  return static_cast<double>(random_bits(seed, purpose, index, stream) >> 11) * 0x1.0p-53;
}

}  // namespace naite
