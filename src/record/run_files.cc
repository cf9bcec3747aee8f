// SPDX-License-Identifier: Apache-2.0
#include "record/run_files.h"

#include <algorithm>
#include <set>

#include "ledger/ledger.h"
#include "record/published.h"
#include "record/run_list.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

// `*` stands for any letters of one name, `**` for everything below.
constexpr std::string_view kPlaces[] = {
    // The log answers for it.
    "recipe.toml", "tokenizer.json", "tokenizer_config.json", "branch.json", "data/manifest.json",
    // The manifest does.
    "data/*.tokens", "data/*.starts", "data/*.weights",
    // The log itself: its head is signed, its tiles are hashed.
    "ledger/vkey", "ledger/checkpoint", "ledger/tile/**", "ledger/publisher/checkpoint",
    "ledger/publisher/tile/**",
    // States: made again from the log, file by file.
    "checkpoints/*/**", "audit/*/**",
    // The trainer's own, which verification does not use and publishing leaves out.
    "autosave/*/**", ".lock", ".run-key",
    // For people to look at.
    "log.jsonl", "samples.jsonl", "events.out.tfevents.*",
    // Of a follower's copy: where it comes from, what is on its way, heads that contradict it.
    ".mirror", ".fetching/**", "evidence/**"};

constexpr int kTileLevelMax = 4;

bool is_leftover(std::string_view name) { return name.starts_with(".tmp-"); }

std::vector<std::string_view> names_of(std::string_view path) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    out.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

bool fits(std::string_view name, std::string_view pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return name == pattern;
  return name.size() + 1 >= pattern.size() && name.starts_with(pattern.substr(0, star)) &&
         name.ends_with(pattern.substr(star + 1));
}

// A folder fits if something in it may.
bool fits_place(const std::vector<std::string_view>& names, std::string_view place, bool folder) {
  const std::vector<std::string_view> wanted = names_of(place);
  for (size_t i = 0; i < names.size(); ++i) {
    if (i < wanted.size() && wanted[i] == "**") return true;
    if (i >= wanted.size() || !fits(names[i], wanted[i])) return false;
  }
  return folder ? wanted.size() > names.size() : wanted.size() == names.size();
}

bool has_place(const std::string& path, bool folder) {
  const std::vector<std::string_view> names = names_of(path);
  return std::any_of(std::begin(kPlaces), std::end(kPlaces),
                     [&](std::string_view place) { return fits_place(names, place, folder); });
}

Status check_shards(const RunDirectory& run, const data::Manifest& manifest) {
  NAITE_ASSIGN(const std::vector<PublishedFile> shards, published_shards(manifest));
  std::set<std::string> known = {"data/manifest.json"};
  for (const PublishedFile& shard : shards) known.insert(shard.path);
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(run.path() / "data"));
  for (const std::string& name : names)
    if (!is_leftover(name) && !known.contains("data/" + name))
      return fail("{} is no shard that data/manifest.json names",
                  (run.path() / "data" / name).string());
  return {};
}

// Tiles of the head and of older ones were compared when the log was read; those that a process was
// writing when it was killed are beyond the head.
Status check_tile(const fs::path& log, const fs::path& file, int64_t size, bool may_grow) {
  const std::optional<ledger::TileName> tile =
      ledger::parse_tile_path(file.lexically_relative(log).generic_string());
  if (!tile || tile->level > kTileLevelMax) return fail("{} is no tile of a log", file.string());
  int64_t hashes = size;  // of that level
  for (int level = 0; level < tile->level; ++level) hashes /= ledger::kTileWidth;
  if (may_grow || (tile->number <= hashes / ledger::kTileWidth &&
                   tile->number * ledger::kTileWidth + tile->width <= hashes))
    return {};
  return fail("{} is beyond the log's head", file.string());
}

Status check_tiles(const fs::path& log, bool may_grow) {
  std::error_code code;
  if (!fs::exists(log / ledger::kHeadFile, code)) return {};
  NAITE_ASSIGN(const std::string text, read_file(log / ledger::kHeadFile));
  NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, log.string()));
  NAITE_ASSIGN(const ledger::Head head, ledger::Head::parse(note.text, log.string()));
  fs::recursive_directory_iterator it(log / "tile", code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    if (it->is_regular_file() && !is_leftover(it->path().filename().string()))
      NAITE_TRY(check_tile(log, it->path(), head.size, may_grow));
    if (!may_grow && it->is_directory() && it->path() != log / "tile" &&
        fs::is_empty(it->path(), code))
      return fail("{} is an empty folder", it->path().string());
  }
  if (code) return fail("cannot list {}: {}", log.string(), code.message());
  return {};
}

// The copy of the publisher's log grows until it has the end of this run.
Result<bool> has_listed_end(const RunDirectory& run, const RunHistory& history) {
  const fs::path publisher = run.ledger() / "publisher";
  std::error_code code;
  if (!fs::exists(publisher / ledger::kHeadFile, code)) return false;
  NAITE_ASSIGN(const ledger::LogContent log, ledger::read_log(publisher));
  NAITE_ASSIGN(const RunList list, RunList::parse(log.entries, log.head.origin));
  const auto listed = list.runs.find(history.commitment.origin);
  return listed != list.runs.end() && listed->second.end.has_value();
}

Status check_branch(const RunDirectory& run, const Commitment& claims) {
  std::error_code code;
  if (!fs::exists(run.branch(), code)) return {};
  if (claims.branch.is_null())
    return fail("{} names a parent, the log says that the run began at random",
                run.branch().string());
  NAITE_ASSIGN(const std::string text, read_file(run.branch()));
  if (const std::optional<formats::Branch> parent = claims.parent()) {
    if (text == parent->to_json().dump(2) + "\n") return {};
  } else {
    NAITE_ASSIGN(const nlohmann::json value, parse_json(text, run.branch().string()));
    NAITE_ASSIGN(const formats::Branch found,
                 formats::Branch::parse(value, run.branch().string() + ":"));
    const nlohmann::json named = found.to_json();
    bool same = true;
    for (const auto& [key, value] : claims.branch.items())
      same = same && named.value(key, nlohmann::json()) == value;
    if (same) return {};
  }
  return fail("{} is not the parent that the log names", run.branch().string());
}

// What a follower's copy keeps of another history (verify/mirror.h): in folders SIZE-ROOT a head
// and its tiles, and nothing else.
Status check_evidence(const RunDirectory& run) {
  const fs::path evidence = run.path() / "evidence";
  std::error_code code;
  if (!fs::exists(evidence, code)) return {};
  if (!fs::exists(run.path() / ".mirror", code))
    return fail("{} has no place in a run that is no follower's copy", evidence.string());
  fs::recursive_directory_iterator it(evidence, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() || name == ledger::kHeadFile || is_leftover(name)) continue;
    const std::string path = it->path().generic_string();
    const size_t tile = path.rfind("/tile/");
    if (tile == std::string::npos || !ledger::parse_tile_path(path.substr(tile + 1)))
      return fail("{} is no head and no tile of another history", path);
  }
  if (code) return fail("cannot list {}: {}", evidence.string(), code.message());
  return {};
}

}  // namespace

Status check_places(const RunDirectory& run) {
  std::error_code code;
  fs::recursive_directory_iterator it(run.path(), code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const std::string path = it->path().lexically_relative(run.path()).generic_string();
    const bool folder = it->is_directory();
    if (is_leftover(it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    if (!has_place(path, folder))
      return fail("{} has no place in a run: move it elsewhere", it->path().string());
  }
  if (code) return fail("cannot list {}: {}", run.path().string(), code.message());
  return {};
}

Status check_exact_files(const RunDirectory& run, const data::Manifest& manifest,
                         const RunHistory& history) {
  NAITE_TRY(check_shards(run, manifest));
  NAITE_TRY(check_evidence(run));
  NAITE_TRY(check_tiles(run.ledger(), !history.ended && !history.abandoned));
  NAITE_ASSIGN(const bool is_final, has_listed_end(run, history));
  NAITE_TRY(check_tiles(run.ledger() / "publisher", !is_final));
  return check_branch(run, history.commitment);
}

}  // namespace naite::record
