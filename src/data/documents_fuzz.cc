// SPDX-License-Identifier: Apache-2.0
// Every reader of source files: the first byte chooses kind, packing and how documents are told
// apart, the rest is the file. Whatever stands in it, what comes out is UTF-8 and bounded, and
// plain text comes out whole unless it is said what it is.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "data/documents.h"
#include "data/encodings.h"
#include "data/unicode.h"

namespace naite::data {
namespace {

int check(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const char* const kEndings[] = {".txt", ".html", ".jsonl"};
  static const char* const kPackings[] = {"", ".gz", ".zst"};
  static const char* const kDocuments[] = {"file", "line", "blank_line"};
  const unsigned pick = data[0];
  InputFile file;
  file.path = fmt::format("/dev/shm/naite-fuzz-{}{}{}", ::getpid(), kEndings[pick % 3],
                          kPackings[pick / 3 % 3]);
  file.kind = static_cast<TextKind>(pick % 3);
  const std::string content(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (!write_file(file.path, content).ok()) std::abort();
  SourceOptions source;
  source.document = kDocuments[pick / 9 % 3];
  ReadCounts counts;
  ManifestFile hashed;
  std::string all;
  const Status status = read_documents(
      file, source, pick >= 128,
      [&](const Document& document) -> Result<bool> {
        if (document.text.empty() || document.text.size() > kPartMax + 1) std::abort();
        if (find_invalid_utf8(document.text) != document.text.size()) std::abort();
        all += document.text;
        return true;
      },
      counts, &hashed);
  const bool plain = file.kind == TextKind::kPlain && pick / 3 % 3 == 0;
  const bool text = find_invalid_utf8(content) == content.size() && !what_is(content) &&
                    guess_wide_encoding(content).empty();
  const bool page = what_is(content) && what_is(content)->kind == ForeignKind::kWebPage;
  if (plain && !page && status.ok() != text) std::abort();
  if (plain && text && source.document == "file" && all != without_byte_order_mark(content))
    std::abort();
  if (counts.first.size() + counts.notes.size() > 2 * ReadCounts::kShownMax) std::abort();
  for (const std::string& line : counts.first)
    if (line.find('\n') != std::string::npos) std::abort();
  if (!status.ok() && status.error().message.find('\n') != std::string::npos) std::abort();
  ::unlink(file.path.c_str());
  return 0;
}

}  // namespace
}  // namespace naite::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return naite::data::check(data, size);
}
