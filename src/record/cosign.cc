// SPDX-License-Identifier: Apache-2.0
#include "record/cosign.h"

#include <algorithm>

#include "ledger/cosignatures.h"
#include "record/stored_checkpoint.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

// The first signature: over the same files, by another key, with a place for more.
Status check_first_signature(const fs::path& file, const ledger::ModelManifest& manifest,
                             const ledger::ModelKey& key) {
  NAITE_ASSIGN(const std::string text, read_file(file));
  NAITE_ASSIGN(const ledger::ModelSignature first,
               ledger::ModelSignature::parse(text, file.string()));
  if (first.manifest != manifest)
    return fail("{} signs other files than those that are there; nothing was signed",
                file.string());
  if (first.hint == key.hint()) return fail("{} is of this very key", file.string());
  if (std::find(first.ignored.begin(), first.ignored.end(), ledger::kCosignaturesDirectory) ==
      first.ignored.end())
    return fail("{} leaves no place for {}: verifiers would refuse it beside them", file.string(),
                ledger::kCosignaturesDirectory);
  return {};
}

}  // namespace

Result<bool> cosign_checkpoint(const fs::path& directory, const ledger::ModelKey& key,
                               ThreadPool& pool) {
  NAITE_ASSIGN(StoredCheckpoint stored, StoredCheckpoint::open(directory, pool));
  NAITE_TRY(stored.check_files());
  NAITE_ASSIGN(const ledger::ModelManifest recorded, recorded_manifest(directory, stored.record()));
  NAITE_ASSIGN(const ledger::ModelManifest found, stored.manifest());
  if (recorded != found)
    return fail("{}: its files are not those of its record.json; nothing was signed",
                directory.string());
  const fs::path first = directory / ledger::kModelSignatureFile;
  std::error_code code;
  if (fs::exists(first, code)) NAITE_TRY(check_first_signature(first, found, key));
  NAITE_ASSIGN(const std::vector<ledger::ModelCosignature> others,
               ledger::read_cosignatures(directory));
  for (const ledger::ModelCosignature& other : others) {
    if (other.signature.manifest != found)
      return fail("{}: the co-signature {} is over other files; nothing was signed",
                  directory.string(), ledger::cosignature_id(other.key));
    if (other.key.hint() == key.hint()) return false;
  }
  NAITE_TRY(ledger::write_cosignature(directory, found, key));
  return true;
}

}  // namespace naite::record
