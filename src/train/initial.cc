// SPDX-License-Identifier: Apache-2.0
#include "train/initial.h"

#include <algorithm>
#include <cmath>

namespace naite::train {

namespace {

constexpr double kTwoPi = 6.28318530717958647693;
constexpr double kMinusTwoLn2 = -1.38629436111989061883;

// The name's part in the key: 96 bits of its SHA-256.
struct NameKey {
  uint64_t mixed_into_seed;
  uint32_t stream;
};

NameKey key_of(const std::string& name) {
  const std::string digest = sha256_hex(name);
  return {std::stoull(digest.substr(0, 16), nullptr, 16),
          static_cast<uint32_t>(std::stoul(digest.substr(16, 8), nullptr, 16))};
}

// Two independent normal numbers from one block of random words.
std::pair<double, double> normal_pair(const PhiloxBlock& block) {
  const uint64_t first = (uint64_t{block[1]} << 32) | block[0];
  const uint64_t second = (uint64_t{block[3]} << 32) | block[2];
  const double u = (static_cast<double>(first >> 11) + 1.0) * 0x1.0p-53;  // (0, 1]
  const double angle = kTwoPi * (static_cast<double>(second >> 11) * 0x1.0p-53);
  const double radius = std::sqrt(kMinusTwoLn2 * exact_log2(u));
  return {radius * exact_cos(angle), radius * exact_sin(angle)};
}

}  // namespace

void fill_initial(const tape::ParameterSpec& spec, uint64_t seed, ThreadPool& pool,
                  std::span<float> out) {
  if (spec.initial_std == 0) {
    std::fill(out.begin(), out.end(), static_cast<float>(spec.initial_value));
    return;
  }
  const NameKey key = key_of(spec.name);
  constexpr int64_t kChunk = 1 << 14;  // even: pairs stay whole
  const auto count = static_cast<int64_t>(out.size());
  pool.run((count + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t end = std::min(count, (chunk + 1) * kChunk);
    for (int64_t i = chunk * kChunk; i < end; i += 2) {
      const PhiloxBlock block = random_block(seed ^ key.mixed_into_seed, Purpose::kInitialTensor,
                                             static_cast<uint64_t>(i / 2), key.stream);
      const auto [a, b] = normal_pair(block);
      out[i] = static_cast<float>(spec.initial_value + spec.initial_std * a);
      if (i + 1 < end) out[i + 1] = static_cast<float>(spec.initial_value + spec.initial_std * b);
    }
  });
}

}  // namespace naite::train
