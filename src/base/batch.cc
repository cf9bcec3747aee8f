// SPDX-License-Identifier: Apache-2.0
#include "base/batch.h"

#include <algorithm>

#include "base/check.h"

namespace naite {

namespace {

// Logs of runs hold digests over these three without their names.
constexpr std::string_view kNameless[] = {"ids", "targets", "positions"};

bool is_nameless(std::string_view name) {
  return std::find(std::begin(kNameless), std::end(kNameless), name) != std::end(kNameless);
}

}  // namespace

const void* Batch::Column::data() const {
  return std::visit(
      [this](const auto& all) -> const void* {
        NAITE_CHECK(static_cast<int64_t>(all.size()) == rows * width, "{} was not filled", name);
        return all.data();
      },
      values);
}

Batch Batch::text(int64_t tokens) {
  Batch out;
  for (const std::string_view name : kNameless) out.add_ints(std::string(name), tokens);
  out.add_ints("spans", tokens, 2, true);
  return out;
}

void Batch::add_ints(std::string name, int64_t rows, int64_t width, bool is_derived) {
  columns_.push_back({std::move(name), rows, width, is_derived, std::vector<int32_t>()});
}

void Batch::add_floats(std::string name, int64_t rows, int64_t width, bool is_derived) {
  columns_.push_back({std::move(name), rows, width, is_derived, std::vector<float>()});
}

bool Batch::has(std::string_view name) const {
  return std::any_of(columns_.begin(), columns_.end(),
                     [&](const Column& column) { return column.name == name; });
}

const Batch::Column& Batch::column(std::string_view name) const {
  const auto found = std::find_if(columns_.begin(), columns_.end(),
                                  [&](const Column& column) { return column.name == name; });
  NAITE_CHECK(found != columns_.end(), "a batch without the column {}", name);
  return *found;
}

Batch::Column& Batch::find(std::string_view name) {
  auto& found = const_cast<Column&>(column(name));
  std::visit([&](auto& all) { all.resize(static_cast<size_t>(found.rows * found.width)); },
             found.values);
  return found;
}

int64_t Batch::bytes() const {
  int64_t bytes = 0;
  for (const Column& column : columns_) bytes += column.bytes();
  return bytes;
}

std::span<int32_t> Batch::ints(std::string_view name) {
  return std::get<std::vector<int32_t>>(find(name).values);
}
std::span<const int32_t> Batch::ints(std::string_view name) const {
  return std::get<std::vector<int32_t>>(column(name).values);
}
std::span<float> Batch::floats(std::string_view name) {
  return std::get<std::vector<float>>(find(name).values);
}
std::span<const float> Batch::floats(std::string_view name) const {
  return std::get<std::vector<float>>(column(name).values);
}

void Batch::pad(int64_t first) {
  const std::span<int32_t> tokens = ints("ids"), next = ints("targets"), at = ints("positions"),
                           seen = ints("spans");
  for (auto t = static_cast<size_t>(first); t < tokens.size(); ++t) {
    tokens[t] = at[t] = 0;
    next[t] = -1;
    seen[2 * t] = static_cast<int32_t>(t);
    seen[2 * t + 1] = static_cast<int32_t>(t) + 1;
  }
}

Digest digest_of(std::span<const Batch> batches) {
  Sha256 hash;
  const auto update = [&](std::string_view name) {
    for (const Batch& batch : batches) {
      const Batch::Column& column = batch.column(name);
      hash.update(column.data(), static_cast<size_t>(column.bytes()));
    }
  };
  for (const std::string_view name : kNameless) update(name);
  for (const Batch::Column& column : batches.front().columns()) {
    if (column.is_derived || is_nameless(column.name)) continue;
    const std::string line = column.name + "\n";
    hash.update(line.data(), line.size());
    update(column.name);
  }
  return hash.digest();
}

}  // namespace naite
