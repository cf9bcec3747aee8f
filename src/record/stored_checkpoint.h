// SPDX-License-Identifier: Apache-2.0
#pragma once
// A state on the disk, opened once. Every byte of it is hashed at most once as part of its file and
// once as part of its tensor, and what was found is remembered: whoever asks next gets the answer,
// not the work. A file that has changed since (size, time or inode) is hashed anew.
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "ledger/model_signature.h"

namespace naite::record {

class StoredCheckpoint {
 public:
  // Reads record.json and hashes nothing. `pool` outlives this and hashes files and tensors side by
  // side.
  static Result<StoredCheckpoint> open(std::filesystem::path directory, ThreadPool& pool);

  const std::filesystem::path& directory() const { return directory_; }
  const formats::Record& record() const { return record_; }
  Result<formats::Cursor> cursor() const { return formats::read_cursor(directory_); }

  // Every file that the directory has (ledger/model_signature.h says which count).
  Result<ledger::ModelManifest> manifest();
  // Every file that the record lists is there and as it says; the first damaged one is named. Not
  // `whole`: those below state/, which only training reads, are left out.
  Status check_files(bool whole = true);
  // Recomputed from the tensors.
  Result<formats::CheckpointDigests> digests();
  // What the state's digest would be under another cursor, that of the run that it was taken over
  // from. Asked for before digests(), it costs nothing more.
  Result<std::string> state_digest_under(const formats::Cursor& cursor);

  // What all of this has hashed so far: files, and once more where they hold tensors.
  int64_t bytes_hashed() const { return bytes_hashed_; }

  // After check_files(), which they call. `state` must have the specs and the names of its moments.
  Status read(formats::TrainingState& state);
  Status read_masters(const std::vector<tape::ParameterSpec>& specs, std::vector<float>& masters);

 private:
  // What tells that a file has not been written again.
  struct Stamp {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t seconds = 0, nanoseconds = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct Hashed {
    Stamp stamp;
    Digest digest;
  };

  StoredCheckpoint(std::filesystem::path directory, formats::Record record, ThreadPool& pool)
      : directory_(std::move(directory)), record_(std::move(record)), pool_(&pool) {}
  Result<Stamp> stamp_of(const std::string& file) const;
  Status hash(const std::vector<std::string>& files);
  Result<std::vector<Stamp>> tensor_stamps() const;
  Result<formats::TensorLines> hash_tensors();

  std::filesystem::path directory_;
  formats::Record record_;
  ThreadPool* pool_;
  std::map<std::string, Hashed> hashed_;
  std::optional<formats::CheckpointDigests> digests_;
  std::vector<Stamp> digested_;  // the files that digests_ is of
  int64_t bytes_hashed_ = 0;
};

// The stored states of a run, each opened when it is first asked for.
class StoredStates {
 public:
  explicit StoredStates(ThreadPool& pool) : pool_(pool) {}
  // Valid as long as this is.
  Result<StoredCheckpoint*> open(const std::filesystem::path& directory);

 private:
  ThreadPool& pool_;
  std::map<std::filesystem::path, std::unique_ptr<StoredCheckpoint>> open_;
};

// What a checkpoint's files are by its record, without looking at those that the record lists.
Result<ledger::ModelManifest> recorded_manifest(const std::filesystem::path& directory,
                                                const formats::Record& record);
Result<ledger::ModelManifest> recorded_manifest(const std::filesystem::path& directory);

}  // namespace naite::record
