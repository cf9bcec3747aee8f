// SPDX-License-Identifier: Apache-2.0
#pragma once
// The entries of a run's log, read: docs/LEDGER.md has each of them, record/entry_rules.h their
// forms and order. Reading is strict, whether the log is our own or somebody else's, and an entry
// has one meaning: canonical JSON, no unknown keys, the order that a run has, every step and every
// state exactly once, nothing that contradicts what was entered before, nothing after the end. What
// the log says and only the recipe can tell (which states, which data) is the verifier's.
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"
#include "formats/record.h"
#include "record/entry_rules.h"

namespace naite::record {

inline constexpr int64_t kLogFormat = 1;
inline constexpr size_t kTensorsPerEntry = 300;  // a name of up to 140 bytes each

// What a step left: the bits of two doubles and the digest of what it read.
struct StepDigest {
  uint64_t loss = 0, grad_norm = 0;
  Digest batch{};
  static StepDigest of(double loss, double grad_norm, const Digest& batch);
  bool operator==(const StepDigest&) const = default;
};

// The commitment: what is going to be done.
struct Commitment {
  std::string origin, vkey;     // of the log that holds it
  std::string model_key;        // PEM of the key that signs checkpoints; empty: none does
  std::string nonce;            // makes two runs of one recipe two runs
  int64_t time = 0;             // the trainer's clock, seconds since 1970
  std::string name;             // of the run
  nlohmann::json training;      // Curriculum::training()
  std::string training_digest;  // SHA-256 over its canonical JSON
  std::string arithmetic, architecture;
  int64_t parameters = 0, steps = 0, tokens = 0;
  std::string tokenizer_sha256, tokenizer_config_sha256, data_digest, manifest_sha256,
      recipe_sha256;
  nlohmann::json plan;  // Curriculum::plan()
  // A run that goes on from a state of another one: formats::Branch, of which older logs have
  // {"step", "state_digest", "recipe_digest"} alone; null for a run from random weights.
  nlohmann::json branch;
  std::string version, source_commit;

  int64_t first_step() const;  // steps that were done before this run began
  bool is_unsigned() const;    // by a key of the run alone, which vouches for nobody
  // `branch` in full, if the log has it so.
  std::optional<formats::Branch> parent() const;
  nlohmann::json to_json() const;
  static Result<Commitment> from_json(const nlohmann::json& value, const std::string& where);
};

struct SeedEntry {
  bool beacon = false;
  int64_t seed = 0;
  std::string value;  // the beacon's, hexadecimal
  // Lines of witnesses who had signed the log as it stood before this entry: they say since when
  // the commitment cannot have been another one.
  std::vector<std::string> cosignatures;
};

// A state that the run has stored.
struct StoredState {
  bool checkpoint = true;  // else a state for replays alone
  int64_t step = 0, first_token = 0, end_token = 0;
  std::string directory;                 // below the run
  std::string manifest, weights, state;  // digests: of all files, the weights, the training state
  std::optional<double> loss;            // of the last step; of a branch's first, the parent's
  std::optional<formats::Validation> validation;  // measured with a checkpoint
  size_t amendments = 0;                          // that stood in the log before it

  std::optional<double> bits_per_byte() const;  // mean over the held-out texts
};

// What changed of the commitment when the run went on after `step` steps.
struct Amendment {
  int64_t step = 0, time = 0;
  nlohmann::json changes;
};

// States of steps after `after` follow this plan, until the next one.
struct PlanInForce {
  int64_t after = 0;
  nlohmann::json plan;
};

struct RunHistory {
  int64_t num_entries = 0;
  std::string commitment_entry;  // its bytes
  Commitment commitment;
  std::optional<SeedEntry> seed;
  int64_t seed_index = 0;                      // of its entry
  std::map<std::string, std::string> initial;  // SHA-256 of each initial tensor's values
  bool initial_complete = false;
  std::vector<StepDigest> steps;    // from number commitment.first_step() + 1 on
  std::vector<StoredState> stored;  // by step, ascending, each once
  std::vector<Amendment> amendments;
  bool ended = false, abandoned = false;
  int64_t end_step = 0;
  std::string end_state;
  int64_t time = 0;  // the newest one that the log has

  // An empty history if there are no entries.
  static Result<RunHistory> parse(const std::vector<std::string>& entries);
  // The next entry. After an error the history is of no use.
  Status add(const std::string& entry);

  Phase phase() const;
  // Steps of the run that are done; those before a branch count.
  int64_t last_step() const;
  // What step number `step` left, first_step() < step <= last_step().
  const StepDigest& step(int64_t step) const;
  // The entry about that step's state; nullptr if there is none.
  const StoredState* find(int64_t step) const;
  const StoredState* last_checkpoint() const;  // nullptr if there is none
  double percent_done(int64_t step) const;
  // The plans that states followed, the commitment's first.
  std::vector<PlanInForce> plans() const;
  // The commitment with what the first `count` amendments changed; without a number, all.
  Commitment amended(std::optional<size_t> count = std::nullopt) const;
  // The last checkpoint of an earlier step; nullptr if there is none.
  const StoredState* checkpoint_before(int64_t step) const;

 private:
  Status adopt(const nlohmann::json& entry, const std::string& type, const std::string& where);
  Status adopt_seed(const nlohmann::json& entry, const std::string& where);
  Status adopt_initial(const nlohmann::json& entry, const std::string& where);
  Status adopt_steps(const nlohmann::json& entry, const std::string& where);
  Status adopt_stored(const nlohmann::json& entry, const std::string& where);
  Status check_metrics(const StoredState& state, const std::string& where) const;
  Status adopt_amendment(const nlohmann::json& entry, const std::string& where);
  Status adopt_end(const nlohmann::json& entry, const std::string& where);
  Status adopt_time(const nlohmann::json& entry, const std::string& where);

  int64_t initial_total_ = 0;
};

// Entries as canonical JSON.
Result<std::string> seed_entry(const SeedEntry& seed);
Result<std::vector<std::string>> initial_entries(const std::map<std::string, std::string>& tensors);
Result<std::vector<std::string>> step_entries(int64_t first_step,
                                              const std::vector<StepDigest>& steps);
Result<std::string> stored_entry(const StoredState& state);
Result<std::string> amendment_entry(int64_t step, const nlohmann::json& changes, int64_t time);
Result<std::string> end_entry(int64_t step, const std::string& state, int64_t time);
Result<std::string> abandoned_entry(int64_t step, const std::string& reason, int64_t time);

// The seed that a beacon's value gives: the first 63 bits of SHA-256(SHA-256(commitment) || value).
int64_t beacon_seed(std::string_view commitment_entry, std::string_view value);

}  // namespace naite::record
