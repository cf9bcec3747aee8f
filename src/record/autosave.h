// SPDX-License-Identifier: Apache-2.0
#pragma once
// What makes an autosave the run's own. The log does not have it, so it carries a note signed with
// the log's key, AUTOSAVE/autosave.sig:
//
//   naite-autosave-v1
//   ORIGIN                  of the log
//   STEP
//   SIZE                    of the log when the state was stored: a beginning of today's
//   base64(root)
//   SHA-256 of record.json  in hexadecimal; record.json has those of all other files
//
// Only training reads an autosave, and only one with such a note. It is no head of a log, nor can
// one be taken for it: where a head has its size, this has a name.
#include <filesystem>
#include <span>

#include "base/base.h"
#include "ledger/ledger.h"

namespace naite::record {

inline constexpr const char* kAutosaveSignature = "autosave.sig";

// For a directory that is complete but for its name. `leaves` are the log's.
Status sign_autosave(const std::filesystem::path& directory, int64_t step,
                     const ledger::Signer& signer, std::span<const Digest> leaves);

// That the run whose log has these leaves, signed by `log`, stored it as the state after `step`.
// What record.json lists is left to whoever reads it.
Status check_autosave(const std::filesystem::path& directory, int64_t step,
                      const ledger::Verifier& log, std::span<const Digest> leaves);

}  // namespace naite::record
