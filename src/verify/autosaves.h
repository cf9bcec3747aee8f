// SPDX-License-Identifier: Apache-2.0
#pragma once
// A run that was stopped between two states has an autosave, which its log does not have and no
// replay leads to. Only training goes on from it; here, that it is the run's own.
#include "verify/claims.h"

namespace naite::verify {

bool has_autosaves(const Setting& setting);
// Everything in autosave/ is signed with the log's key (record/autosave.h), file by file.
Result<Finding> autosaves(const Setting& setting, const record::RunHistory& history);

}  // namespace naite::verify
