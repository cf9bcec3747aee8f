// SPDX-License-Identifier: Apache-2.0
#pragma once
// The log of a run, read whole as it stood at one moment, while training may go on: whoever uses
// what a run has stored begins here.
#include <string>

#include "ledger/ledger.h"
#include "record/run_directory.h"

namespace naite::record {

struct RunLog {
  std::string head, vkey;  // the files' bytes; read_log_at_rest() leaves vkey empty
  ledger::LogContent log;
};

// Any log. Signatures are the caller's.
Result<RunLog> read_log_at_rest(const std::filesystem::path& directory);

// The log of a run, its head signed by the key that lies beside it. Whose key that is, the caller
// asks.
Result<RunLog> read_run_log(const RunDirectory& run);

}  // namespace naite::record
