// SPDX-License-Identifier: Apache-2.0
#pragma once
// Signatures of model directories after OpenSSF Model Signing v1.0: one file `model.sig`, a
// sigstore bundle with a DSSE envelope, which `model_signing verify key` checks.
//
//   bundle    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
//              "verificationMaterial": {"publicKey": {"hint": HEX}}, "dsseEnvelope": ENVELOPE}
//   envelope  {"payload": BASE64, "payloadType": "application/vnd.in-toto+json",
//              "signatures": [{"keyid": "", "sig": BASE64 of the DER ECDSA signature}]}
//   signed    "DSSEv1" SP len(type) SP type SP len(payload) SP payload, by P-256 over SHA-256
//   payload   an in-toto Statement v1 whose predicate lists every file with its SHA-256, names
//             ascending; the subject's digest ("root") is the SHA-256 of those digests, raw
//
// The root does not bind names, so a log records digest() of a checkpoint instead: the SHA-256 of
// the lines "HEX  NAME\n" that `sha256sum` would print.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/base.h"

namespace naite::ledger {

inline constexpr const char* kModelSignatureFile = "model.sig";
// Signatures of other organisations over the same files, ledger/cosignatures.h. Both names stand in
// the statement's `ignore_paths`, so that signatures may come after one another.
inline constexpr const char* kCosignaturesDirectory = "cosignatures";

// A P-256 key; private ones can sign.
class ModelKey {
 public:
  static Result<ModelKey> make();
  static Result<ModelKey> parse_private(std::string_view pem);
  static Result<ModelKey> parse_public(std::string_view pem);

  Result<std::string> private_pem() const;
  std::string public_pem() const;
  std::string hint() const;  // SHA-256 of public_pem(), hexadecimal

  Result<std::string> sign(std::string_view message) const;  // DER
  bool verify(std::string_view message, std::string_view signature) const;

 private:
  explicit ModelKey(std::shared_ptr<void> key) : key_(std::move(key)) {}
  std::shared_ptr<void> key_;  // EVP_PKEY
};

// What a directory holds: relative paths, ascending, with the SHA-256 of every file but `model.sig`
// and those below `cosignatures`. Links and whatever is no plain file are refused.
struct ModelManifest {
  std::vector<std::pair<std::string, Digest>> files;

  // The names alone.
  static Result<std::vector<std::string>> names_in(const std::filesystem::path& directory);
  static Result<ModelManifest> of_directory(const std::filesystem::path& directory);
  Digest root() const;
  Digest digest() const;
  bool operator==(const ModelManifest&) const = default;
};

// What is signed: the statement's bytes. `name` is the subject's.
Result<std::string> model_statement(const ModelManifest& manifest, std::string_view name);
// The bundle's text for the directory's content.
Result<std::string> sign_model(const ModelManifest& manifest, std::string_view name,
                               const ModelKey& key);

// A bundle that has been read: what it says, not yet whether it is true.
struct ModelSignature {
  std::string payload;    // the statement's bytes
  std::string signature;  // DER
  std::string hint;
  ModelManifest manifest;
  std::vector<std::string> ignored = {};  // paths that the statement sets apart

  static Result<ModelSignature> parse(std::string_view bundle, std::string_view where);
  bool is_signed_by(const ModelKey& key) const;
  Result<std::string> text() const;  // the bundle as sign_model() writes it
};

}  // namespace naite::ledger
