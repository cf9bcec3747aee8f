// SPDX-License-Identifier: Apache-2.0
#include "record/stored_checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "ledger/encoding.h"
#include "record/provenance.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTensorFiles[] = {"model.safetensors", "state/optimizer.safetensors",
                                        "state/cursor.json"};

}  // namespace

Result<StoredCheckpoint> StoredCheckpoint::open(fs::path directory, ThreadPool& pool) {
  NAITE_ASSIGN(formats::Record record, formats::Record::read(directory));
  return StoredCheckpoint(std::move(directory), std::move(record), pool);
}

Result<StoredCheckpoint::Stamp> StoredCheckpoint::stamp_of(const std::string& file) const {
  const fs::path path = directory_ / file;
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0)
    return system_error(errno, "cannot read {}", path.string());
  return Stamp{found.st_dev, found.st_ino, static_cast<uint64_t>(found.st_size),
               found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

// Hashes those of `files` that have not been hashed since they were written, side by side.
Status StoredCheckpoint::hash(const std::vector<std::string>& files) {
  std::vector<std::pair<std::string, Stamp>> due;
  for (const std::string& file : files) {
    NAITE_ASSIGN(const Stamp stamp, stamp_of(file));
    const auto known = hashed_.find(file);
    if (known == hashed_.end() || known->second.stamp != stamp) due.emplace_back(file, stamp);
  }
  // The largest first, so that no thread is left alone with it.
  std::stable_sort(due.begin(), due.end(),
                   [](const auto& a, const auto& b) { return a.second.size > b.second.size; });
  std::vector<Status> status(due.size());
  std::vector<Digest> digests(due.size());
  pool_->run(static_cast<int64_t>(due.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    const Result<std::string> hex = sha256_file(directory_ / due[i].first);
    if (hex.ok())
      digests[i] = *ledger::digest_from_hex(*hex);
    else
      status[i] = hex.error();
  });
  for (size_t i = 0; i < due.size(); ++i) {
    NAITE_TRY(status[i]);
    bytes_hashed_ += static_cast<int64_t>(due[i].second.size);
    hashed_[due[i].first] = {due[i].second, digests[i]};
  }
  return {};
}

Result<ledger::ModelManifest> StoredCheckpoint::manifest() {
  ledger::ModelManifest out;
  NAITE_ASSIGN(const std::vector<std::string> files, ledger::ModelManifest::names_in(directory_));
  NAITE_TRY(hash(files));
  for (const std::string& file : files) out.files.emplace_back(file, hashed_.at(file).digest);
  return out;
}

Status StoredCheckpoint::check_files(bool whole) {
  std::vector<std::string> files;
  for (const auto& [file, digest] : record_.files)
    if (whole || !file.starts_with("state/")) files.push_back(file);
  NAITE_TRY(hash(files));
  for (const std::string& file : files)
    if (ledger::to_hex(hashed_.at(file).digest) != record_.files.at(file))
      return fail(
          "{} is damaged: its SHA-256 is not the one in record.json; remove {} to go on "
          "from an earlier checkpoint",
          (directory_ / file).string(), directory_.string());
  return {};
}

Result<std::vector<StoredCheckpoint::Stamp>> StoredCheckpoint::tensor_stamps() const {
  std::vector<Stamp> out;
  for (const char* file : kTensorFiles) {
    NAITE_ASSIGN(const Stamp stamp, stamp_of(file));
    out.push_back(stamp);
  }
  return out;
}

Result<formats::TensorLines> StoredCheckpoint::hash_tensors() {
  NAITE_ASSIGN(digested_, tensor_stamps());
  NAITE_ASSIGN(const formats::Cursor own, cursor());
  NAITE_ASSIGN(formats::TensorLines lines, formats::directory_lines(directory_, *pool_));
  digests_ = lines.digests(own);
  for (const Stamp& stamp : digested_) bytes_hashed_ += static_cast<int64_t>(stamp.size);
  return lines;
}

Result<formats::CheckpointDigests> StoredCheckpoint::digests() {
  NAITE_ASSIGN(const std::vector<Stamp> stamps, tensor_stamps());
  if (digests_ && digested_ == stamps) return *digests_;
  digests_.reset();
  NAITE_TRY(hash_tensors());
  return *digests_;
}

Result<std::string> StoredCheckpoint::state_digest_under(const formats::Cursor& cursor) {
  NAITE_ASSIGN(const formats::TensorLines lines, hash_tensors());
  return lines.digests(cursor).state;
}

Status StoredCheckpoint::read(formats::TrainingState& state) {
  NAITE_TRY(check_files());
  NAITE_ASSIGN(state.cursor, cursor());
  return formats::read_tensors(directory_, state);
}

Status StoredCheckpoint::read_masters(const std::vector<tape::ParameterSpec>& specs,
                                      std::vector<float>& masters) {
  NAITE_TRY(check_files());
  return formats::read_masters(directory_, specs, masters);
}

Result<StoredCheckpoint*> StoredStates::open(const fs::path& directory) {
  std::unique_ptr<StoredCheckpoint>& place = open_[directory];
  if (!place) {
    NAITE_ASSIGN(StoredCheckpoint opened, StoredCheckpoint::open(directory, pool_));
    place = std::make_unique<StoredCheckpoint>(std::move(opened));
  }
  return place.get();
}

Result<ledger::ModelManifest> recorded_manifest(const fs::path& directory,
                                                const formats::Record& record) {
  ledger::ModelManifest out;
  for (const auto& [file, digest] : record.files) {
    const std::optional<Digest> bytes = ledger::digest_from_hex(digest);
    if (!bytes) return fail("{}: no SHA-256 of {}", (directory / "record.json").string(), file);
    out.files.emplace_back(file, *bytes);
  }
  for (const char* file : {"record.json", kProvenanceFile}) {
    if (!fs::exists(directory / file)) continue;
    NAITE_ASSIGN(const std::string hex, sha256_file(directory / file));
    out.files.emplace_back(file, *ledger::digest_from_hex(hex));
  }
  std::sort(out.files.begin(), out.files.end());
  return out;
}

Result<ledger::ModelManifest> recorded_manifest(const fs::path& directory) {
  NAITE_ASSIGN(const formats::Record record, formats::Record::read(directory));
  return recorded_manifest(directory, record);
}

}  // namespace naite::record
