// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: forgeries at random. Each number is one: some change of a file, a JSON value, a
// tensor, a state, an entry of the log or its head, after which everything that rests on it is
// sealed again with the trainer's own keys (or, of some, nothing: then no keys were needed).
#include <string>

#include "verify/forged_run_testing.h"
#include "verify/forged_values_testing.h"

namespace naite::verify {

struct Forgery {
  ForgedRun run;
  std::string description;
};
Forgery forgery_of(const ForgedRun& honest, uint64_t number);

}  // namespace naite::verify
