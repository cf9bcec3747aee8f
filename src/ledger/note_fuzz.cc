// SPDX-License-Identifier: Apache-2.0
// Any text of a log: keys, notes, heads, proofs, bundles of entries and names of tiles are refused
// with one short line, or read as what is written the same way again.
#include <cstdlib>
#include <string>

#include "base/fuzz.h"
#include "ledger/ledger.h"

namespace naite::ledger {
namespace {

void read_note(std::string_view text) {
  const Result<Note> note = Note::parse(text, "fuzz");
  if (!note) return expect_short_line(note.error());
  for (const NoteSignature& signature : note->signatures) {
    for (const KeyType type : {KeyType::kEd25519, KeyType::kCosignature}) {
      Verifier verifier{signature.name, type, {}};
      if (const auto known = verify_note(*note, verifier); !known) expect_short_line(known.error());
      if (const auto time = verify_cosignature(*note, verifier); !time)
        expect_short_line(time.error());
    }
  }
  const Result<Head> head = Head::parse(note->text, "fuzz");
  if (!head) return expect_short_line(head.error());
  require(head->size >= 0 && Head::parse(head->text(), "again").ok());
}

void read_proof(std::string_view text) {
  const Result<LogProof> proof = LogProof::parse(text, "fuzz");
  if (!proof) return expect_short_line(proof.error());
  require(proof->text() == text);
  if (const Status status = proof->verify("entry", {}); !status) expect_short_line(status.error());
}

void read_key(std::string_view text) {
  const Result<Verifier> verifier = Verifier::parse(text);
  if (!verifier) return expect_short_line(verifier.error());
  const Result<Verifier> again = Verifier::parse(verifier->vkey());
  require(again.ok() && *again == *verifier);
}

void read_tiles(std::string_view bytes) {
  const auto name = parse_tile_path(bytes);
  if (name) require(tile_path(name->level, name->number, name->width) == bytes);
  for (const int64_t count : {1, 2, 256}) {
    const auto entries = parse_entry_bundle(bytes, count, "fuzz");
    if (!entries)
      expect_short_line(entries.error());
    else
      require(entry_bundle(*entries) == bytes);
  }
}

}  // namespace
}  // namespace naite::ledger

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  naite::ledger::read_note(text);
  naite::ledger::read_proof(text);
  naite::ledger::read_key(text);
  naite::ledger::read_tiles(text);
  return 0;
}
