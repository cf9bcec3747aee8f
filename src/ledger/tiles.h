// SPDX-License-Identifier: Apache-2.0
#pragma once
// The layout of a log as static files (c2sp.org/tlog-tiles).
//
//   checkpoint                       the newest signed head (ledger/note.h)
//   tile/L/N[.p/W]                   hashes of level L: 256, or W at the right edge, 32 bytes each;
//                                    level 0 are leaves, one of level L + 1 covers a tile of level
//                                    L
//   tile/entries/N[.p/W]             the entries under the level 0 tile of that number, each
//                                    u16 length, big-endian, then its bytes
//   N in groups of three digits, all but the last with an x: 1234067 is x001/x234/067
//   W at level L of a tree of size S: floor(S / 256^L) mod 256; a width of 0 is never written
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::ledger {

inline constexpr int64_t kTileWidth = 256;
inline constexpr size_t kEntryBytesMax = 65535;
inline constexpr int64_t kBundleBytesMax = kTileWidth * (2 + int64_t{kEntryBytesMax});

// `width` 256 is a full tile. Level -1 stands for the entries.
inline constexpr int kEntriesLevel = -1;
std::string tile_path(int level, int64_t number, int64_t width);

struct TileName {
  int level;  // kEntriesLevel, 0, 1, ...
  int64_t number, width;
};
// The reverse of tile_path(); none for any other path.
std::optional<TileName> parse_tile_path(std::string_view path);
// Every tile of a tree of `size` leaves, entries included.
std::vector<TileName> tiles_of(int64_t size);

// The hashes of one tile, ready to be written.
std::string tile_bytes(std::span<const Digest> leaves, const TileName& tile);

std::string entry_bundle(std::span<const std::string> entries);
// Exactly `count` entries and nothing behind them.
Result<std::vector<std::string>> parse_entry_bundle(std::string_view bytes, int64_t count,
                                                    std::string_view where);

}  // namespace naite::ledger
