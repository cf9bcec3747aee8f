// SPDX-License-Identifier: Apache-2.0
#pragma once
// An organisation that took part in a training adds its signature to a checkpoint that somebody
// else signed first (ledger/cosignatures.h).
#include <filesystem>

#include "ledger/model_signature.h"

namespace naite::record {

// Signs all files of a checkpoint directory. Refused if they are not those of its record.json or of
// its model.sig, or if model.sig leaves no place for other signatures. False: this key's signature
// is there already.
Result<bool> cosign_checkpoint(const std::filesystem::path& directory, const ledger::ModelKey& key,
                               ThreadPool& pool);

}  // namespace naite::record
