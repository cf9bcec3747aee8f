// SPDX-License-Identifier: Apache-2.0
#include "ledger/proof.h"

#include <algorithm>

#include "ledger/encoding.h"
#include "ledger/merkle.h"

namespace naite::ledger {

namespace {

constexpr std::string_view kFirstLine = "c2sp.org/tlog-proof@v1\n";
constexpr size_t kHashesMax = 63;

}  // namespace

std::string LogProof::text() const {
  std::string out(kFirstLine);
  if (extra) out += fmt::format("extra {}\n", to_base64(*extra));
  out += fmt::format("index {}\n", index);
  for (const Digest& hash : hashes) out += to_base64(as_bytes(hash)) + "\n";
  return out + "\n" + head;
}

Result<LogProof> LogProof::parse(std::string_view text, std::string_view where) {
  const Error malformed = fail("{}: not a C2SP log proof", where);
  if (!text.starts_with(kFirstLine)) return malformed;
  text.remove_prefix(kFirstLine.size());
  const size_t separator = text.find("\n\n");
  if (separator == std::string_view::npos) return malformed;
  LogProof out;
  out.head = std::string(text.substr(separator + 2));
  std::string_view lines = text.substr(0, separator + 1);
  auto next_line = [&lines] {
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    return line;
  };
  std::string_view line = next_line();
  if (line.starts_with("extra ")) {
    out.extra = from_base64(line.substr(6));
    if (!out.extra || lines.empty()) return malformed;
    line = next_line();
  }
  const std::optional<int64_t> index =
      line.starts_with("index ") ? from_decimal(line.substr(6)) : std::nullopt;
  if (!index) return malformed;
  out.index = *index;
  while (!lines.empty()) {
    const std::optional<std::string> bytes = from_base64(next_line());
    if (!bytes || bytes->size() != 32 || out.hashes.size() == kHashesMax) return malformed;
    std::copy(bytes->begin(), bytes->end(), out.hashes.emplace_back().begin());
  }
  return out;
}

Status LogProof::verify(std::string_view entry, const Verifier& log) const {
  NAITE_ASSIGN(const Note note, Note::parse(head, "the proof's head"));
  NAITE_ASSIGN(const bool is_signed, verify_note(note, log));
  if (!is_signed) return fail("the proof's head is not signed by {}", log.name);
  NAITE_ASSIGN(const Head parsed, Head::parse(note.text, "the proof's head"));
  if (parsed.origin != log.name)
    return fail("the proof is about the log {}, not {}", parsed.origin, log.name);
  if (!verify_inclusion(leaf_hash(entry), index, parsed.size, hashes, parsed.root))
    return fail("the entry is not number {} of the {} in {}", index, parsed.size, parsed.origin);
  return {};
}

}  // namespace naite::ledger
