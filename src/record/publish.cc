// SPDX-License-Identifier: Apache-2.0
#include "record/publish.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <thread>

#include "ledger/ledger.h"
#include "record/provenance.h"
#include "record/published.h"
#include "record/run_directory.h"
#include "record/run_log.h"
#include "record/stored_checkpoint.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

constexpr int kAttempts = 200;
constexpr auto kPause = std::chrono::milliseconds(50);

Result<RunLog> read_run_ledger(const RunDirectory& run) {
  std::error_code code;
  if (!fs::exists(run.ledger() / ledger::kHeadFile, code))
    return fail("{} has no log, or an empty one: only runs with a log can be published",
                run.path().string());
  return read_run_log(run);
}

// That what the tree has is a beginning of the log. Returns how many entries it has.
Result<int64_t> published_entries(const fs::path& directory, const RunLog& ours) {
  std::error_code code;
  if (!fs::exists(directory / ledger::kHeadFile, code)) return 0;
  NAITE_ASSIGN(const ledger::LogContent theirs, ledger::read_log(directory));
  const ledger::Head &old = theirs.head, &now = ours.log.head;
  if (old.origin != now.origin)
    return fail("{} is the log {}, not {}: publish under another --name or into another tree",
                directory.string(), old.origin, now.origin);
  if (old.size > now.size)
    return fail(
        "{} has {} entries, the run only {}: the run was cut off or restored; what is "
        "published stays",
        directory.string(), old.size, now.size);
  if (ledger::tree_root(std::span(ours.log.leaves).first(static_cast<size_t>(old.size))) !=
      old.root)
    return fail(
        "{} has another history than the run: what is published stays; publish under "
        "another --name or into another tree",
        directory.string());
  return old.size;
}

// Writes `content` unless it is there.
Status put(const fs::path& path, const std::string& content) {
  std::error_code code;
  if (fs::file_size(path, code) == content.size() && !code) {
    NAITE_ASSIGN(const std::string found, read_file(path));
    if (found == content) return {};
  }
  NAITE_TRY(make_directories(path.parent_path()));
  NAITE_TRY(write_file(path, content));
  kill_point("publish-file");
  return {};
}

// Every tile that a head calls for, and then the head. Partial tiles of older heads stay.
Status put_tiles(const fs::path& directory, const RunLog& ours) {
  const ledger::LogContent& log = ours.log;
  for (const ledger::TileName& tile : ledger::tiles_of(log.head.size)) {
    const fs::path path = directory / ledger::tile_path(tile.level, tile.number, tile.width);
    const auto first = static_cast<size_t>(tile.number * ledger::kTileWidth);
    NAITE_TRY(
        put(path, tile.level == ledger::kEntriesLevel
                      ? ledger::entry_bundle(
                            std::span(log.entries).subspan(first, static_cast<size_t>(tile.width)))
                      : ledger::tile_bytes(log.leaves, tile)));
  }
  return {};
}

Status plain_file(const fs::path& path) {
  std::error_code code;
  const fs::file_type type = fs::symlink_status(path, code).type();
  if (type == fs::file_type::regular) return {};
  return fail("{} is {}", path.string(),
              type == fs::file_type::not_found ? "missing: restore it" : "no plain file");
}

// A second name for a file that nobody changes; a copy where there cannot be one.
Status link_or_copy(const fs::path& from, const fs::path& to) {
  NAITE_TRY(plain_file(from));
  std::error_code code;
  fs::create_hard_link(from, to, code);
  if (!code) return {};
  NAITE_ASSIGN(const MappedFile content, MappedFile::open(from));
  return write_file(to, content.bytes());
}

Status put_data(const RunDirectory& run, const fs::path& target, const data::Manifest& manifest) {
  NAITE_TRY(make_directories(target / "data"));
  NAITE_ASSIGN(const std::vector<PublishedFile> files, published_shards(manifest));
  for (const PublishedFile& file : files) {
    std::error_code code;
    if (fs::exists(target / file.path, code)) continue;
    NAITE_TRY(plain_file(run.path() / file.path));
    NAITE_ASSIGN(const std::string sha256, sha256_file(run.path() / file.path));
    if (sha256 != file.sha256)
      return fail("{} is damaged: its SHA-256 is not the one of the manifest",
                  (run.path() / file.path).string());
    NAITE_TRY(link_or_copy(run.path() / file.path, target / file.path));
    kill_point("publish-shard");
  }
  return {};
}

// The state in the tree has the logged files already?
Result<bool> has_state(const fs::path& directory, const StoredState& state) {
  std::error_code code;
  if (!fs::exists(directory, code)) return false;
  NAITE_ASSIGN(const ledger::ModelManifest found, recorded_manifest(directory));
  if (ledger::to_hex(found.digest()) == state.manifest) return true;
  // Made again after a kill: same training state, another record.
  NAITE_TRY(remove_tree(directory));
  return false;
}

Status put_state(const RunDirectory& run, const fs::path& target, const StoredState& state,
                 int64_t parameters) {
  const fs::path from = run.path() / state.directory, to = target / state.directory;
  NAITE_TRY(plain_file(from / "record.json"));
  NAITE_ASSIGN(const formats::Record record, formats::Record::read(from));
  NAITE_ASSIGN(
      std::vector<PublishedFile> files,
      published_state(record, state.checkpoint, parameters, (from / "record.json").string()));
  files.push_back({"record.json", "", 0});
  std::error_code code;
  for (const char* name : {kProvenanceFile, ledger::kModelSignatureFile})
    if (fs::exists(from / name, code)) files.push_back({name, "", 0});
  NAITE_TRY(make_directories(to.parent_path()));
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(to));
  for (const PublishedFile& file : files) {
    NAITE_TRY(make_directories((writer.path() / file.path).parent_path()));
    NAITE_TRY(link_or_copy(from / file.path, writer.path() / file.path));
    kill_point("publish-link");
  }
  NAITE_ASSIGN(const ledger::ModelManifest found,
               ledger::ModelManifest::of_directory(writer.path()));
  if (ledger::to_hex(found.digest()) != state.manifest)
    return fail("{} is damaged: its files are not those that the log has", from.string());
  NAITE_TRY(writer.commit());
  kill_point("publish-state");
  return {};
}

// Others may sign a checkpoint long after it was published.
Status put_cosignatures(const fs::path& from, const fs::path& to) {
  NAITE_ASSIGN(const std::vector<ledger::ModelCosignature> found, ledger::read_cosignatures(from));
  for (const ledger::ModelCosignature& one : found) {
    const std::string name =
        fmt::format("{}/{}", ledger::kCosignaturesDirectory, ledger::cosignature_id(one.key));
    NAITE_ASSIGN(const std::string text, one.signature.text());
    NAITE_TRY(make_directories(to / ledger::kCosignaturesDirectory));
    NAITE_TRY(put(to / (name + ".pub"), one.key.public_pem()));
    NAITE_TRY(put(to / (name + ".sig"), text));
  }
  return {};
}

Result<int64_t> put_states(const RunDirectory& run, const fs::path& target,
                           const RunHistory& history) {
  int64_t added = 0;
  for (const StoredState& state : history.stored) {
    NAITE_ASSIGN(const bool is_there, has_state(target / state.directory, state));
    if (!is_there) NAITE_TRY(put_state(run, target, state, history.commitment.parameters));
    added += is_there ? 0 : 1;
    NAITE_TRY(put_cosignatures(run.path() / state.directory, target / state.directory));
  }
  return added;
}

Status put_claims(const RunDirectory& run, const fs::path& target, const RunHistory& history) {
  for (const PublishedFile& file : published_claims(history)) {
    const fs::path from = run.path() / file.path;
    NAITE_TRY(plain_file(from));
    NAITE_ASSIGN(const std::string content, read_file(from));
    if (sha256_hex(content) != file.sha256)
      return fail(
          "{} is not the file that the log commits to: restore it, or go on with the run, "
          "which enters what changed",
          from.string());
    NAITE_TRY(put(target / file.path, content));
  }
  std::error_code code;
  if (!fs::exists(run.branch(), code)) return {};
  NAITE_TRY(plain_file(run.branch()));
  NAITE_ASSIGN(const std::string branch, read_file(run.branch()));
  return put(target / "branch.json", branch);
}

// The directory of the run in the tree; new ones begin with the key, which says whose they are.
Status begin_target(const fs::path& target, const std::string& vkey) {
  std::error_code code;
  if (fs::exists(target, code)) {
    const Result<std::string> found = read_file(target / "ledger/vkey");
    if (found.ok() && *found == vkey) return {};
    return fail("{} is {}: publish under another --name or into another tree", target.string(),
                found.ok() ? "another run" : "no published run");
  }
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(target));
  NAITE_TRY(make_directories(writer.path() / "ledger"));
  NAITE_TRY(write_file(writer.path() / "ledger/vkey", vkey));
  return writer.commit();
}

// What killed processes left half written.
Status clean(const fs::path& tree, const fs::path& target) {
  NAITE_TRY(remove_unfinished(tree));
  std::error_code code;
  std::vector<fs::path> folders = {target};
  fs::recursive_directory_iterator it(target, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code))
    if (it->is_directory()) folders.push_back(it->path());
  for (const fs::path& folder : folders) NAITE_TRY(remove_unfinished(folder));
  return {};
}

Result<FileLock> lock_tree(const fs::path& tree) {
  for (int attempt = 1;; ++attempt) {
    Result<FileLock> lock = FileLock::acquire(tree / ".lock", tree.string());
    if (lock.ok() || attempt == kAttempts) return lock;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

Result<Published> publish(const fs::path& run_path, const fs::path& tree, const std::string& name) {
  if (!is_plain_name(name))
    return fail("{} is no plain name for a run on the web: give one with --name", name);
  const RunDirectory run(run_path);
  NAITE_ASSIGN(const RunLog ours, read_run_ledger(run));
  NAITE_ASSIGN(const RunHistory history, RunHistory::parse(ours.log.entries));
  NAITE_TRY(make_directories(tree));
  NAITE_ASSIGN(const FileLock lock, lock_tree(tree));
  const fs::path target = tree / name;
  NAITE_TRY(begin_target(target, ours.vkey));
  NAITE_TRY(clean(tree, target));
  Published out{ours.head, ours.log.head.size, 0, 0, history.ended || history.abandoned};
  NAITE_ASSIGN(const int64_t before, published_entries(target / "ledger", ours));
  out.new_entries = ours.log.head.size - before;
  const bool has_publisher = fs::exists(run.ledger() / "publisher" / ledger::kHeadFile);
  const fs::path runs = target / "ledger/publisher";
  RunLog publisher;
  if (has_publisher) {
    NAITE_ASSIGN(publisher, read_log_at_rest(run.ledger() / "publisher"));
    NAITE_ASSIGN([[maybe_unused]] const int64_t listed, published_entries(runs, publisher));
  }
  NAITE_TRY(plain_file(run.path() / "data/manifest.json"));
  NAITE_ASSIGN(const data::Manifest manifest, data::Manifest::load(run.path()));
  NAITE_TRY(put_data(run, target, manifest));
  NAITE_ASSIGN(out.new_states, put_states(run, target, history));
  NAITE_TRY(put_claims(run, target, history));
  if (has_publisher) {
    NAITE_TRY(put_tiles(runs, publisher));
    NAITE_TRY(put(runs / ledger::kHeadFile, publisher.head));
  }
  NAITE_TRY(put_tiles(target / "ledger", ours));
  NAITE_TRY(put(target / "ledger" / ledger::kHeadFile, ours.head));
  NAITE_TRY(write_index(tree));
  return out;
}

}  // namespace naite::record
