// SPDX-License-Identifier: Apache-2.0
#include "data/text_head.h"

#include "data/encodings.h"
#include "data/input_stream.h"
#include "data/json_lines.h"

namespace naite::data {

namespace {

Status check_foreign(const InputFile& file, const ForeignFile& foreign, ReadCounts& counts) {
  const std::string path = file.path.string();
  const bool page = foreign.kind == ForeignKind::kWebPage;
  if (page && file.kind == TextKind::kHtml) return {};
  if (page && file.kind == TextKind::kPlain) {
    counts.note(fmt::format("{} looks like {} and is read as plain text", path, foreign.what));
    return {};
  }
  if (packing_of(file.path) == Packing::kNone)
    return fail("{} is {}: {}", path, foreign.what, foreign.advice);
  if (foreign.kind == ForeignKind::kEncoding)
    return fail("{} holds {}: {}", path, foreign.what,
                iconv_advice(foreign.what.substr(0, foreign.what.find(' ')), file.path));
  return fail("{}: what it unpacks to is {}: unpack it, then {}", path, foreign.what,
              foreign.advice);
}

}  // namespace

Status check_head(const InputFile& file, std::string_view head, bool ended, ReadCounts& counts) {
  if (const std::optional<ForeignFile> foreign = what_is(head))
    NAITE_TRY(check_foreign(file, *foreign, counts));
  if (const std::string wide = guess_wide_encoding(head); !wide.empty())
    return fail("{} is {} text without a byte-order mark: {}", file.path.string(), wide,
                iconv_advice(wide, file.path));
  if (file.kind != TextKind::kPlain || !surely_json_lines(head, ended)) return {};
  if (kind_of(file.path))
    counts.note(
        fmt::format("{} looks like JSON lines and is read as plain text: name it .jsonl if "
                    "only the text of its objects is meant",
                    file.path.string()));
  else
    return fail(
        "{} looks like JSON lines, and its name does not say so: name it .jsonl, or .txt "
        "to train on the JSON itself",
        file.path.string());
  return {};
}

}  // namespace naite::data
