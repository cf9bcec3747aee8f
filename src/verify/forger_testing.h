// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: somebody who forges a run and holds all of its keys. Whatever is changed is sealed
// again: manifests, digests, record files, signatures, every entry of the log and its head. So no
// checksum finds a forgery for free; what finds it must follow from the training.
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "record/run_directory.h"
#include "record/run_ledger.h"
#include "train/stepper.h"

namespace naite::verify {

class Forger {
 public:
  // Works on the run in `directory`, which was trained with the keys in `keys`.
  Forger(std::filesystem::path directory, std::filesystem::path keys);

  const std::filesystem::path& path() const { return run_.path(); }
  std::vector<nlohmann::json>& entries() { return entries_; }
  nlohmann::json& entry(const std::string& type, size_t number = 0);  // the number-th of its type
  // The directory of the state after `step`.
  std::filesystem::path state(int64_t step) const;

  void edit(const std::string& file, const std::function<void(std::string&)>& change) const;
  void edit_json(const std::string& file, const std::function<void(nlohmann::json&)>& change) const;
  // The tile at the right edge of a level of the log.
  std::string tile(int level) const {
    return "ledger/" + ledger::tile_path(level, 0, static_cast<int64_t>(entries_.size()));
  }
  void flip(const std::string& file, double where = 0.5) const;  // one bit
  // One bit of a tensor's bytes in a safetensors file.
  void flip_tensor(const std::filesystem::path& file, const std::string& tensor) const;

  // Makes record.json, model cards, provenance, signatures and log entries of all states fit their
  // tensors and each other; as they are: digests, signatures and entries alone.
  void seal_states(bool as_they_are = false);
  // Makes manifest, commitment and cursors fit recipe.toml, tokenizer and shards.
  void seal_claims();
  // Signs the log, and a log of runs that lists its commitment.
  void sign();
  void seal() {
    seal_claims();
    seal_states();
    sign();
  }
  // Whatever lies in the states, and whatever is said there.
  void seal_as_it_is() {
    seal_states(true);
    sign();
  }
  // Signs `head_text` as the log's head, whatever the tiles are.
  void sign_head(const ledger::Head& head) const;
  ledger::Signer signer() const;

  // Trains on from the stored state `from` to the end of the run and puts steps and states in place
  // of those that were there. `step` does one step and may do it wrongly.
  using Step = std::function<train::StepResult(train::Engine&, const data::Loader&, int64_t)>;
  void train_on(int64_t from, const std::function<void(formats::TrainingState&)>& change,
                const Step& step);

  train::Curriculum curriculum() const;

 private:
  std::filesystem::path file(const std::string& name) const { return run_.path() / name; }
  void remake(nlohmann::json& entry, const std::filesystem::path& directory);
  record::RunDirectory run_;
  std::filesystem::path keys_;
  std::vector<nlohmann::json> entries_;
};

// One honest step.
train::StepResult honest_step(train::Engine& engine, const data::Loader& loader, int64_t step);

}  // namespace naite::verify
