// SPDX-License-Identifier: Apache-2.0
#include "record/run_ledger.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "record/autosave.h"
#include "record/provenance.h"

namespace naite::record {

namespace fs = std::filesystem;
using ledger::Signer;
using nlohmann::json;

namespace {

constexpr const char* kRunKey = ".run-key";
constexpr const char* kVkey = "vkey";
// The name under which a key of a single run signs; .invalid (RFC 2606) belongs to nobody.
constexpr std::string_view kNobody = "unsigned.invalid";
constexpr int kLockAttempts = 200;

std::string plain_name(const std::string& name) {
  std::string out;
  for (const char c : name.substr(0, 40)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    const bool upper = c >= 'A' && c <= 'Z';
    out += plain ? c : upper ? static_cast<char>(c - 'A' + 'a') : '-';
  }
  return out;
}

// The publisher's key under the name of the run's log, or the key of the run. The public key is
// written before the first entry, so that whoever opens the log again signs under the same name.
Result<Signer> signer_of(const RunDirectory& directory, const std::optional<ledger::Keys>& keys,
                         const std::string& run_name) {
  const fs::path vkey_file = directory.ledger() / kVkey, run_key = directory.path() / kRunKey;
  std::error_code code;
  if (fs::exists(run_key, code)) {
    NAITE_ASSIGN(const std::string text, ledger::read_private_file(run_key));
    NAITE_ASSIGN(const Signer signer, Signer::parse(text));
    if (!fs::exists(vkey_file, code))
      NAITE_TRY(write_file(vkey_file, signer.verifier().vkey() + "\n"));
    return signer;
  }
  if (fs::exists(vkey_file, code)) {
    NAITE_ASSIGN(std::string text, read_file(vkey_file));
    while (text.ends_with('\n')) text.pop_back();
    NAITE_ASSIGN(const ledger::Verifier verifier, ledger::Verifier::parse(text));
    if (keys) {
      NAITE_ASSIGN(const Signer signer, keys->log.renamed(verifier.name));
      if (signer.verifier() == verifier) return signer;
    }
    return fail("the log of {} is signed as {}: give the directory of that key with --keys",
                directory.path().string(), text);
  }
  const std::string leaf = fmt::format("{}-{}", plain_name(run_name), ledger::random_hex(8));
  if (keys) {
    NAITE_ASSIGN(const Signer signer, keys->log.renamed(keys->log.name() + "/" + leaf));
    NAITE_TRY(write_file(vkey_file, signer.verifier().vkey() + "\n"));
    return signer;
  }
  NAITE_ASSIGN(const Signer signer, Signer::make(fmt::format("{}/{}", kNobody, leaf)));
  NAITE_TRY(ledger::write_new_file(run_key, signer.skey() + "\n", 0600));
  NAITE_TRY(write_file(vkey_file, signer.verifier().vkey() + "\n"));
  return signer;
}

// Older logs have less of a branch.
bool same_parent(const json& before, const json& after) {
  if (!before.is_object() || !after.is_object() || before.contains("from")) return false;
  for (const auto& [key, value] : before.items())
    if (after.value(key, json()) != value) return false;
  return true;
}

// Several runs of one publisher may begin at once.
Result<FileLock> wait_for_lock(const fs::path& path) {
  for (int attempt = 1;; ++attempt) {
    Result<FileLock> lock = FileLock::acquire(path, path.parent_path().string());
    if (lock.ok() || attempt == kLockAttempts) return lock;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

Result<std::unique_ptr<RunLedger>> RunLedger::open(const RunDirectory& directory,
                                                   const fs::path& keys,
                                                   const std::string& run_name) {
  NAITE_TRY(make_directories(directory.ledger()));
  std::optional<ledger::Keys> loaded;
  if (!keys.empty()) {
    NAITE_ASSIGN(loaded, ledger::load_keys(keys));
  }
  NAITE_ASSIGN(const Signer signer, signer_of(directory, loaded, run_name));
  NAITE_ASSIGN(ledger::LogWriter writer, ledger::LogWriter::open(directory.ledger(), signer));
  std::unique_ptr<RunLedger> log(new RunLedger(directory, std::move(writer)));
  NAITE_ASSIGN(log->history_, RunHistory::parse(log->writer_.entries()));
  log->writer_.forget_entries();
  // A log that was begun by a key of the run stays so: one log, one key.
  if (!signer.name().starts_with(fmt::format("{}/", kNobody))) log->keys_ = std::move(loaded);
  log->keys_directory_ = keys;
  if (log->history_.abandoned)
    return fail("the log of {} says that this run was abandoned: begin another one",
                directory.path().string());
  return log;
}

Status RunLedger::begin_witnessing(const std::vector<ledger::Witness>& witnesses,
                                   const std::atomic<bool>* stop) {
  if (witnesses.empty()) return {};
  witnesses_ = std::make_unique<Witnesses>(witnesses, writer_, stop);
  return writer_.size() > 0 ? show_head() : Status();
}

// The file as it stands: it may carry cosignatures already.
Status RunLedger::show_head() {
  const fs::path path = directory_.ledger() / ledger::kHeadFile;
  NAITE_ASSIGN(const std::string text, read_file(path));
  NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, path.string()));
  NAITE_ASSIGN(const ledger::Head head, ledger::Head::parse(note.text, path.string()));
  witnesses_->show({text, head, writer_.leaves()});
  return {};
}

Status RunLedger::adopt(const std::vector<std::string>& entries) {
  for (const std::string& entry : entries)
    if (const Status status = history_.add(entry); !status)
      return fail("not entered into the log of {}: {}", directory_.path().string(),
                  status.error().message);
  return {};
}

Status RunLedger::write(const std::vector<std::string>& entries) {
  NAITE_TRY(writer_.append(entries));
  return witnesses_ && !entries.empty() ? show_head() : Status();
}

Status RunLedger::append(const std::vector<std::string>& entries) {
  {
    const std::lock_guard lock(mutex_);
    NAITE_TRY(adopt(entries));
  }
  return write(entries);
}

// In a log time does not go back, whatever happens to the clock.
int64_t RunLedger::now() const { return std::max(unix_seconds(), history_.time); }

Status RunLedger::commit(Commitment commitment, int64_t step) {
  commitment.origin = writer_.signer().name();
  commitment.vkey = vkey();
  commitment.model_key = keys_ ? keys_->model.public_pem() : "";
  if (history_.phase() != Phase::kEmpty) {
    NAITE_TRY(compare(commitment, step));
  } else {
    commitment.nonce = ledger::random_hex(16);
    commitment.time = unix_seconds();
    NAITE_ASSIGN(const std::string entry, ledger::canonical_json(commitment.to_json()));
    NAITE_TRY(append({entry}));
  }
  claims_ = history_.commitment;
  claims_.name = commitment.name;
  claims_.version = commitment.version;
  claims_.source_commit = commitment.source_commit;
  return list_run({{"type", "run"},
                   {"origin", commitment.origin},
                   {"commitment", sha256_hex(history_.commitment_entry)},
                   {"time", history_.commitment.time}});
}

Status RunLedger::compare(const Commitment& commitment, int64_t step) {
  const json before = history_.amended().to_json(), after = commitment.to_json();
  json changes = json::object();
  for (const auto& [key, value] : after.items()) {
    if (key == "nonce" || key == "time" || before[key] == value) continue;
    if (key == "branch" && same_parent(before[key], value)) continue;
    if (!may_change(key))
      return fail("the log of {} commits to another `{}`: {} instead of {}; choose another --run",
                  directory_.path().string(), key, before[key].dump(), value.dump());
    changes[key] = value;
  }
  if (changes.empty() || history_.ended) return {};
  int64_t low = history_.commitment.first_step();
  if (!history_.stored.empty()) low = history_.stored.back().step;
  if (changes.contains("plan") && step < low)
    return fail(
        "the log of {} has a state after step {} that is not there any more: leave [checkpoint] as "
        "it was until it is made again",
        directory_.path().string(), low);
  if (!history_.amendments.empty()) low = std::max(low, history_.amendments.back().step);
  NAITE_ASSIGN(
      const std::string entry,
      amendment_entry(std::clamp(step, low, std::max(low, history_.last_step())), changes, now()));
  return append({entry});
}

// Lines of witnesses under the head as it stands.
Result<std::vector<std::string>> RunLedger::cosignatures() const {
  const fs::path path = directory_.ledger() / ledger::kHeadFile;
  NAITE_ASSIGN(const std::string text, read_file(path));
  NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, path.string()));
  std::vector<std::string> out;
  for (const ledger::NoteSignature& signature : note.signatures)
    if (signature.name != writer_.signer().name()) out.push_back(signature.line());
  return out;
}

Result<std::optional<int64_t>> RunLedger::seed(int64_t chosen, const std::string& beacon,
                                               const std::string& beacon_value) {
  if (history_.seed) return std::optional<int64_t>(history_.seed->seed);
  SeedEntry seed;
  seed.seed = chosen;
  if (!beacon.empty()) {
    if (beacon_value.empty()) return std::optional<int64_t>();
    const std::optional<std::string> bytes = ledger::from_hex(beacon_value);
    if (!bytes || bytes->empty())
      return fail("--beacon-value must be the value of {} in lower-case hexadecimal digits",
                  beacon);
    seed = {true, beacon_seed(history_.commitment_entry, *bytes), beacon_value, {}};
    NAITE_ASSIGN(seed.cosignatures, cosignatures());
  }
  NAITE_ASSIGN(const std::string entry, seed_entry(seed));
  NAITE_TRY(append({entry}));
  return std::optional<int64_t>(seed.seed);
}

Status RunLedger::initial(const std::map<std::string, std::string>& tensors) {
  const bool same =
      std::all_of(history_.initial.begin(), history_.initial.end(), [&](const auto& tensor) {
        const auto found = tensors.find(tensor.first);
        return found != tensors.end() && found->second == tensor.second;
      });
  if (!same || (history_.initial_complete && history_.initial.size() != tensors.size()))
    return fail(
        "the initial tensors are not those that the log of {} has: this machine or the "
        "directory is faulty",
        directory_.path().string());
  NAITE_ASSIGN(const std::vector<std::string> entries, initial_entries(tensors));
  // Of several entries a killed process may have left the first ones.
  const size_t done =
      history_.initial_complete ? entries.size() : history_.initial.size() / kTensorsPerEntry;
  return append({entries.begin() + static_cast<std::ptrdiff_t>(done), entries.end()});
}

Status RunLedger::step(int64_t step, const StepDigest& digest) {
  const std::lock_guard lock(mutex_);
  const int64_t entered = history_.last_step();
  if (step <= entered) {
    if (history_.step(step) == digest) return {};
    return fail(
        "step {} gives other bits than the log of {} has from before the restart: this machine or "
        "the directory is faulty; nothing of this step was kept",
        step, directory_.path().string());
  }
  NAITE_CHECK(step == entered + static_cast<int64_t>(pending_.size()) + 1, "step {} after {}", step,
              entered);
  pending_.push_back(digest);
  return {};
}

Status RunLedger::flush(int64_t step) {
  std::vector<std::string> entries;
  {
    const std::lock_guard lock(mutex_);
    const int64_t entered = history_.last_step();
    const auto end =
        pending_.begin() + static_cast<std::ptrdiff_t>(std::max<int64_t>(0, step - entered));
    NAITE_ASSIGN(entries, step_entries(entered + 1, {pending_.begin(), end}));
    NAITE_TRY(adopt(entries));
    pending_.erase(pending_.begin(), end);
  }
  return write(entries);
}

Status RunLedger::stored(StoredState state, const formats::Record& record) {
  const fs::path path = directory_.path() / state.directory;
  NAITE_ASSIGN(const ledger::ModelManifest manifest, recorded_manifest(path, record));
  state.manifest = ledger::to_hex(manifest.digest());
  state.weights = record.weights_digest;
  state.state = record.state_digest;
  state.loss = record.loss;
  if (state.checkpoint) state.validation = record.validation;
  if (const StoredState* other = history_.find(state.step)) {
    if (other->state != state.state)
      return fail(
          "{} holds another state than the log of the run has: remove it to go on from an "
          "earlier one",
          path.string());
    if (other->manifest == state.manifest && other->checkpoint == state.checkpoint) return {};
    return fail(
        "{} was made again with other files than the log of the run has: put it back from a copy, "
        "or remove it and go on with naite {} ({}), which made it",
        path.string(), history_.amended().version, history_.amended().source_commit);
  }
  if (history_.ended || (!history_.stored.empty() && history_.stored.back().step > state.step))
    return {};
  const StoredState* before = history_.last_checkpoint();
  if (state.checkpoint && before != nullptr) state.first_token = before->end_token;
  NAITE_ASSIGN(const std::string entry, stored_entry(state));
  return append({entry});
}

Status RunLedger::end(int64_t step, const std::string& state_digest) {
  if (!history_.ended) {
    NAITE_ASSIGN(const std::string entry, end_entry(step, state_digest, now()));
    NAITE_TRY(append({entry}));
  }
  return list_run({{"type", "end"},
                   {"origin", writer_.signer().name()},
                   {"size", writer_.size()},
                   {"root", ledger::to_hex(ledger::tree_root(writer_.leaves()))}});
}

Status RunLedger::abandon(const std::string& reason) {
  if (history_.ended) return fail("the run of this log has ended");
  if (history_.phase() == Phase::kEmpty) return fail("the run of this log has not begun");
  NAITE_ASSIGN(const std::string entry, abandoned_entry(history_.last_step(), reason, now()));
  return append({entry});
}

// Enters `entry` into the publisher's log of runs unless it is there, and brings the copy beside
// this run up to date.
Status RunLedger::list_run(const json& entry) {
  if (!keys_) return {};
  NAITE_ASSIGN(const FileLock lock, wait_for_lock(keys_directory_ / ".lock"));
  NAITE_ASSIGN(ledger::LogWriter runs,
               ledger::LogWriter::open(keys_directory_ / "ledger", keys_->log));
  NAITE_ASSIGN(const std::string text, ledger::canonical_json(entry));
  if (std::find(runs.entries().begin(), runs.entries().end(), text) == runs.entries().end())
    NAITE_TRY(runs.append({text}));
  NAITE_ASSIGN(ledger::LogWriter copy,
               ledger::LogWriter::open(directory_.ledger() / "publisher", keys_->log));
  if (copy.size() > runs.size() ||
      !std::equal(copy.leaves().begin(), copy.leaves().end(), runs.leaves().begin()))
    return fail("{} is not the log of runs that {} has a copy of: restore it from a copy",
                (keys_directory_ / "ledger").string(), directory_.path().string());
  return copy.append({runs.entries().begin() + copy.size(), runs.entries().end()});
}

const StoredState* RunLedger::find(const std::string& directory) const {
  const auto found =
      std::find_if(history_.stored.rbegin(), history_.stored.rend(),
                   [&](const StoredState& state) { return state.directory == directory; });
  return found == history_.stored.rend() ? nullptr : &*found;
}

Status RunLedger::sign_autosave(const fs::path& directory, int64_t step) const {
  return record::sign_autosave(directory, step, writer_.signer(), writer_.leaves());
}

Status RunLedger::check_autosave(const fs::path& directory, int64_t step) const {
  return record::check_autosave(directory, step, writer_.signer().verifier(), writer_.leaves());
}

Status RunLedger::sign_checkpoint(const fs::path& directory, const formats::Record& record,
                                  const std::string& name, int64_t step) const {
  NAITE_TRY(
      write_file(directory / kProvenanceFile,
                 provenance_text(claims_, history_.checkpoint_before(step), step, record.files)));
  if (!keys_) return {};
  NAITE_ASSIGN(const ledger::ModelManifest manifest, recorded_manifest(directory, record));
  NAITE_ASSIGN(const std::string bundle, ledger::sign_model(manifest, name, keys_->model));
  return write_file(directory / ledger::kModelSignatureFile, bundle);
}

}  // namespace naite::record
