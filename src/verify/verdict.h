// SPDX-License-Identifier: Apache-2.0
#pragma once
// From checks to verdicts, one per component, and to the sentence that can be quoted.
#include "verify/claims.h"

namespace naite::verify {

// Fills in the report's verdicts and sentence. `verifiers`: whose reports were combined, by name;
// `has_policy`: somebody was trusted beforehand.
void conclude(const Claims& claims, const std::vector<std::string>& verifiers, bool has_policy,
              Report& report);

}  // namespace naite::verify
