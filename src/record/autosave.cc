// SPDX-License-Identifier: Apache-2.0
#include "record/autosave.h"

#include <sstream>

#include "base/json_text.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

Result<std::string> text_of(const fs::path& directory, int64_t step, const std::string& origin,
                            std::span<const Digest> leaves) {
  NAITE_ASSIGN(const std::string record, sha256_file(directory / "record.json"));
  return fmt::format("naite-autosave-v1\n{}\n{}\n{}\n{}\n{}\n", origin, step, leaves.size(),
                     ledger::to_base64(ledger::as_bytes(ledger::tree_root(leaves))), record);
}

// The size of the log that a note states; -1 if it states none that `leaves` have.
int64_t size_in(const std::string& text, std::span<const Digest> leaves) {
  std::istringstream lines(text);
  std::string line;
  for (int i = 0; i < 4; ++i) std::getline(lines, line);
  const std::optional<int64_t> size = ledger::from_decimal(line);
  return size && *size <= static_cast<int64_t>(leaves.size()) ? *size : -1;
}

}  // namespace

Status sign_autosave(const fs::path& directory, int64_t step, const ledger::Signer& signer,
                     std::span<const Digest> leaves) {
  NAITE_ASSIGN(const std::string text, text_of(directory, step, signer.name(), leaves));
  return write_file(directory / kAutosaveSignature, text + "\n" + signer.signature_line(text));
}

Status check_autosave(const fs::path& directory, int64_t step, const ledger::Verifier& log,
                      std::span<const Digest> leaves) {
  const fs::path file = directory / kAutosaveSignature;
  const auto foreign = [&](std::string_view why) {
    return fail(
        "{} was not stored by this run ({}): remove it to go on from the state before it; nothing "
        "else needs it",
        directory.string(), why);
  };
  std::error_code code;
  if (!fs::exists(file, code)) return foreign("it has no signature of the log's key");
  NAITE_ASSIGN(const std::string bytes,
               read_file(file, static_cast<int64_t>(ledger::kNoteBytesMax)));
  const Result<ledger::Note> note = ledger::Note::parse(bytes, file.string());
  if (!note) return foreign(note.error().message);
  const Result<bool> is_signed = ledger::verify_note(*note, log);
  if (!is_signed.ok() || !*is_signed) return foreign("its signature is not of the log's key");
  const int64_t size = size_in(note->text, leaves);
  if (size < 0) return foreign("it continues another log");
  NAITE_ASSIGN(const std::string expected,
               text_of(directory, step, log.name, leaves.first(static_cast<size_t>(size))));
  return note->text == expected ? Status()
                                : Status(foreign("what is signed is another state or another log"));
}

}  // namespace naite::record
