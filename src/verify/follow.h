// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps a mirror of a published run up to date, round by round: the log first, then what it answers
// for, then the states in the order in which they were made.
#include <functional>
#include <optional>

#include "verify/mirror.h"
#include "verify/policy.h"

namespace naite::verify {

struct Followed {
  record::RunHistory history;
  std::string signer;
  bool ended = false;  // there will be nothing more
};

// Brings what is new. `on_checkpoint` hears of each new checkpoint when it has its final name. An
// error is of the network or of what was sent, and may be gone the next time, unless
// mirror.contradicted().
using OnCheckpoint = std::function<void(const record::RunHistory&, const record::StoredState&)>;
Result<Followed> follow_once(Mirror& mirror, const std::optional<Policy>& policy,
                             const OnCheckpoint& on_checkpoint);

}  // namespace naite::verify
