// SPDX-License-Identifier: Apache-2.0
#include "ledger/note.h"

#include <sodium.h>

#include <algorithm>

#include "base/shown.h"
#include "ledger/encoding.h"

namespace naite::ledger {

namespace {

constexpr std::string_view kDash = "\xe2\x80\x94 ";  // U+2014 and a space
constexpr std::string_view kPrivate = "PRIVATE+KEY+";
constexpr size_t kSignatureBytes = 64;

void start_sodium() { NAITE_CHECK(sodium_init() >= 0, "libsodium cannot start"); }

// Splits off what stands before `separator`; the whole rest if it is not there.
std::string_view take_until(std::string_view& rest, char separator) {
  const size_t at = rest.find(separator);
  const std::string_view head = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view() : rest.substr(at + 1);
  return head;
}

uint32_t key_id_of(std::string_view name, KeyType type, const Digest& key) {
  Sha256 hash;
  hash.update(name);
  const char between[2] = {'\n', static_cast<char>(type)};
  hash.update(between, 2);
  hash.update(as_bytes(key));
  const Digest digest = hash.digest();
  return static_cast<uint32_t>(from_big_endian(as_bytes(digest).substr(0, 4)));
}

std::string signature_text(std::string_view name, uint32_t key_id, std::string_view bytes) {
  return fmt::format("{}{} {}\n", kDash, name,
                     to_base64(big_endian(key_id, 4) + std::string(bytes)));
}

bool signature_is_valid(const Digest& key, std::string_view message, std::string_view signature) {
  start_sodium();
  return signature.size() == kSignatureBytes &&
         crypto_sign_verify_detached(reinterpret_cast<const unsigned char*>(signature.data()),
                                     reinterpret_cast<const unsigned char*>(message.data()),
                                     message.size(), key.data()) == 0;
}

std::string cosigned_message(std::string_view text, uint64_t seconds) {
  return fmt::format("cosignature/v1\ntime {}\n{}", seconds, text);
}

std::vector<std::string_view> signatures_of(const Note& note, const Verifier& verifier) {
  const uint32_t id = verifier.key_id();
  std::vector<std::string_view> out;
  for (const NoteSignature& signature : note.signatures)
    if (signature.name == verifier.name && signature.key_id == id) out.push_back(signature.bytes);
  return out;
}

// NAME+hex(id)+base64(type || key): the part that both forms of a key share.
struct KeyText {
  std::string name;
  uint32_t key_id;
  uint8_t type;
  Digest key;
};

Result<KeyText> parse_key_text(std::string_view text) {
  KeyText out;
  out.name = std::string(take_until(text, '+'));
  NAITE_TRY(check_key_name(out.name));
  const std::optional<std::string> id = from_hex(take_until(text, '+'));
  const std::optional<std::string> key = from_base64(text);
  if (!id || id->size() != 4 || !key || key->size() != 33)
    return fail("the key `{}` is not of the form NAME+ID+BASE64 with an Ed25519 key", out.name);
  out.key_id = static_cast<uint32_t>(from_big_endian(*id));
  out.type = static_cast<uint8_t>((*key)[0]);
  std::copy(key->begin() + 1, key->end(), out.key.begin());
  return out;
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f;
  });
}

// One line behind the text. An unknown form of signature is kept: only known keys are judged.
Result<NoteSignature> parse_signature(std::string_view line, std::string_view where) {
  const Error malformed = fail("{}: a signature line is malformed", where);
  if (!line.starts_with(kDash)) return malformed;
  line.remove_prefix(kDash.size());
  NoteSignature out;
  out.name = std::string(take_until(line, ' '));
  const std::optional<std::string> bytes = from_base64(line);
  if (!check_key_name(out.name) || !bytes || bytes->size() < 5) return malformed;
  out.key_id = static_cast<uint32_t>(from_big_endian(bytes->substr(0, 4)));
  out.bytes = bytes->substr(4);
  return out;
}

}  // namespace

Status check_key_name(std::string_view name) {
  // The white space of Unicode beyond ASCII, in UTF-8.
  static constexpr std::string_view kSpaces[] = {"\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xaf",
                                                 "\xe2\x81\x9f", "\xe3\x80\x80"};
  bool valid = !name.empty() && name.size() <= 512 && is_plain_line(name);
  valid = valid && name.find_first_of(" +") == std::string_view::npos;
  for (const std::string_view space : kSpaces)
    valid = valid && name.find(space) == std::string_view::npos;
  for (char c = '\x80'; c <= '\x8a'; ++c)  // U+2000 to U+200A
    valid = valid && name.find(std::string("\xe2\x80") + c) == std::string_view::npos;
  if (valid) return {};
  return fail("a key's name must be a short text without spaces and `+`, such as example.org/team");
}

Result<Verifier> Verifier::parse(std::string_view vkey) {
  NAITE_ASSIGN(const KeyText text, parse_key_text(vkey));
  Verifier out;
  out.name = text.name;
  out.type = static_cast<KeyType>(text.type);
  out.key = text.key;
  if (text.type != 1 && text.type != 4)
    return fail("the key `{}` has the type {:02x}: Ed25519 keys (01, 04) are understood", text.name,
                text.type);
  if (text.key_id != out.key_id())
    return fail("the key `{}` is damaged: its id does not fit", text.name);
  return out;
}

uint32_t Verifier::key_id() const { return key_id_of(name, type, key); }

std::string Verifier::vkey() const {
  return fmt::format("{}+{:08x}+{}", name, key_id(),
                     to_base64(std::string(1, static_cast<char>(type)).append(as_bytes(key))));
}

Result<Signer> Signer::make(std::string_view name) {
  start_sodium();
  NAITE_TRY(check_key_name(name));
  Signer out;
  out.name_ = std::string(name);
  randombytes_buf(out.seed_.data(), out.seed_.size());
  std::array<unsigned char, crypto_sign_SECRETKEYBYTES> secret;
  crypto_sign_seed_keypair(out.public_.data(), secret.data(), out.seed_.data());
  return out;
}

Result<Signer> Signer::parse(std::string_view skey) {
  start_sodium();
  while (skey.ends_with('\n')) skey.remove_suffix(1);
  if (!skey.starts_with(kPrivate)) return fail("not a private key: it begins with {}", kPrivate);
  NAITE_ASSIGN(const KeyText text, parse_key_text(skey.substr(kPrivate.size())));
  Signer out;
  out.name_ = text.name;
  out.seed_ = text.key;
  std::array<unsigned char, crypto_sign_SECRETKEYBYTES> secret;
  crypto_sign_seed_keypair(out.public_.data(), secret.data(), out.seed_.data());
  if (text.type != 1 || text.key_id != out.verifier().key_id())
    return fail("the private key `{}` is damaged: its id does not fit", text.name);
  return out;
}

std::string Signer::skey() const {
  return fmt::format("{}{}+{:08x}+{}", kPrivate, name_, verifier().key_id(),
                     to_base64(std::string("\1", 1).append(as_bytes(seed_))));
}

Result<Signer> Signer::renamed(std::string_view name) const {
  NAITE_TRY(check_key_name(name));
  Signer out = *this;
  out.name_ = std::string(name);
  return out;
}

Verifier Signer::verifier(KeyType type) const { return {name_, type, public_}; }

std::string Signer::sign(std::string_view message) const {
  std::array<unsigned char, crypto_sign_SECRETKEYBYTES> secret;
  Digest ignored;
  crypto_sign_seed_keypair(ignored.data(), secret.data(), seed_.data());
  std::string out(kSignatureBytes, '\0');
  crypto_sign_detached(reinterpret_cast<unsigned char*>(out.data()), nullptr,
                       reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                       secret.data());
  sodium_memzero(secret.data(), secret.size());
  return out;
}

std::string Signer::signature_line(std::string_view text) const {
  return signature_text(name_, verifier().key_id(), sign(text));
}

std::string Signer::cosignature_line(std::string_view text, uint64_t seconds) const {
  return signature_text(name_, verifier(KeyType::kCosignature).key_id(),
                        big_endian(seconds, 8) + sign(cosigned_message(text, seconds)));
}

std::string NoteSignature::line() const { return signature_text(name, key_id, bytes); }

Result<Note> Note::parse(std::string_view note, std::string_view where, size_t bytes_max) {
  if (note.size() > bytes_max)
    return fail("{}: {} bytes, a signed note has at most {}", where, note.size(), bytes_max);
  if (!is_utf8(note) || has_control_characters(note))
    return fail("{}: not a signed note: it is not plain UTF-8 text", where);
  const size_t separator = note.rfind("\n\n");
  if (separator == std::string_view::npos || !note.ends_with('\n') || separator + 2 == note.size())
    return fail("{}: not a signed note: it has no signatures", where);
  Note out;
  out.text = std::string(note.substr(0, separator + 1));
  std::string_view rest = note.substr(separator + 2);
  while (!rest.empty()) {
    if (out.signatures.size() == kSignaturesMax)
      return fail("{}: more than {} signatures", where, kSignaturesMax);
    NAITE_ASSIGN(NoteSignature signature, parse_signature(take_until(rest, '\n'), where));
    out.signatures.push_back(std::move(signature));
  }
  return out;
}

Result<bool> verify_note(const Note& note, const Verifier& verifier) {
  const std::vector<std::string_view> signatures = signatures_of(note, verifier);
  for (const std::string_view signature : signatures)
    if (!signature_is_valid(verifier.key, note.text, signature))
      return fail("the signature of {} is wrong", verifier.name);
  return !signatures.empty();
}

Result<std::optional<uint64_t>> verify_cosignature(const Note& note, const Verifier& verifier) {
  std::optional<uint64_t> newest;
  for (const std::string_view bytes : signatures_of(note, verifier)) {
    const bool fits = bytes.size() == 8 + kSignatureBytes;
    const uint64_t seconds = fits ? from_big_endian(bytes.substr(0, 8)) : 0;
    if (!fits ||
        !signature_is_valid(verifier.key, cosigned_message(note.text, seconds), bytes.substr(8)))
      return fail("the cosignature of {} is wrong", verifier.name);
    newest = std::max(newest.value_or(0), seconds);
  }
  return newest;
}

std::string Head::text() const {
  return fmt::format("{}\n{}\n{}\n", origin, size, to_base64(as_bytes(root)));
}

Result<Head> Head::parse(std::string_view text, std::string_view where) {
  Head out;
  out.origin = std::string(take_until(text, '\n'));
  const std::optional<int64_t> size = from_decimal(take_until(text, '\n'));
  const std::optional<std::string> root = from_base64(take_until(text, '\n'));
  if (out.origin.empty() || !size || !root || root->size() != 32)
    return fail("{}: not a checkpoint: origin, size and root hash must be its first lines", where);
  out.size = *size;
  std::copy(root->begin(), root->end(), out.root.begin());
  return out;
}

}  // namespace naite::ledger
