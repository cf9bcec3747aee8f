// SPDX-License-Identifier: Apache-2.0
#pragma once
// A log in a directory. The writer appends; a process that is killed between any two of its writes
// has neither forked nor shortened the log:
//
//   1. entries    a new tile/entries file that holds the old entries and the new ones
//   2. tiles      the hashes above them
//   3. checkpoint the signed head, last (kHeadFile)
//
// A head is signed only over entries that are durable, and the signature depends on nothing but the
// key and the text. Whoever opens the log after a kill takes over every durable entry and signs the
// very head that would have been signed. Nothing that a head covers is ever written again. Of the
// partial tiles, only those of the newest heads are kept (kHeadsKept): what is published keeps them
// all.
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/base.h"
#include "ledger/note.h"

namespace naite::ledger {

// The file of the signed head: C2SP tlog-checkpoint calls a signed head a checkpoint. Here that
// word means a stored state of a training.
inline constexpr const char* kHeadFile = "checkpoint";
inline constexpr int kHeadsKept = 3;
inline constexpr int64_t kLogEntriesMax = int64_t{1} << 24;  // longer logs are not read

// All entries of a log with the hashes of its tree. Nothing in it is trusted but by its hashes.
struct LogContent {
  Head head;  // size 0 without the file
  Note note;
  std::vector<std::string> entries;  // as many as the head says
  std::vector<Digest> leaves;
};

// Reads a log whole and recomputes everything: entries against level 0, every tile, the root. All
// tiles that the head's size calls for must be there. Signatures are the caller's.
Result<LogContent> read_log(const std::filesystem::path& directory);

// Adds a witness's signature line to the head's file, in place of an earlier one by the same key.
// Nothing happens if the file has another head by now. Not while another process writes the log.
Status add_cosignature(const std::filesystem::path& directory, const Head& head,
                       const std::string& line);

class LogWriter {
 public:
  // Opens or begins the log in `directory` and finishes what a killed process began. `signer` must
  // have the origin as its name. The caller makes sure that no other process writes here.
  static Result<LogWriter> open(const std::filesystem::path& directory, const Signer& signer);

  int64_t size() const { return static_cast<int64_t>(leaves_.size()); }
  // All entries, until forget_entries() keeps only those that the next append writes again.
  const std::vector<std::string>& entries() const { return entries_; }
  void forget_entries();
  const std::vector<Digest>& leaves() const { return leaves_; }
  const Signer& signer() const { return signer_; }

  // Durable when it returns.
  Status append(const std::vector<std::string>& entries);
  // add_cosignature() for any thread, also while another one appends.
  Status add_cosignature(const Head& head, const std::string& line) const;

 private:
  LogWriter(std::filesystem::path directory, Signer signer)
      : directory_(std::move(directory)), signer_(std::move(signer)) {}
  Status load();
  Status write_bundles(int64_t old_size);
  Status write_tiles(int64_t old_size);
  Status write_head();
  Status remove_old_partials();

  std::filesystem::path directory_;
  Signer signer_;
  std::vector<std::string> entries_;  // from number first_entry_ on, which begins a tile
  int64_t first_entry_ = 0;
  std::vector<Digest> leaves_;
  std::shared_ptr<std::mutex> head_mutex_ = std::make_shared<std::mutex>();
};

}  // namespace naite::ledger
