// SPDX-License-Identifier: Apache-2.0
#include "verify/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/safetensors.h"
#include "ledger/ledger.h"
#include "verify/report.h"

namespace naite::verify {

namespace fs = std::filesystem;
using formats::Safetensors;
using formats::StoredTensor;

namespace {

constexpr const char* kWeights = "weights";

struct StoredFiles {
  Safetensors weights, optimizer;
};

Result<StoredFiles> open_state(const fs::path& directory) {
  NAITE_ASSIGN(Safetensors weights, Safetensors::open(directory));
  NAITE_ASSIGN(Safetensors optimizer, Safetensors::open(directory / "state/optimizer.safetensors"));
  return StoredFiles{std::move(weights), std::move(optimizer)};
}

// Tensors of the optimizer are called PART.NAME.
std::string part_of(const std::string& tensor) {
  std::string part = tensor.substr(0, tensor.find('.'));
  return part == "master" ? kWeights : part;
}

Result<std::vector<float>> values_of(const StoredTensor& tensor, const fs::path& directory) {
  NAITE_ASSIGN(const int64_t count, formats::element_count(tensor.shape));
  std::vector<float> out(static_cast<size_t>(count));
  NAITE_TRY(formats::read_floats(tensor, out));
  if (std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); }))
    return out;
  return fail("{}: {} has a value that is no finite number, which no step leaves",
              directory.string(), formats::shown_name(tensor.name));
}

// Adds the squares of what `before` and `after` do not have in common.
Status add_squares(const Safetensors& before, const fs::path& before_directory,
                   const Safetensors& after, const fs::path& after_directory,
                   const std::function<std::string(const std::string&)>& part, Change& squares) {
  for (const StoredTensor& tensor : after.tensors()) {
    NAITE_ASSIGN(const std::vector<float> values, values_of(tensor, after_directory));
    const StoredTensor* const same = before.find(tensor.name);
    std::vector<float> old(values.size());
    if (same != nullptr && same->shape == tensor.shape) {
      NAITE_ASSIGN(old, values_of(*same, before_directory));
    }
    double& sum = squares[part(tensor.name)];
    for (size_t i = 0; i < values.size(); ++i) {
      const double change = static_cast<double>(values[i]) - old[i];
      sum += change * change;
    }
  }
  for (const StoredTensor& tensor : before.tensors()) {
    const StoredTensor* const same = after.find(tensor.name);
    if (same != nullptr && same->shape == tensor.shape) continue;
    NAITE_ASSIGN(const std::vector<float> values, values_of(tensor, before_directory));
    double& sum = squares[part(tensor.name)];
    for (const float value : values) sum += static_cast<double>(value) * value;
  }
  return {};
}

// The intervals but the first, by how far this part moved, farthest first.
std::vector<size_t> ranked(const std::vector<Change>& changes, const std::string& part) {
  const auto moved = [&](size_t i) {
    const auto found = changes[i].find(part);
    return found == changes[i].end() ? 0.0 : found->second;
  };
  std::vector<size_t> out(changes.size() - 1);
  std::iota(out.begin(), out.end(), size_t{1});
  std::stable_sort(out.begin(), out.end(), [&](size_t a, size_t b) { return moved(a) > moved(b); });
  return out;
}

std::vector<size_t> largest_of(const std::vector<Change>& changes, size_t count,
                               std::vector<bool>& taken) {
  std::vector<std::string> parts = {kWeights};
  for (const Change& change : changes)
    for (const auto& [part, moved] : change)
      if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  std::sort(parts.begin() + 1, parts.end());
  std::vector<std::vector<size_t>> ranks;
  for (const std::string& part : parts) ranks.push_back(ranked(changes, part));
  std::vector<size_t> at(parts.size(), 0), out;
  while (out.size() < count) {
    const size_t part = out.size() % parts.size();
    size_t chosen = 0;
    do {
      chosen = ranks[part][at[part]++];
    } while (taken[chosen]);
    taken[chosen] = true;
    out.push_back(chosen);
  }
  return out;
}

}  // namespace

Result<Change> change_between(const fs::path& before, const fs::path& after) {
  NAITE_ASSIGN(const StoredFiles old, open_state(before));
  NAITE_ASSIGN(const StoredFiles now, open_state(after));
  Change out;
  NAITE_TRY(add_squares(
      old.weights, before, now.weights, after, [](const std::string&) { return kWeights; }, out));
  NAITE_TRY(add_squares(old.optimizer, before, now.optimizer, after, part_of, out));
  for (auto& [part, moved] : out) moved = std::sqrt(moved);
  return out;
}

Sample choose_sample(const std::vector<Change>& changes, int64_t count,
                     const std::function<int64_t(int64_t)>& draw) {
  const auto total = static_cast<int64_t>(changes.size());
  const auto chosen = static_cast<size_t>(std::clamp<int64_t>(count, 1, total));
  std::vector<bool> taken(changes.size(), false);
  taken[0] = true;
  Sample out;
  out.largest = largest_of(changes, std::min(chosen / 2, chosen - 1), taken);
  std::vector<size_t> rest;
  for (size_t i = 0; i < changes.size(); ++i)
    if (!taken[i]) rest.push_back(i);
  const auto left = static_cast<int64_t>(rest.size());
  const auto drawn = static_cast<int64_t>(chosen - 1 - out.largest.size());
  for (int64_t i = 0; i < drawn; ++i) {
    std::swap(rest[static_cast<size_t>(i)], rest[static_cast<size_t>(i + draw(left - i))]);
    out.random.push_back(rest[static_cast<size_t>(i)]);
  }
  const int64_t tenth = (total + 9) / 10;
  out.miss_tenth = left == 0 ? 0 : miss_probability(left, std::min(left, tenth), drawn);
  out.miss_one = left == 0 ? 0 : miss_probability(left, 1, drawn);
  return out;
}

int64_t random_below(int64_t bound) {
  const auto range = static_cast<uint64_t>(bound);
  const uint64_t uneven = (UINT64_MAX % range + 1) % range;  // so many values would be too many
  while (true) {
    const uint64_t bits = ledger::from_big_endian(*ledger::from_hex(ledger::random_hex(8)));
    if (bits <= UINT64_MAX - uneven) return static_cast<int64_t>(bits % range);
  }
}

}  // namespace naite::verify
