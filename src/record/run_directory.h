// SPDX-License-Identifier: Apache-2.0
#pragma once
// What lies where in a run directory; record/run_files.h says what else may, and who answers for
// it.
//
//   recipe.toml                the resolved recipe
//   tokenizer.json data/       see data/prepare.h
//   checkpoints/stage1-step0000000120-tokens0000000001966080/     formats/checkpoint.h
//   autosave/step0000000097/   the same form, and autosave.sig; the newest alone
//   audit/step0000000090/      the same form; states between checkpoints, for replays
//   ledger/                    the signed log, record/run_ledger.h
//   branch.json                the checkpoint that the run began from, if not at random
//   log.jsonl samples.jsonl events.out.tfevents.*     train/metrics.h
#include <filesystem>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::record {

class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path recipe() const { return path_ / "recipe.toml"; }
  std::filesystem::path branch() const { return path_ / "branch.json"; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path autosaves() const { return path_ / "autosave"; }
  std::filesystem::path audits() const { return path_ / "audit"; }
  std::filesystem::path ledger() const { return path_ / "ledger"; }
  std::filesystem::path checkpoint(int stage, int64_t step, int64_t tokens) const;
  std::filesystem::path autosave(int64_t step) const;
  std::filesystem::path audit(int64_t step) const;

  // Fails where a run would mix with what is not of it: a file, or a folder of other things.
  Status check_place() const;
  // Removes what killed processes left half written.
  Status clean() const;
  // Removes autosaves of other steps than `keep`.
  Status remove_autosaves_except(int64_t keep) const;

  // Directories with a state, by step, ascending; at one step the checkpoint comes last.
  struct State {
    int64_t step;
    std::filesystem::path path;
  };
  Result<std::vector<State>> states() const;

 private:
  std::filesystem::path path_;
};

// How a model or a stored state is called in what is published: RUN/checkpoints/NAME for a state of
// a run, else its own name. Where it lay on the trainer's disk is nobody's business.
std::string public_name(const std::filesystem::path& model);

}  // namespace naite::record
