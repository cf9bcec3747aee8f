// SPDX-License-Identifier: Apache-2.0
#include "data/documents.h"

#include <algorithm>
#include <string>
#include <vector>

#include "data/html.h"
#include "data/input_stream.h"
#include "data/json_lines.h"
#include "data/split.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

using Visit = std::function<Result<bool>(const Document&)>;

// Collects the text of one document at a time and hands it on, in parts if it is long.
class Builder {
 public:
  Builder(const Visit& visit, ReadCounts& counts) : visit_(visit), counts_(counts) {}

  bool stopped() const { return stopped_; }

  Status append(std::string_view text) {
    while (!text.empty() && !stopped_) {
      // One byte more than a part: so that what is left at the end is never nothing.
      const size_t taken = std::min(text.size(), kPartMax + 1 - pending_.size());
      pending_.append(text.substr(0, taken));
      text.remove_prefix(taken);
      if (pending_.size() > kPartMax) NAITE_TRY(give_part());
    }
    return {};
  }

  Status end_document() {
    if (stopped_) return {};
    if (pending_.empty() && begins_) {
      ++counts_.empty_documents;
      return {};
    }
    NAITE_ASSIGN(const bool more, visit_({pending_, begins_, true}));
    stopped_ = !more;
    pending_.clear();
    begins_ = true;
    return {};
  }

  std::string_view pending() const { return pending_; }
  bool begun() const { return !begins_ || !pending_.empty(); }

 private:
  Status give_part() {
    size_t cut = safe_cut(pending_, kPartMax);
    if (cut == 0) cut = std::max<size_t>(floor_to_char(pending_, kPartMax), 1);
    NAITE_ASSIGN(const bool more,
                 visit_({std::string_view(pending_).substr(0, cut), begins_, false}));
    stopped_ = !more;
    begins_ = false;
    pending_.erase(0, cut);
    return {};
  }

  const Visit& visit_;
  ReadCounts& counts_;
  std::string pending_;
  bool begins_ = true, stopped_ = false;
};

class FileReader {
 public:
  FileReader(const InputFile& file, const SourceOptions& source, bool strict, const Visit& visit,
             ReadCounts& counts)
      : file_(file), source_(source), strict_(strict), counts_(counts), builder_(visit, counts) {}

  Status read(ManifestFile* hashed) {
    NAITE_ASSIGN(InputStream stream, InputStream::open(file_.path));
    std::vector<char> chunk(size_t{1} << 18);
    while (!builder_.stopped()) {
      NAITE_ASSIGN(const size_t size, stream.read(chunk));
      if (size == 0) break;
      NAITE_TRY(take({chunk.data(), size}));
    }
    if (builder_.stopped()) return {};
    NAITE_TRY(end());
    if (hashed != nullptr && !builder_.stopped())
      *hashed = {file_.path.string(), stream.file_bytes(), stream.sha256()};
    return {};
  }

 private:
  Status take(std::string_view chunk) {
    if (file_.kind == TextKind::kJsonLines)
      return by_lines(chunk, [&](std::string_view line) { return json_line(line); });
    NAITE_TRY(check_utf8(chunk));
    if (file_.kind == TextKind::kHtml) {
      if (whole_.size() + chunk.size() > kLineMax)
        return fail("{}: an HTML file above {} MiB: split it, or convert it to .txt",
                    file_.path.string(), kLineMax >> 20);
      whole_ += chunk;
      return {};
    }
    if (source_.document == "file") return builder_.append(chunk);
    return pieces_of_lines(chunk);
  }

  Status end() {
    if (!unchecked_.empty()) return not_utf8(checked_);
    if (file_.kind == TextKind::kJsonLines) {
      if (!line_.empty()) NAITE_TRY(json_line(line_));
      return {};
    }
    if (file_.kind == TextKind::kHtml) {
      NAITE_ASSIGN(const std::string text, html_to_text(whole_, file_.path.string()));
      NAITE_TRY(builder_.append(text));
      return builder_.end_document();
    }
    if (source_.document == "line" && !line_started_) return {};
    if (source_.document == "blank_line" && !builder_.begun()) return {};
    return builder_.end_document();
  }

  // --- UTF-8 ------------------------------------------------------------------------------------

  Error not_utf8(int64_t offset) const {
    return fail("{}: not UTF-8 at byte {}: convert the file, for example with iconv -t UTF-8",
                file_.path.string(), offset);
  }

  // Checks the stream chunk by chunk; up to three bytes of a character wait for its rest.
  Status check_utf8(std::string_view chunk) {
    if (!unchecked_.empty()) {
      const size_t borrowed = std::min<size_t>(chunk.size(), 4);
      const size_t waiting = unchecked_.size();
      unchecked_ += chunk.substr(0, borrowed);
      const Char c = decode_char(unchecked_, 0);
      if (c.code == kInvalid && borrowed < 4 && could_begin(unchecked_)) return {};
      if (c.code == kInvalid) return not_utf8(checked_);
      checked_ += c.size;
      chunk.remove_prefix(c.size - waiting);
      unchecked_.clear();
    }
    const size_t valid = find_invalid_utf8(chunk);
    checked_ += static_cast<int64_t>(valid);
    if (valid == chunk.size()) return {};
    if (!could_begin(chunk.substr(valid))) return not_utf8(checked_);
    unchecked_ = chunk.substr(valid);
    return {};
  }

  // Whether more bytes could make these (fewer than four) a valid character.
  static bool could_begin(std::string_view bytes) {
    if (bytes.size() > 3) return false;
    std::string padded(bytes);
    for (const char filler : {'\x80', '\x90', '\xbf'}) {
      padded.resize(bytes.size());
      padded.resize(4, filler);
      if (decode_char(padded, 0).size > bytes.size()) return true;
      // A second byte is bound by its lead byte; the others take any continuation.
    }
    return false;
  }

  // --- lines ------------------------------------------------------------------------------------

  template <class Take>
  Status by_lines(std::string_view chunk, Take take) {
    while (!chunk.empty() && !builder_.stopped()) {
      const size_t newline = chunk.find('\n');
      const std::string_view piece = chunk.substr(0, newline);
      if (line_.size() + piece.size() > kLineMax)
        return fail("{}:{}: a line above {} MiB: is this really JSONL?", file_.path.string(),
                    line_number_, kLineMax >> 20);
      if (newline == std::string_view::npos) {
        line_ += piece;
        return {};
      }
      if (line_.empty()) {
        NAITE_TRY(take(piece));
      } else {
        line_ += piece;
        NAITE_TRY(take(line_));
        line_.clear();
      }
      ++line_number_;
      chunk.remove_prefix(newline + 1);
    }
    return {};
  }

  Status json_line(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) return {};
    const Result<std::string_view> text = lines_.text_of(line, source_.text_key);
    if (!text) {
      const Error error =
          fail("{}:{}: {}", file_.path.string(), line_number_, text.error().message);
      if (strict_) return error;
      ++counts_.lines_skipped;
      return {};
    }
    NAITE_TRY(builder_.append(*text));
    return builder_.end_document();
  }

  // Plain text by line or blank line: lines are not collected, so they may be of any length. A
  // newline is held back until it is known to lie inside a document; a carriage return likewise.
  Status pieces_of_lines(std::string_view chunk) {
    const bool by_line = source_.document == "line";
    while (!chunk.empty() && !builder_.stopped()) {
      const size_t newline = chunk.find('\n');
      const std::string_view piece = chunk.substr(0, newline);
      if (!piece.empty()) NAITE_TRY(line_piece(piece, by_line));
      if (newline == std::string_view::npos) return {};
      chunk.remove_prefix(newline + 1);
      NAITE_TRY(by_line ? end_line_document() : end_line_of_paragraph());
    }
    return {};
  }

  Status line_piece(std::string_view piece, bool by_line) {
    line_started_ = true;
    // Spaces alone do not yet make a line of a paragraph.
    if (!by_line && line_blank_) {
      const size_t text = piece.find_first_not_of(" \t\r");
      if (text == std::string_view::npos && blanks_.size() + piece.size() < kPartMax) {
        blanks_ += piece;
        return {};
      }
      line_blank_ = false;
      if (builder_.begun()) NAITE_TRY(builder_.append(held_return_ ? "\r\n" : "\n"));
      held_return_ = false;
      NAITE_TRY(builder_.append(blanks_));
      blanks_.clear();
    }
    if (held_return_) NAITE_TRY(builder_.append("\r"));
    held_return_ = piece.ends_with('\r');
    if (held_return_) piece.remove_suffix(1);
    return builder_.append(piece);
  }

  Status end_line_document() {
    held_return_ = false;
    line_started_ = false;
    return builder_.end_document();
  }

  Status end_line_of_paragraph() {
    blanks_.clear();
    if (line_blank_) held_return_ = false;
    if (line_blank_ && builder_.begun()) NAITE_TRY(builder_.end_document());
    line_blank_ = true;
    return {};
  }

  const InputFile& file_;
  const SourceOptions& source_;
  bool strict_;
  ReadCounts& counts_;
  Builder builder_;
  JsonLines lines_;
  std::string whole_, line_, blanks_, unchecked_;
  int64_t checked_ = 0, line_number_ = 1;
  bool held_return_ = false, line_started_ = false, line_blank_ = true;
};

}  // namespace

Status read_documents(const InputFile& file, const SourceOptions& source, bool strict,
                      const Visit& visit, ReadCounts& counts, ManifestFile* hashed) {
  return FileReader(file, source, strict, visit, counts).read(hashed);
}

}  // namespace naite::data
