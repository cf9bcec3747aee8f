// SPDX-License-Identifier: Apache-2.0
#include "ledger/model_signature.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ledger/canonical_json.h"
#include "ledger/encoding.h"

namespace naite::ledger {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr const char* kPayloadType = "application/vnd.in-toto+json";
constexpr const char* kStatementType = "https://in-toto.io/Statement/v1";
constexpr const char* kPredicateType = "https://model_signing/signature/v1.0";
constexpr size_t kPemBytesMax = 4096;

EVP_PKEY* key_of(const std::shared_ptr<void>& key) { return static_cast<EVP_PKEY*>(key.get()); }

std::shared_ptr<void> owned(EVP_PKEY* key) {
  return {key, [](void* p) { EVP_PKEY_free(static_cast<EVP_PKEY*>(p)); }};
}

// SubjectPublicKeyInfo of P-256 ends with the point: 04 and two coordinates (SEC 1, 2.3.3).
bool is_uncompressed(EVP_PKEY* key) {
  constexpr size_t kPointBytes = 65;
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  const bool out = size > static_cast<int>(kPointBytes) && der[size - kPointBytes] == 4;
  OPENSSL_free(der);
  return out;
}

bool is_p256(EVP_PKEY* key) {
  char group[32] = {};
  size_t size = 0;
  return EVP_PKEY_is_a(key, "EC") == 1 &&
         EVP_PKEY_get_group_name(key, group, sizeof group, &size) == 1 &&
         std::string_view(group) == "prime256v1";
}

using Bio = std::unique_ptr<BIO, int (*)(BIO*)>;

Bio reading(std::string_view text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

std::string content_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

// Without a passphrase; an encrypted key is refused instead of asked about.
int no_passphrase(char*, int, int, void*) { return -1; }

std::string pre_authentication_encoding(std::string_view payload) {
  return fmt::format("DSSEv1 {} {} {} {}", std::string_view(kPayloadType).size(), kPayloadType,
                     payload.size(), payload);
}

// The value at a path of keys; a null if there is none.
const json& at(const json& value, std::initializer_list<const char*> path) {
  static const json kNull;
  const json* here = &value;
  for (const char* key : path) {
    if (!here->is_object() || !here->contains(key)) return kNull;
    here = &(*here)[key];
  }
  return *here;
}

std::string text_at(const json& value, std::initializer_list<const char*> path) {
  const json& found = at(value, path);
  return found.is_string() ? found.get<std::string>() : "";
}

Result<ModelManifest> parse_statement(const json& statement, std::string_view where) {
  const Error malformed = fail("{}: not a statement of a model signature v1.0", where);
  if (text_at(statement, {"_type"}) != kStatementType ||
      text_at(statement, {"predicateType"}) != kPredicateType ||
      text_at(statement, {"predicate", "serialization", "method"}) != "files" ||
      text_at(statement, {"predicate", "serialization", "hash_type"}) != "sha256")
    return malformed;
  const json& resources = at(statement, {"predicate", "resources"});
  const json& subjects = at(statement, {"subject"});
  if (!resources.is_array() || !subjects.is_array() || subjects.size() != 1) return malformed;
  ModelManifest out;
  for (const json& resource : resources) {
    const std::optional<Digest> digest = digest_from_hex(text_at(resource, {"digest"}));
    const std::string name = text_at(resource, {"name"});
    if (!digest || text_at(resource, {"algorithm"}) != "sha256" || name.empty()) return malformed;
    if (!out.files.empty() && out.files.back().first >= name)
      return fail("{}: files are not in ascending order", where);
    out.files.emplace_back(name, *digest);
  }
  if (text_at(subjects[0], {"digest", "sha256"}) != to_hex(out.root()))
    return fail("{}: the root digest is not that of the files", where);
  return out;
}

}  // namespace

Result<ModelKey> ModelKey::make() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  if (key == nullptr) return fail("OpenSSL cannot make a P-256 key");
  return ModelKey(owned(key));
}

Result<ModelKey> ModelKey::parse_private(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return fail("not a private key in PEM");
  EVP_PKEY* key = PEM_read_bio_PrivateKey(reading(pem).get(), nullptr, no_passphrase, nullptr);
  if (key == nullptr) return fail("not a private key in PEM without a passphrase");
  ModelKey out(owned(key));
  if (!is_p256(key)) return fail("not a P-256 key");
  return out;
}

Result<ModelKey> ModelKey::parse_public(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return fail("not a public key in PEM");
  EVP_PKEY* key = PEM_read_bio_PUBKEY(reading(pem).get(), nullptr, no_passphrase, nullptr);
  if (key == nullptr) return fail("not a public key in PEM");
  ModelKey out(owned(key));
  if (!is_p256(key)) return fail("not a P-256 key");
  // One key has one spelling: else it would count as several.
  if (!is_uncompressed(key)) return fail("not a P-256 key with its point uncompressed");
  return out;
}

Result<std::string> ModelKey::private_pem() const {
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key_of(key_), nullptr, nullptr, 0, nullptr,
                                    nullptr) != 1)
    return fail("OpenSSL cannot write the private key");
  return content_of(bio.get());
}

std::string ModelKey::public_pem() const {
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  NAITE_CHECK(PEM_write_bio_PUBKEY(bio.get(), key_of(key_)) == 1);
  return content_of(bio.get());
}

std::string ModelKey::hint() const { return sha256_hex(public_pem()); }

Result<std::string> ModelKey::sign(std::string_view message) const {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  size_t size = 0;
  const auto* data = reinterpret_cast<const unsigned char*>(message.data());
  std::string out;
  bool ok = EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_of(key_)) == 1 &&
            EVP_DigestSign(context.get(), nullptr, &size, data, message.size()) == 1;
  out.resize(size);
  ok = ok && EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                            data, message.size()) == 1;
  if (!ok) return fail("OpenSSL cannot sign with the P-256 key");
  out.resize(size);
  return out;
}

bool ModelKey::verify(std::string_view message, std::string_view signature) const {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  return EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_of(key_)) == 1 &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                          signature.size(), reinterpret_cast<const unsigned char*>(message.data()),
                          message.size()) == 1;
}

Result<std::vector<std::string>> ModelManifest::names_in(const fs::path& directory) {
  std::vector<std::string> out;
  std::error_code code;
  fs::recursive_directory_iterator it(directory, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const fs::file_type type = it->symlink_status(code).type();
    std::string name = it->path().lexically_relative(directory).generic_string();
    if (type == fs::file_type::directory) {
      if (name == kCosignaturesDirectory) it.disable_recursion_pending();
      continue;
    }
    if (type != fs::file_type::regular)
      return fail("{}: a link or no plain file: a model directory has neither",
                  it->path().string());
    if (name != kModelSignatureFile) out.push_back(std::move(name));
  }
  if (code) return system_error(code.value(), "cannot list {}", directory.string());
  std::sort(out.begin(), out.end());
  return out;
}

Result<ModelManifest> ModelManifest::of_directory(const fs::path& directory) {
  ModelManifest out;
  NAITE_ASSIGN(const std::vector<std::string> names, names_in(directory));
  for (const std::string& name : names) {
    NAITE_ASSIGN(const std::string hex, sha256_file(directory / name));
    out.files.emplace_back(name, *digest_from_hex(hex));
  }
  return out;
}

Digest ModelManifest::root() const {
  Sha256 hash;
  for (const auto& [name, digest] : files) hash.update(as_bytes(digest));
  return hash.digest();
}

Digest ModelManifest::digest() const {
  Sha256 hash;
  for (const auto& [name, digest] : files) hash.update(to_hex(digest) + "  " + name + "\n");
  return hash.digest();
}

Result<std::string> model_statement(const ModelManifest& manifest, std::string_view name) {
  json resources = json::array();
  for (const auto& [file, digest] : manifest.files)
    resources.push_back({{"name", file}, {"digest", to_hex(digest)}, {"algorithm", "sha256"}});
  const json statement = {
      {"_type", kStatementType},
      {"subject",
       json::array({{{"name", name}, {"digest", {{"sha256", to_hex(manifest.root())}}}}})},
      {"predicateType", kPredicateType},
      {"predicate",
       {{"resources", resources},
        {"serialization",
         {{"method", "files"},
          {"hash_type", "sha256"},
          {"allow_symlinks", false},
          {"ignore_paths", json::array({kModelSignatureFile, kCosignaturesDirectory})}}}}}};
  return canonical_json(statement);
}

Result<std::string> sign_model(const ModelManifest& manifest, std::string_view name,
                               const ModelKey& key) {
  NAITE_ASSIGN(const std::string payload, model_statement(manifest, name));
  NAITE_ASSIGN(const std::string signature, key.sign(pre_authentication_encoding(payload)));
  return ModelSignature{payload, signature, key.hint(), manifest}.text();
}

Result<std::string> ModelSignature::text() const {
  const json bundle = {
      {"mediaType", kMediaType},
      {"verificationMaterial", {{"publicKey", {{"hint", hint}}}, {"tlogEntries", json::array()}}},
      {"dsseEnvelope",
       {{"payload", to_base64(payload)},
        {"payloadType", kPayloadType},
        {"signatures", json::array({{{"sig", to_base64(signature)}, {"keyid", ""}}})}}}};
  NAITE_ASSIGN(const std::string text, canonical_json(bundle));
  return text + "\n";
}

Result<ModelSignature> ModelSignature::parse(std::string_view bundle, std::string_view where) {
  NAITE_ASSIGN(const json value, parse_json(bundle, where));
  const json& envelope = at(value, {"dsseEnvelope"});
  const json& signatures = at(envelope, {"signatures"});
  const std::optional<std::string> payload = from_base64(text_at(envelope, {"payload"}));
  if (text_at(value, {"mediaType"}) != kMediaType || !payload ||
      text_at(envelope, {"payloadType"}) != kPayloadType || !signatures.is_array() ||
      signatures.size() != 1)
    return fail("{}: not a sigstore bundle with one DSSE signature of a statement", where);
  const std::optional<std::string> signature = from_base64(text_at(signatures[0], {"sig"}));
  if (!signature) return fail("{}: the signature is not base64", where);
  NAITE_ASSIGN(const json statement, parse_json(*payload, where));
  ModelSignature out{
      *payload, *signature, text_at(value, {"verificationMaterial", "publicKey", "hint"}), {}};
  NAITE_ASSIGN(out.manifest, parse_statement(statement, where));
  for (const json& path : at(statement, {"predicate", "serialization", "ignore_paths"}))
    if (path.is_string()) out.ignored.push_back(path.get<std::string>());
  return out;
}

bool ModelSignature::is_signed_by(const ModelKey& key) const {
  return hint == key.hint() && key.verify(pre_authentication_encoding(payload), signature);
}

}  // namespace naite::ledger
