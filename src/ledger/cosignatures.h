// SPDX-License-Identifier: Apache-2.0
#pragma once
// Signatures of several organisations over one model directory. The first one signs model.sig; each
// of the others adds two files, and none of them changes what another one signed:
//
//   cosignatures/ID.sig   a bundle of the form of model.sig, over the same files
//   cosignatures/ID.pub   its public key, SubjectPublicKeyInfo in PEM
//
// ID is the first 16 digits of the key's hint, so a key signs once and under no other name. The
// statement of each signature sets model.sig and cosignatures apart, so the public tool accepts
// every one of them, whichever came first.
#include <filesystem>
#include <vector>

#include "ledger/model_signature.h"

namespace naite::ledger {

struct ModelCosignature {
  ModelKey key;
  ModelSignature signature;  // valid under the key; which files it signs is the caller's to compare
};

std::string cosignature_id(const ModelKey& key);

// All of a directory, by id. Whatever else lies there, or does not verify, is an error. A public
// key without a signature is what a killed process leaves, and says nothing.
Result<std::vector<ModelCosignature>> read_cosignatures(const std::filesystem::path& directory);

// Adds the key's signature over `manifest`.
Status write_cosignature(const std::filesystem::path& directory, const ModelManifest& manifest,
                         const ModelKey& key);

}  // namespace naite::ledger
