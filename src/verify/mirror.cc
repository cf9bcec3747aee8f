// SPDX-License-Identifier: Apache-2.0
#include "verify/mirror.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>

#include "base/json_text.h"
#include "record/stored_checkpoint.h"

namespace naite::verify {

namespace fs = std::filesystem;
using nlohmann::json;
using record::PublishedFile;
using record::RunHistory;
using record::StoredState;

namespace {

constexpr int64_t kVkeyBytesMax = 4096;
constexpr const char* kLog = "ledger";
constexpr const char* kPublisher = "ledger/publisher";

// Paths on the web have letters of any script as %XX.
std::string percent_encoded(const std::string& path) {
  std::string out;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '/' || c == '.' || c == '-' || c == '_';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

// What nobody has signed is nobody's claim: the address may be mistyped, or lead to a page that
// asks for a password.
Error no_run(const Error& error) {
  if (error.kind == ErrorKind::kUnable) return error;
  return unable("{}: is this the address of a published run?", error.message);
}

int64_t tile_bytes_max(const ledger::TileName& tile) {
  return tile.level == ledger::kEntriesLevel ? ledger::kBundleBytesMax : 32 * tile.width;
}

// For token files, whose sizes the manifest says: what does not fit the disk is not begun.
Status check_room(const fs::path& directory, const std::vector<PublishedFile>& files) {
  double bytes = 0;
  std::error_code code;
  for (const PublishedFile& file : files)
    if (!fs::exists(directory / file.path, code)) bytes += static_cast<double>(file.bytes_max);
  const fs::space_info disk = fs::space(directory, code);
  if (code || bytes <= static_cast<double>(disk.available)) return {};
  return unable(
      "the token files have {:.0f} MiB and the disk of {} room for {} MiB: make room, or choose "
      "another --cache",
      bytes / (1 << 20), directory.string(), disk.available >> 20);
}

std::string head_text(const ledger::Head& head) {
  return fmt::format("{} entries with the root {}", head.size, ledger::to_hex(head.root));
}

Status move_to(const fs::path& from, const fs::path& to) {
  NAITE_TRY(make_directories(to.parent_path()));
  std::error_code code;
  fs::rename(from, to, code);
  if (code) return fail("cannot rename {} to {}: {}", from.string(), to.string(), code.message());
  return {};
}

// Other folders, such as a run of one's own, are left alone.
Status begin_directory(const fs::path& directory, const std::string& url) {
  std::error_code code;
  const fs::path marker = directory / ".mirror";
  if (!fs::exists(directory, code)) {
    NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(directory));
    NAITE_TRY(write_file(writer.path() / ".mirror", url + "\n"));
    return writer.commit();
  }
  const Result<std::string> found = read_file(marker);
  if (found.ok() && *found == url + "\n") return {};
  if (fs::is_directory(directory, code) && fs::is_empty(directory, code) && !code)
    return write_file(marker, url + "\n");
  return fail("{} is {}: choose another folder", directory.string(),
              found.ok() ? "a copy of " + found->substr(0, found->find('\n'))
                         : "no copy of a published run");
}

}  // namespace

Result<Mirror> Mirror::open(const std::string& url, const fs::path& directory,
                            ledger::HttpOptions options, Progress progress) {
  NAITE_ASSIGN(std::string checked, ledger::check_http_url(url));
  NAITE_TRY(begin_directory(directory, checked));
  NAITE_ASSIGN(FileLock lock, FileLock::acquire(directory / ".lock", directory.string()));
  Mirror out(std::move(checked), directory, std::move(lock));
  NAITE_TRY(remove_unfinished(directory));
  options.progress = nullptr;
  if (progress)
    options.progress = [file = out.file_, progress](int64_t done, int64_t total) {
      progress(*file, done, total);
    };
  out.client_ = ledger::HttpClient(std::move(options));
  return out;
}

std::string Mirror::address_of(const fs::path& directory) {
  constexpr int64_t kBytesMax = 4096;
  const fs::path file = directory / ".mirror";
  std::error_code code;
  if (fs::symlink_status(file, code).type() != fs::file_type::regular) return "";
  const Result<std::string> found = read_file(file, kBytesMax);
  const std::string address = found.ok() ? found->substr(0, found->find('\n')) : "";
  // It stands in a command that is offered, and anybody may have written it.
  const bool plain = std::all_of(address.begin(), address.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(":/.-_%[]").find(c) != std::string_view::npos;
  });
  return plain && ledger::check_http_url(address).ok() ? address : "";
}

std::optional<std::string> Mirror::if_missing() const {
  return "the server does not have what the log names: ask its owner, or try again later";
}

fs::path Mirror::default_directory(const std::string& url) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path base = cache != nullptr && fs::path(cache).is_absolute() ? fs::path(cache)
                        : home != nullptr ? fs::path(home) / ".cache"
                                          : fs::temp_directory_path();
  std::string clean = url;
  while (clean.ends_with('/')) clean.pop_back();
  std::string name = clean.substr(clean.rfind('/') + 1);
  if (!record::is_plain_name(name)) name = "run";
  return base / "naite" / "runs" / fmt::format("{}-{}", name, sha256_hex(clean).substr(0, 16));
}

std::string Mirror::url_of(const std::string& path) const {
  *file_ = path;
  return url_ + "/" + percent_encoded(path);
}

// Each of them once more where an older piece must go, and with redirects.
void Mirror::allow(int64_t bytes, int64_t files) { client_.set_budget({2 * bytes, 12 * files}); }

// The key that was seen first.
Result<ledger::Verifier> Mirror::signer() {
  std::error_code code;
  std::string vkey;
  if (fs::exists(run_.ledger() / "vkey", code)) {
    NAITE_ASSIGN(vkey, read_file(run_.ledger() / "vkey"));
  } else {
    allow(kVkeyBytesMax, 1);
    const Result<std::string> fetched = client_.fetch(url_of("ledger/vkey"), kVkeyBytesMax);
    if (!fetched) return no_run(fetched.error());
    vkey = *fetched;
  }
  if (vkey.ends_with('\n')) vkey.pop_back();
  const Result<ledger::Verifier> out = ledger::Verifier::parse(vkey);
  if (!out || out->type != ledger::KeyType::kEd25519)
    return no_run(fail("{}/ledger/vkey is no key of a log", url_));
  return *out;
}

Result<Mirror::Offer> Mirror::offered_head(const std::string& log, const ledger::Verifier& signer) {
  const std::string url = url_of(log + "/" + ledger::kHeadFile);
  Offer out;
  allow(ledger::kNoteBytesMax, 1);
  NAITE_ASSIGN(out.text, client_.fetch(url, ledger::kNoteBytesMax));
  const Result<ledger::Note> parsed = ledger::Note::parse(out.text, url);
  const Result<ledger::Head> head =
      parsed.ok() ? ledger::Head::parse(parsed->text, url) : parsed.error();
  if (!head) return no_run(head.error());
  const ledger::Note& note = *parsed;
  out.head = *head;
  if (out.head.origin != signer.name)
    return fail("{} is a head of {}, not of {}", url, out.head.origin, signer.name);
  if (out.head.size > ledger::kLogEntriesMax)
    return fail("{}: {} entries are too many", url, out.head.size);
  const Result<bool> is_signed = ledger::verify_note(note, signer);
  if (!is_signed) return fail("{}: {}", url, is_signed.error().message);
  if (!*is_signed) return fail("{} carries no signature of {}", url, signer.vkey());
  return out;
}

// The whole log under .fetching/: from here what is here already, unless `afresh`, else from there.
Status Mirror::stage_tiles(const std::string& log, const Offer& offer, bool afresh) {
  const fs::path to = staging(log);
  if (afresh) NAITE_TRY(remove_tree(to));
  const std::vector<ledger::TileName> tiles = ledger::tiles_of(offer.head.size);
  int64_t bytes = 0;
  for (const ledger::TileName& tile : tiles) bytes += tile_bytes_max(tile);
  allow(bytes, static_cast<int64_t>(tiles.size()));
  for (const ledger::TileName& tile : tiles) {
    const std::string name = ledger::tile_path(tile.level, tile.number, tile.width);
    const fs::path path = to / name;
    std::error_code code;
    if (fs::exists(path, code)) continue;
    NAITE_TRY(make_directories(path.parent_path()));
    if (!afresh) {
      fs::create_hard_link(run_.path() / log / name, path, code);
      if (!code) continue;
    }
    NAITE_ASSIGN(const std::string text,
                 client_.fetch(url_of(log + "/" + name), tile_bytes_max(tile)));
    NAITE_TRY(write_file(path, text));
  }
  return write_file(to / ledger::kHeadFile, offer.text);
}

// If pieces from here do not fit, be it that they were damaged or that the server now tells another
// history, all of it comes from there.
Result<ledger::LogContent> Mirror::staged_log(const std::string& log, const Offer& offer,
                                              bool& afresh) {
  NAITE_TRY(stage_tiles(log, offer, false));
  Result<ledger::LogContent> out = ledger::read_log(staging(log));
  afresh = !out.ok();
  if (out.ok()) return out;
  NAITE_TRY(stage_tiles(log, offer, true));
  out = ledger::read_log(staging(log));
  if (out.ok()) return out;
  const Error error = rephrased(out.error(), "{}/{}: {}", url_, log, out.error().message);
  NAITE_TRY(remove_tree(staging(log)));
  return error;
}

// Two signed heads of which none begins the other. The one that came later goes into evidence/.
Error Mirror::contradiction(const std::string& log, const ledger::Head& ours, const Offer& offer) {
  contradicted_ = true;
  const std::string name = fmt::format("{}-{}", offer.head.size, ledger::to_hex(offer.head.root));
  const fs::path kept = path_of("evidence", log) / name;
  const fs::path staged = staging(log);
  Status status = make_directories(kept.parent_path());
  std::error_code code;
  if (status.ok() && !fs::exists(kept, code)) {
    // With its tiles, if they were needed to find it out.
    status = make_directories(staged);
    if (status.ok()) status = write_file(staged / ledger::kHeadFile, offer.text);
    if (status.ok()) status = move_to(staged, kept);
  }
  const std::string what =
      offer.head.size < ours.size
          ? "the log was cut off, or an old head is served again"
          : fmt::format("{} signed two histories, none of which begins the other", ours.origin);
  return fail("{}/{}: {}. Seen before: {} (kept in {}). Served now: {} ({} {})", url_, log, what,
              head_text(ours), (run_.path() / log / ledger::kHeadFile).string(),
              head_text(offer.head), status.ok() ? "kept in" : "could not be kept in",
              kept.string());
}

Status Mirror::adopt_log(const std::string& log, const Offer& offer, bool afresh) {
  const fs::path from = staging(log), to = run_.path() / log;
  if (afresh) NAITE_TRY(remove_tree(to / "tile"));
  for (const ledger::TileName& tile : ledger::tiles_of(offer.head.size)) {
    const std::string name = ledger::tile_path(tile.level, tile.number, tile.width);
    std::error_code code;
    if (fs::exists(to / name, code)) continue;
    NAITE_TRY(move_to(from / name, to / name));
    kill_point("mirror-tile");
  }
  NAITE_TRY(write_file(to / ledger::kHeadFile, offer.text));
  return remove_tree(from);
}

Status Mirror::update_log(const std::string& log, const ledger::Verifier& signer) {
  NAITE_ASSIGN(const Offer offer, offered_head(log, signer));
  ledger::Head ours;
  std::error_code code;
  const fs::path directory = run_.path() / log;
  const bool had_one = fs::exists(directory / ledger::kHeadFile, code);
  if (had_one) {
    NAITE_ASSIGN(const std::string text, read_file(directory / ledger::kHeadFile));
    NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, directory.string()));
    NAITE_ASSIGN(ours, ledger::Head::parse(note.text, directory.string()));
    if (offer.head.size < ours.size) return contradiction(log, ours, offer);
    if (offer.head == ours && ledger::read_log(directory).ok())
      return text == offer.text ? Status() : write_file(directory / ledger::kHeadFile, offer.text);
  }
  bool afresh = false;
  NAITE_ASSIGN(const ledger::LogContent found, staged_log(log, offer, afresh));
  const auto before = std::span(found.leaves).first(static_cast<size_t>(ours.size));
  if (had_one && ledger::tree_root(before) != ours.root) return contradiction(log, ours, offer);
  return adopt_log(log, offer, afresh);
}

Status Mirror::fetch_log() {
  NAITE_ASSIGN(const ledger::Verifier key, signer());
  NAITE_TRY(update_log(kLog, key));
  std::error_code code;
  if (fs::exists(run_.ledger() / "vkey", code)) return {};
  return write_file(run_.ledger() / "vkey", key.vkey() + "\n");
}

Status Mirror::fetch_publisher() {
  NAITE_ASSIGN(ledger::Verifier key, signer());
  key.name = key.name.substr(0, key.name.rfind('/'));
  return update_log(kPublisher, key);
}

// Unless it is here and what it must be.
Status Mirror::fetch_file(const PublishedFile& file) {
  if (known_.contains(file.path + file.sha256)) return {};
  std::error_code code;
  const fs::path path = run_.path() / file.path;
  const Result<std::string> found =
      fs::exists(path, code) ? sha256_file(path) : Result<std::string>(std::string());
  if (!found.ok() || *found != file.sha256) {
    NAITE_TRY(make_directories(staging(file.path).parent_path()));
    allow(file.bytes_max, 1);
    NAITE_TRY(client_.download(url_of(file.path), staging(file.path), file.bytes_max, file.sha256));
    NAITE_TRY(move_to(staging(file.path), path));
    kill_point("mirror-file");
  }
  known_.insert(file.path + file.sha256);
  return {};
}

Status Mirror::fetch_claims(const RunHistory& history) {
  for (const PublishedFile& file : record::published_claims(history)) NAITE_TRY(fetch_file(file));
  return {};
}

Status Mirror::fetch_data(const data::Manifest& manifest) {
  NAITE_ASSIGN(const std::vector<PublishedFile> files, record::published_shards(manifest));
  NAITE_TRY(check_room(run_.path(), files));
  for (const PublishedFile& file : files) NAITE_TRY(fetch_file(file));
  return {};
}

bool Mirror::has_state(const RunHistory& history, const StoredState& state,
                       const Expect& expect) const {
  const fs::path directory = run_.path() / state.directory;
  std::error_code code;
  if (!fs::exists(directory, code)) return false;
  ThreadPool alone(1);
  Result<record::StoredCheckpoint> stored = record::StoredCheckpoint::open(directory, alone);
  if (!stored) return false;
  const Result<ExpectedStates> expected = expect(stored->record());
  if (!expected || !check_state_files(*stored, *expected).ok()) return false;
  const Result<ledger::ModelManifest> found = stored->manifest();
  if (!found || ledger::to_hex(found->digest()) != state.manifest) return false;
  return !state.checkpoint || check_model_signature(directory, history, state).ok();
}

// From record.json come the SHA-256 of the files of tensors; everything else is made here, from the
// log and what it answers for. Together they must give the manifest that the log has, so before
// anything else is asked for, its size and its digest are certain. Returns the files of tensors.
Result<std::vector<PublishedFile>> Mirror::begin_state(const StoredState& state,
                                                       const Expect& expect) {
  const std::string where = fmt::format("{}/{}/record.json", url_, state.directory);
  allow(record::kRecordBytesMax, 1);
  NAITE_ASSIGN(const std::string text,
               client_.fetch(url_of(state.directory + "/record.json"), record::kRecordBytesMax));
  NAITE_ASSIGN(const json value, parse_json(text, where));
  NAITE_ASSIGN(const formats::Record claimed, formats::Record::parse(value, where + ":"));
  NAITE_TRY(record::published_state(claimed, state.checkpoint, 0, where));
  NAITE_ASSIGN(const ExpectedStates expected, expect(claimed));
  for (const ExpectedState& one : expected) {
    std::map<std::string, std::string> tensor_files;
    std::vector<PublishedFile> out;
    for (const auto& [name, layout] : one.layout.tensors) {
      const auto known = claimed.files.find(name);
      if (known == claimed.files.end())
        return fail("{}/{}: its files are not those that the log has: record.json lists no {}",
                    url_, state.directory, name);
      tensor_files[name] = known->second;
      out.push_back({name, known->second, layout.bytes});
    }
    if (one.manifest(tensor_files) != state.manifest) continue;
    const fs::path to = staging(state.directory);
    NAITE_TRY(make_directories(to));
    NAITE_TRY(remove_unfinished(to));  // whoever was killed here
    for (const auto& [name, content] : one.texts(tensor_files)) {
      NAITE_TRY(make_directories((to / name).parent_path()));
      NAITE_TRY(write_file(to / name, content));
    }
    return out;
  }
  return fail("{}/{}: its files are not those that the log has{}", url_, state.directory,
              formats::record_text(expected.front().layout.record_of({state.weights, state.state},
                                                                     claimed.files)) == text
                  ? ""
                  : ": record.json is not what the recipe and the log make of it");
}

Status Mirror::fetch_cosignature(const StoredState& state, const ledger::ModelKey& key) {
  const std::string name = fmt::format("{}/{}/{}", state.directory, ledger::kCosignaturesDirectory,
                                       ledger::cosignature_id(key));
  const std::string url = url_of(name + ".sig");
  allow(record::kSignatureBytesMax, 1);
  NAITE_ASSIGN(const ledger::HttpResponse response, client_.get(url, record::kSignatureBytesMax));
  if (response.status == 404) return {};
  if (response.status != 200) return unable("{} answers with status {}", url, response.status);
  NAITE_ASSIGN(const ledger::ModelSignature signature,
               ledger::ModelSignature::parse(response.body, url));
  if (!signature.is_signed_by(key)) return fail("{} is no signature of that key", url);
  NAITE_TRY(make_directories((run_.path() / name).parent_path()));
  NAITE_TRY(write_file(run_.path() / (name + ".pub"), key.public_pem()));
  return write_file(run_.path() / (name + ".sig"), response.body);
}

Status Mirror::fetch_signature(const RunHistory& history, const StoredState& state) {
  const std::string name = state.directory + "/" + ledger::kModelSignatureFile;
  NAITE_ASSIGN(const std::string text, client_.fetch(url_of(name), record::kSignatureBytesMax));
  NAITE_TRY(record::check_model_signature(history, state, text, name));
  return write_file(staging(name), text);
}

Status Mirror::fetch_state(const RunHistory& history, const StoredState& state,
                           const Expect& expect) {
  if (known_.contains(state.directory + state.manifest)) return {};
  if (!has_state(history, state, expect)) {
    NAITE_ASSIGN(const std::vector<PublishedFile> files, begin_state(state, expect));
    const fs::path to = staging(state.directory);
    int64_t bytes = record::kSignatureBytesMax;
    for (const PublishedFile& file : files) bytes += file.bytes_max;
    allow(bytes, static_cast<int64_t>(files.size()) + 1);
    for (const PublishedFile& file : files) {
      NAITE_TRY(client_.download(url_of(state.directory + "/" + file.path), to / file.path,
                                 file.bytes_max, file.sha256));
      kill_point("mirror-state-file");
    }
    if (state.checkpoint && !history.commitment.model_key.empty())
      NAITE_TRY(fetch_signature(history, state));
    // Left over from an earlier record, and whatever else does not belong there.
    NAITE_ASSIGN(const ledger::ModelManifest found, ledger::ModelManifest::of_directory(to));
    if (ledger::to_hex(found.digest()) != state.manifest) {
      NAITE_TRY(remove_tree(to));
      return fail("{}/{}: its files are not those that the log has", url_, state.directory);
    }
    NAITE_TRY(remove_tree(run_.path() / state.directory));
    NAITE_TRY(move_to(to, run_.path() / state.directory));
    kill_point("mirror-state");
  }
  known_.insert(state.directory + state.manifest);
  return {};
}

}  // namespace naite::verify
