// SPDX-License-Identifier: Apache-2.0
#pragma once
// Signed notes (c2sp.org/signed-note), checkpoints (c2sp.org/tlog-checkpoint) and cosignatures
// (c2sp.org/tlog-cosignature), with Ed25519 keys.
//
//   TEXT            ends in a line feed
//                   an empty line; the last one of the note
//   — NAME BASE64   one line a signature: U+2014, space, name, space,
//                   base64(key id[4] || signature[64])            type 01, signs TEXT
//                   base64(key id[4] || time u64 || signature[64]) type 04, signs
//                                                  "cosignature/v1\ntime T\n" TEXT
//   key id = SHA-256(NAME || 0A || type || public key)[:4], big-endian
//   public key "vkey":  NAME+hex(key id)+base64(type || public key[32])
//   private key:        PRIVATE+KEY+NAME+hex(key id)+base64(01 || seed[32])
//
// The text of a head: ORIGIN "\n" SIZE "\n" base64(root) "\n" [extension lines].
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::ledger {

inline constexpr size_t kNoteBytesMax = 65536;  // longer notes are refused unread
inline constexpr int kSignaturesMax = 100;

enum class KeyType : uint8_t { kEd25519 = 1, kCosignature = 4 };

// A public key under its name.
struct Verifier {
  std::string name;
  KeyType type = KeyType::kEd25519;
  Digest key{};

  static Result<Verifier> parse(std::string_view vkey);
  uint32_t key_id() const;
  std::string vkey() const;
  bool operator==(const Verifier&) const = default;
};

// A private key under its name. What it makes is a function of its input alone.
class Signer {
 public:
  static Result<Signer> make(std::string_view name);  // from the system's randomness
  static Result<Signer> parse(std::string_view skey);
  std::string skey() const;

  // The same key under another name: each log of a publisher has an origin of its own.
  Result<Signer> renamed(std::string_view name) const;
  Verifier verifier(KeyType type = KeyType::kEd25519) const;
  const std::string& name() const { return name_; }

  std::string signature_line(std::string_view text) const;  // with its line feed
  std::string cosignature_line(std::string_view text, uint64_t seconds) const;  // likewise

 private:
  std::string sign(std::string_view message) const;
  std::string name_;
  Digest seed_{}, public_{};
};

struct NoteSignature {
  std::string name;
  uint32_t key_id = 0;
  std::string bytes;         // what follows the key id
  std::string line() const;  // with its line feed
};

struct Note {
  std::string text;  // with its final line feed
  std::vector<NoteSignature> signatures;

  static Result<Note> parse(std::string_view note, std::string_view where,
                            size_t bytes_max = kNoteBytesMax);
};

// Whether the note carries a valid signature of `verifier`. No signature under its name and id is
// false; one that is there and wrong is an error.
Result<bool> verify_note(const Note& note, const Verifier& verifier);
// The time that a cosigner states with a valid signature; none if it has not signed.
Result<std::optional<uint64_t>> verify_cosignature(const Note& note, const Verifier& verifier);

// Names of keys and origins: not empty, no white space, no plus, nothing that cannot be seen.
Status check_key_name(std::string_view name);

// The head of a log: how long it is and the root of its tree.
struct Head {
  std::string origin;
  int64_t size = 0;
  Digest root{};

  std::string text() const;
  static Result<Head> parse(std::string_view text, std::string_view where);
  bool operator==(const Head&) const = default;
};

}  // namespace naite::ledger
