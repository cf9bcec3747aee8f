// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of a publisher, one directory of files:
//
//   log.key      Ed25519, private, ledger/note.h's form, mode 0600: signs logs
//   log.vkey     its public key: what others put into their policy
//   model.key    P-256, private, PKCS #8 in PEM, mode 0600: signs checkpoint directories
//   model.pub    its public key, SubjectPublicKeyInfo in PEM
//
// Nothing here is ever overwritten. OMS signatures know no Ed25519, hence two keys.
#include <filesystem>
#include <string>

#include "base/base.h"
#include "ledger/model_signature.h"
#include "ledger/note.h"

namespace naite::ledger {

struct Keys {
  Signer log;
  ModelKey model;
};

// Makes the directory and its keys; refuses if one of the files exists.
Result<Keys> make_keys(const std::filesystem::path& directory, std::string_view name);
// Refuses private keys that others may read.
Result<Keys> load_keys(const std::filesystem::path& directory);

// The two ends of it, for a single file.
Status write_new_file(const std::filesystem::path& path, std::string_view content, int mode);
Result<std::string> read_private_file(const std::filesystem::path& path);

// So many bytes of the system's randomness, in hexadecimal.
std::string random_hex(size_t num_bytes);

}  // namespace naite::ledger
