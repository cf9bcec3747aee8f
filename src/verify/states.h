// SPDX-License-Identifier: Apache-2.0
#pragma once
// The stored states of a run: every file is the one that was logged, and what stands in it is what
// log, plan and recipe say must stand there.
#include "verify/claims.h"

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
  Status state_content(const record::StoredState& state);
  Status model_signature(const record::StoredState& state) const;
  Status no_others(const std::vector<const record::StoredState*>& known) const;

  Setting& setting_;
  Claims& claims_;
  const record::RunHistory& history_;
};

}  // namespace naite::verify
