// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a run in memory, and somebody who holds all of its keys. Anything in it may be
// changed; what is sealed afterwards fits together again, from the shards up to the publisher's log
// of runs. Unlike verify/forger_testing.h it takes what no recipe and no reader would take (files
// of any name, JSON that is none, entries of any form), seals as far as that has a meaning, and
// writes no more to the disk than what differs from what lies there: tens of thousands of forgeries
// can be tried.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ledger/ledger.h"

namespace naite::verify {

// A log: its entries, and what may stand in the file of its head beside what the entries imply.
struct ForgedLog {
  std::vector<std::string> entries;  // their bytes
  std::string extension = {};        // lines of the head's text behind the root
  std::string others = {};           // signature lines of others

  // The files of the log, signed, with one path per tile.
  std::map<std::string, std::string> files(const ledger::Signer& signer) const;
};

class ForgedRun {
 public:
  std::map<std::string, std::string> files;   // by path, without those of the two logs
  std::set<std::string> folders;              // those that hold nothing
  ForgedLog log, runs;                        // the run's, and the publisher's log of runs
  std::map<std::string, std::string> ledger;  // files of both logs, as seal_logs() made them

  // The run in `directory` without what is for people to look at; its keys are in `keys`.
  static ForgedRun read(const std::filesystem::path& directory, const std::filesystem::path& keys);

  // Makes the directory what this run is, where `before` is what it holds.
  void write(const std::filesystem::path& directory, const ForgedRun& before) const;

  // Makes the manifest fit the shards, and the commitment all that it commits to; `deep`: the
  // stored states as well, which have copies of the tokenizer and the digest of the recipe.
  void seal_claims(bool deep);
  // Makes the digests in the states, their signatures and entries fit their files.
  void seal_states();
  // Makes the publisher's log fit the log, if `publisher`, and signs both.
  void seal_logs(bool publisher = true);
  void seal(bool deep = true) {
    seal_claims(deep);
    seal_states();
    seal_logs();
  }

  // What the run was at an earlier time: its first `count` entries and the states in them, or in
  // the first `stored` ones where a state was there before its entry.
  ForgedRun cut(size_t count, size_t stored = 0) const;

  // Changes entries as JSON; those that are none stay.
  void edit_entries(const std::function<void(nlohmann::json&)>& change);
  // The names of the files below `folder`, which ends in a slash, without it.
  std::vector<std::string> names_below(const std::string& folder) const;
  std::vector<std::string> states() const;  // the directories that the log names
  const ledger::Keys& keys() const { return *keys_; }
  std::string& file(const std::string& path) { return files.at(path); }

 private:
  void seal_state(const std::string& directory, nlohmann::json& entry);
  void renew_statements(const std::string& folder);

  std::shared_ptr<const ledger::Keys> keys_;
  std::string origin_;
  std::set<std::string> unlisted_;                // names that no record.json lists
  std::map<std::string, std::string> committed_;  // files that the commitment fits
  std::map<std::string, std::string> renewed_;    // digests that are others by now
};

// What a run says and holds, as facts that have names: two runs are the same where these are.
std::map<std::string, std::string> facts_of(const ForgedRun& run);

}  // namespace naite::verify
