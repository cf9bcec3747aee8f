// SPDX-License-Identifier: Apache-2.0
#pragma once
// The stored states of a run: every file is the one that was logged, and every byte of it is what
// log, recipe and tensors make of it (verify/rebuild.h).
#include "verify/claims.h"
#include "verify/rebuild.h"

namespace naite::verify {

class States {
 public:
  States(Setting& setting, Claims& claims)
      : setting_(setting), claims_(claims), history_(claims.history()) {}

  // Of a run that is whole: the bytes of every state, before anything in them is read.
  Result<Finding> bytes() const;
  Result<Finding> states();
  Result<Finding> distinct() const;
  Result<Finding> end() const;

 private:
  bool is_asked_for(const record::StoredState& state) const;
  Status state_bytes(const record::StoredState& state) const;
  Result<train::StateSetting> setting_of(const record::StoredState& state);
  Result<ExpectedStates> expected(const record::StoredState& state, const formats::Record& claimed);
  Status state_content(const record::StoredState& state);
  Status check_parent(const record::StoredState& first, record::StoredCheckpoint& stored);
  Status unentered_content(const std::string& directory);
  bool is_on_its_way(const std::string& directory) const;
  Status bills() const;
  Result<std::string> no_others() const;

  Setting& setting_;
  Claims& claims_;
  const record::RunHistory& history_;
  std::optional<formats::Branch> older_branch_;  // of a log that has three keys of it
};

}  // namespace naite::verify
