// SPDX-License-Identifier: Apache-2.0
#include "ledger/log.h"

#include <algorithm>
#include <span>

#include "ledger/encoding.h"
#include "ledger/merkle.h"
#include "ledger/tiles.h"

namespace naite::ledger {

namespace fs = std::filesystem;

namespace {

// A regular file, not a link, of at most `bytes_max` bytes.
Result<std::string> read_plain_file(const fs::path& path, uintmax_t bytes_max) {
  std::error_code code;
  const fs::file_status status = fs::symlink_status(path, code);
  if (status.type() == fs::file_type::not_found)
    return missing("{} is missing: the log is not whole", path.string());
  if (status.type() == fs::file_type::none)
    return system_error(code.value(), "cannot read {}", path.string());
  if (status.type() != fs::file_type::regular) return fail("{} is no plain file", path.string());
  if (const uintmax_t size = fs::file_size(path, code); code || size > bytes_max)
    return fail("{} has {} bytes, at most {} are allowed", path.string(), size, bytes_max);
  return read_file(path);
}

std::vector<Digest> leaves_of(const std::vector<std::string>& entries) {
  std::vector<Digest> out;
  out.reserve(entries.size());
  for (const std::string& entry : entries) out.push_back(leaf_hash(entry));
  return out;
}

Status read_bundle(const fs::path& directory, const TileName& tile,
                   std::vector<std::string>& entries) {
  const fs::path path = directory / tile_path(kEntriesLevel, tile.number, tile.width);
  NAITE_ASSIGN(const std::string bytes, read_plain_file(path, kBundleBytesMax));
  NAITE_ASSIGN(std::vector<std::string> found,
               parse_entry_bundle(bytes, tile.width, path.string()));
  for (std::string& entry : found) entries.push_back(std::move(entry));
  return {};
}

Result<Head> read_head(const fs::path& directory, Note& note) {
  const fs::path path = directory / kHeadFile;
  NAITE_ASSIGN(const std::string text, read_plain_file(path, kNoteBytesMax));
  NAITE_ASSIGN(note, Note::parse(text, path.string()));
  NAITE_ASSIGN(const Head head, Head::parse(note.text, path.string()));
  if (head.size > kLogEntriesMax)
    return fail("{}: {} entries are too many", path.string(), head.size);
  if (note.text != head.text())
    return fail("{}: lines behind the root, which a log of runs does not have", path.string());
  return head;
}

// The widths of the partial tiles that stand under `tile`'s number, ascending.
std::vector<int64_t> partial_widths(const fs::path& directory, int level, int64_t number) {
  const fs::path partials = (directory / tile_path(level, number, 1)).parent_path();
  std::vector<int64_t> out;
  const Result<std::vector<std::string>> names = list_directory(partials);
  if (!names) return out;
  for (const std::string& name : *names) {
    const std::optional<int64_t> width = from_decimal(name);
    if (width && *width > 0 && *width < kTileWidth) out.push_back(*width);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// What killed processes left half written, in the directory and all below it.
Status remove_unfinished_below(const fs::path& directory) {
  NAITE_TRY(remove_unfinished(directory));
  std::error_code code;
  fs::recursive_directory_iterator it(directory, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code))
    if (it->is_directory()) NAITE_TRY(remove_unfinished(it->path()));
  if (code) return system_error(code.value(), "cannot list {}", directory.string());
  return {};
}

// Partial tiles of older heads that are still there say the same as the newest ones.
Status check_older_tiles(const fs::path& directory, const LogContent& log) {
  std::error_code code;
  fs::recursive_directory_iterator it(directory / "tile", code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const std::string path = it->path().lexically_relative(directory).generic_string();
    const std::optional<TileName> tile = parse_tile_path(path);
    if (!tile || tile->width == kTileWidth) continue;
    int64_t covers = 1;
    for (int i = 0; i < tile->level; ++i) covers *= kTileWidth;
    const int64_t end = (tile->number * kTileWidth + tile->width) * covers;
    if (tile->level > 4 || end > log.head.size) continue;  // beyond the head: being written
    NAITE_ASSIGN(const std::string bytes, read_plain_file(it->path(), kBundleBytesMax));
    const auto first = static_cast<size_t>(tile->number * kTileWidth);
    const std::string expected =
        tile->level == kEntriesLevel
            ? entry_bundle(std::span(log.entries).subspan(first, static_cast<size_t>(tile->width)))
            : tile_bytes(log.leaves, *tile);
    if (bytes != expected) return fail("{} is not what the log had there", it->path().string());
  }
  return {};
}

}  // namespace

Result<LogContent> read_log(const fs::path& directory) {
  LogContent log;
  NAITE_ASSIGN(log.head, read_head(directory, log.note));
  const std::vector<TileName> tiles = tiles_of(log.head.size);
  for (const TileName& tile : tiles)
    if (tile.level == kEntriesLevel) NAITE_TRY(read_bundle(directory, tile, log.entries));
  log.leaves = leaves_of(log.entries);
  for (const TileName& tile : tiles) {
    if (tile.level == kEntriesLevel) continue;
    const fs::path path = directory / tile_path(tile.level, tile.number, tile.width);
    NAITE_ASSIGN(const std::string bytes, read_plain_file(path, kTileWidth * 32));
    if (bytes != tile_bytes(log.leaves, tile))
      return fail("{}: its hashes are not those of the entries below", path.string());
  }
  if (tree_root(log.leaves) != log.head.root)
    return fail("{}: the root of its {} entries is another one", (directory / kHeadFile).string(),
                log.head.size);
  NAITE_TRY(check_older_tiles(directory, log));
  return log;
}

Status add_cosignature(const fs::path& directory, const Head& head, const std::string& line) {
  Note note;
  NAITE_ASSIGN(const Head there, read_head(directory, note));
  if (there != head) return {};
  NAITE_ASSIGN(const Note added, Note::parse(head.text() + "\n" + line, "the cosignature"));
  std::string text = note.text + "\n";
  for (const NoteSignature& signature : note.signatures)
    if (signature.name != added.signatures[0].name ||
        signature.key_id != added.signatures[0].key_id)
      text += signature.line();
  NAITE_TRY(write_file(directory / kHeadFile, text + line));
  kill_point("ledger-cosigned");
  return {};
}

Result<LogWriter> LogWriter::open(const fs::path& directory, const Signer& signer) {
  LogWriter writer(directory, signer);
  NAITE_TRY(make_directories(directory));
  NAITE_TRY(remove_unfinished_below(directory));
  NAITE_TRY(writer.load());
  return writer;
}

// Reads what is durable, compares it with the head, and brings tiles and head up to it.
Status LogWriter::load() {
  Note note;
  Head head;
  std::error_code code;
  if (fs::exists(directory_ / kHeadFile, code)) {
    NAITE_ASSIGN(head, read_head(directory_, note));
    if (head.origin != signer_.name())
      return fail("{} is the log {}, not {}: use the key that it was begun with",
                  directory_.string(), head.origin, signer_.name());
    NAITE_ASSIGN(const bool is_signed, verify_note(note, signer_.verifier()));
    if (!is_signed)
      return fail("{} is not signed by {}: use the key that it was begun with",
                  (directory_ / kHeadFile).string(), signer_.verifier().vkey());
  }
  for (int64_t number = 0;; ++number) {
    int64_t width = kTileWidth;
    if (!fs::exists(directory_ / tile_path(kEntriesLevel, number, width), code)) {
      const std::vector<int64_t> widths = partial_widths(directory_, kEntriesLevel, number);
      if (widths.empty()) break;
      width = widths.back();
    }
    NAITE_TRY(read_bundle(directory_, {kEntriesLevel, number, width}, entries_));
    if (width < kTileWidth) break;
  }
  leaves_ = leaves_of(entries_);
  if (size() < head.size)
    return fail("{}: the signed head has {} entries, {} are there; restore the lost files",
                directory_.string(), head.size, size());
  if (head.size > 0 && tree_root(std::span(leaves_).first(head.size)) != head.root)
    return fail("{}: entries were changed after they were signed; restore them",
                directory_.string());
  if (size() == head.size) return {};
  NAITE_TRY(write_tiles(head.size));
  NAITE_TRY(write_head());
  return remove_old_partials();
}

void LogWriter::forget_entries() {
  const int64_t first = size() / kTileWidth * kTileWidth;
  entries_.erase(entries_.begin(), entries_.begin() + (first - first_entry_));
  first_entry_ = first;
}

Status LogWriter::append(const std::vector<std::string>& entries) {
  if (entries.empty()) return {};
  const int64_t old_size = size();
  for (const std::string& entry : entries) {
    if (entry.size() > kEntryBytesMax)
      return fail("a log entry of {} bytes is too long, at most {} fit", entry.size(),
                  kEntryBytesMax);
    entries_.push_back(entry);
    leaves_.push_back(leaf_hash(entry));
  }
  NAITE_TRY(write_bundles(old_size));
  NAITE_TRY(write_tiles(old_size));
  NAITE_TRY(write_head());
  return remove_old_partials();
}

Status LogWriter::write_bundles(int64_t old_size) {
  for (int64_t number = old_size / kTileWidth; number * kTileWidth < size(); ++number) {
    const int64_t first = number * kTileWidth;
    const int64_t width = std::min(kTileWidth, size() - first);
    const fs::path path = directory_ / tile_path(kEntriesLevel, number, width);
    NAITE_TRY(make_directories(path.parent_path()));
    const std::span<const std::string> all = entries_;
    NAITE_TRY(write_file(path, entry_bundle(all.subspan(static_cast<size_t>(first - first_entry_),
                                                        static_cast<size_t>(width)))));
    kill_point("ledger-entries");
  }
  return {};
}

Status LogWriter::write_tiles(int64_t old_size) {
  int64_t covers = kTileWidth;  // leaves below a whole tile of the level
  for (int level = 0; size() / (covers / kTileWidth) > 0; ++level, covers *= kTileWidth) {
    const int64_t count = size() / (covers / kTileWidth);
    for (int64_t number = old_size / covers; number * kTileWidth < count; ++number) {
      const TileName tile{level, number, std::min(kTileWidth, count - number * kTileWidth)};
      const fs::path path = directory_ / tile_path(level, number, tile.width);
      NAITE_TRY(make_directories(path.parent_path()));
      NAITE_TRY(write_file(path, tile_bytes(leaves_, tile)));
      kill_point("ledger-tile");
    }
  }
  return {};
}

Status LogWriter::write_head() {
  const std::string text = Head{signer_.name(), size(), tree_root(leaves_)}.text();
  const std::lock_guard lock(*head_mutex_);
  NAITE_TRY(write_file(directory_ / kHeadFile, text + "\n" + signer_.signature_line(text)));
  kill_point("ledger-checkpoint");
  return {};
}

Status LogWriter::add_cosignature(const Head& head, const std::string& line) const {
  const std::lock_guard lock(*head_mutex_);
  return ledger::add_cosignature(directory_, head, line);
}

// At the right edge of every level, and where it stood before the last tile became full.
Status LogWriter::remove_old_partials() {
  for (const TileName& tile : tiles_of(size())) {
    const std::vector<int64_t> widths = partial_widths(directory_, tile.level, tile.number);
    const size_t keep = tile.width == kTileWidth ? 0 : kHeadsKept;
    for (size_t i = 0; i + keep < widths.size(); ++i) {
      std::error_code ignored;  // a file that stays is only a file too many
      fs::remove(directory_ / tile_path(tile.level, tile.number, widths[i]), ignored);
      kill_point("ledger-remove");
    }
  }
  return {};
}

}  // namespace naite::ledger
