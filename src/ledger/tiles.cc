// SPDX-License-Identifier: Apache-2.0
#include "ledger/tiles.h"

#include <algorithm>

#include "ledger/encoding.h"
#include "ledger/merkle.h"

namespace naite::ledger {

std::string tile_path(int level, int64_t number, int64_t width) {
  std::string digits = fmt::format("{:03}", number % 1000);
  for (int64_t rest = number / 1000; rest > 0; rest /= 1000)
    digits = fmt::format("x{:03}/", rest % 1000) + digits;
  const std::string name = level == kEntriesLevel ? "entries" : fmt::format("{}", level);
  const std::string partial = width < kTileWidth ? fmt::format(".p/{}", width) : "";
  return fmt::format("tile/{}/{}{}", name, digits, partial);
}

std::optional<TileName> parse_tile_path(std::string_view path) {
  TileName out{0, 0, kTileWidth};
  const std::string_view whole = path;
  auto take = [&path] {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(path.size(), slash + 1));
    return part;
  };
  if (take() != "tile") return std::nullopt;
  const std::string_view level = take();
  out.level =
      level == "entries" ? kEntriesLevel : static_cast<int>(from_decimal(level).value_or(64) & 127);
  if (out.level > 63) return std::nullopt;
  for (int groups = 0; groups < 6 && !path.empty(); ++groups) {
    std::string_view part = take();
    const bool more = part.starts_with('x'), partial = part.ends_with(".p");
    if (more) part.remove_prefix(1);
    if (partial) part.remove_suffix(2);
    const size_t digit = std::min(part.find_first_not_of('0'), part.size() - !part.empty());
    const std::optional<int64_t> value = from_decimal(part.substr(digit));
    if (part.size() != 3 || !value) return std::nullopt;
    out.number = out.number * 1000 + *value;
    if (partial) out.width = from_decimal(take()).value_or(0);
    if (!more) break;
  }
  if (!path.empty() || out.width < 1 || tile_path(out.level, out.number, out.width) != whole)
    return std::nullopt;
  return out;
}

std::vector<TileName> tiles_of(int64_t size) {
  std::vector<TileName> out;
  auto add_level = [&out](int level, int64_t count) {
    for (int64_t n = 0; n < count / kTileWidth; ++n) out.push_back({level, n, kTileWidth});
    if (count % kTileWidth != 0) out.push_back({level, count / kTileWidth, count % kTileWidth});
  };
  add_level(kEntriesLevel, size);
  int level = 0;
  for (int64_t count = size; count > 0; count /= kTileWidth) add_level(level++, count);
  return out;
}

std::string tile_bytes(std::span<const Digest> leaves, const TileName& tile) {
  int64_t covers = 1;  // leaves below one hash of this level
  for (int i = 0; i < tile.level; ++i) covers *= kTileWidth;
  std::string out;
  for (int64_t i = 0; i < tile.width; ++i) {
    const int64_t first = (tile.number * kTileWidth + i) * covers;
    const Digest hash =
        tree_root(leaves.subspan(static_cast<size_t>(first), static_cast<size_t>(covers)));
    out += as_bytes(hash);
  }
  return out;
}

std::string entry_bundle(std::span<const std::string> entries) {
  std::string out;
  for (const std::string& entry : entries) {
    NAITE_CHECK(entry.size() <= kEntryBytesMax, "an entry of {} bytes", entry.size());
    out += big_endian(entry.size(), 2);
    out += entry;
  }
  return out;
}

Result<std::vector<std::string>> parse_entry_bundle(std::string_view bytes, int64_t count,
                                                    std::string_view where) {
  std::vector<std::string> out;
  for (int64_t i = 0; i < count; ++i) {
    const size_t size = bytes.size() < 2 ? 0 : from_big_endian(bytes.substr(0, 2));
    if (bytes.size() < 2 + size) return fail("{}: cut off in entry {} of {}", where, i + 1, count);
    out.emplace_back(bytes.substr(2, size));
    bytes.remove_prefix(2 + size);
  }
  if (!bytes.empty()) return fail("{}: {} bytes behind the last entry", where, bytes.size());
  return out;
}

}  // namespace naite::ledger
