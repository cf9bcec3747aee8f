// SPDX-License-Identifier: Apache-2.0
#include "data/documents.h"

#include <algorithm>
#include <string>
#include <vector>

#include "data/encodings.h"
#include "data/html.h"
#include "data/input_stream.h"
#include "data/json_lines.h"
#include "data/parquet.h"
#include "data/split.h"
#include "data/text_head.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

using Visit = std::function<Result<bool>(const Document&)>;

constexpr int64_t kUnpackingNoted = int64_t{256} << 20;

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
             ReadCounts& counts, const std::atomic<bool>* stop)
      : file_(file),
        source_(source),
        strict_(strict),
        counts_(counts),
        stop_(stop),
        builder_(visit, counts) {}

  Status read(ManifestFile* hashed) {
    NAITE_TRY(check_stop(stop_));
    if (file_.kind == TextKind::kParquet) return read_rows(hashed);
    NAITE_ASSIGN(InputStream stream, InputStream::open(file_.path));
    std::vector<char> chunk(size_t{1} << 18);
    std::string head;  // enough of the beginning to tell what the file is
    bool ended = false;
    while (!ended && head.size() < kForeignBytes) {
      NAITE_ASSIGN(const size_t size, stream.read(chunk));
      head.append(chunk.data(), size);
      ended = size == 0;
    }
    NAITE_TRY(check_head(file_, head, ended, counts_));
    const std::string_view text = without_byte_order_mark(head);
    checked_ = static_cast<int64_t>(head.size() - text.size());
    NAITE_TRY(take(text));
    while (!ended && !builder_.stopped()) {
      NAITE_TRY(check_stop(stop_));
      NAITE_ASSIGN(const size_t size, stream.read(chunk));
      if (size == 0) break;
      NAITE_TRY(take({chunk.data(), size}));
    }
    if (builder_.stopped()) return {};
    NAITE_TRY(end());
    if (stream.unpacking_bytes() > kUnpackingNoted)
      counts_.note(fmt::format("{} takes {} MiB of memory to unpack", file_.path.string(),
                               stream.unpacking_bytes() >> 20));
    if (hashed != nullptr && !builder_.stopped())
      *hashed = {file_.path.string(), stream.file_bytes(), stream.sha256()};
    return {};
  }

 private:
  Status read_rows(ManifestFile* hashed) {
    NAITE_ASSIGN(ParquetFile rows, ParquetFile::open(file_.path, source_.text_key));
    while (!builder_.stopped()) {
      NAITE_TRY(check_stop(stop_));
      NAITE_ASSIGN(const std::optional<ParquetRow> row, rows.next());
      if (!row) break;
      NAITE_TRY(parquet_row(*row));
    }
    if (hashed == nullptr || builder_.stopped()) return {};
    NAITE_ASSIGN(const std::string sha256, sha256_file(file_.path));
    *hashed = {file_.path.string(), rows.file_bytes(), sha256};
    return {};
  }

  Status parquet_row(const ParquetRow& row) {
    ++counts_.records;
    ++counts_.rows;
    if (!row.problem.empty()) {
      std::string why = fmt::format("{}: row {}: {}", file_.path.string(), row.number, row.problem);
      if (strict_) return fail("{}", why);
      counts_.skip(row.null ? "null" : "not UTF-8", std::move(why));
      return {};
    }
    NAITE_TRY(builder_.append(row.text));
    return builder_.end_document();
  }

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
    if (!unchecked_.empty())
      return fail("{}: not UTF-8 at byte {}, its end: if it was cut off, fetch it again; {}",
                  file_.path.string(), checked_, not_utf8_advice(unchecked_, file_.path));
    if (file_.kind == TextKind::kJsonLines) {
      if (!line_.empty()) NAITE_TRY(json_line(line_));
      return {};
    }
    if (file_.kind == TextKind::kHtml) {
      NAITE_ASSIGN(const std::string text, html_to_text(whole_, file_.path.string(), stop_));
      NAITE_TRY(check_stop(stop_));
      ++counts_.records;
      if (text.empty() && !whole_.empty()) {
        ++counts_.empty_pages;
        counts_.first_reason(file_.path.string() + ": no main text in this page");
      }
      NAITE_TRY(builder_.append(text));
      return builder_.end_document();
    }
    if (source_.document == "line" && !line_started_) return {};
    if (source_.document == "blank_line" && !builder_.begun()) return {};
    return builder_.end_document();
  }

  // --- UTF-8 ------------------------------------------------------------------------------------

  // `chunk` holds the place that is not UTF-8, which is byte `checked_` of the text.
  Error not_utf8(std::string_view chunk) const {
    const std::string where =
        fmt::format("{}: not UTF-8 at byte {}", file_.path.string(), checked_);
    if (file_.kind == TextKind::kHtml)
      if (const std::string encoding = declared_encoding(whole_ + std::string(chunk), chunk);
          !encoding.empty())
        return fail("{}: the page declares another charset: {}", where,
                    iconv_advice(encoding, file_.path));
    return fail("{}: {}", where, not_utf8_advice(chunk, file_.path));
  }

  // Checks the stream chunk by chunk; up to three bytes of a character wait for its rest.
  Status check_utf8(std::string_view chunk) {
    if (!unchecked_.empty()) {
      const size_t borrowed = std::min<size_t>(chunk.size(), 4);
      const size_t waiting = unchecked_.size();
      unchecked_ += chunk.substr(0, borrowed);
      const Char c = decode_char(unchecked_, 0);
      if (c.code == kInvalid && borrowed < 4 && could_begin(unchecked_)) return {};
      if (c.code == kInvalid) return not_utf8(unchecked_.substr(0, waiting) + std::string(chunk));
      checked_ += c.size;
      chunk.remove_prefix(c.size - waiting);
      unchecked_.clear();
    }
    const size_t valid = find_invalid_utf8(chunk);
    checked_ += static_cast<int64_t>(valid);
    if (valid == chunk.size()) return {};
    if (!could_begin(chunk.substr(valid))) return not_utf8(chunk);
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
    line = without_byte_order_mark(line);  // files were joined, or this is the first line
    if (line.find_first_not_of(" \t") == std::string_view::npos) return {};
    ++counts_.records;
    const auto found = lines_.text_of(line, source_.text_key);
    if (const auto* refusal = std::get_if<JsonLines::Refusal>(&found)) {
      const bool shown = strict_ || counts_.first.size() < ReadCounts::kShownMax;
      Error error = shown ? line_error(line, refusal->why) : Error{};
      if (strict_) return error;
      counts_.skip(refusal->kind, std::move(error.message));
      return {};
    }
    NAITE_TRY(builder_.append(std::get<std::string_view>(found)));
    return builder_.end_document();
  }

  Error line_error(std::string_view line, const std::string& why) const {
    const bool is_utf8 = find_invalid_utf8(line) == line.size();
    return fail("{}:{}: {}{}", file_.path.string(), line_number_, why,
                is_utf8 ? "" : ": " + not_utf8_advice(line, file_.path));
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
  const std::atomic<bool>* stop_;
  Builder builder_;
  JsonLines lines_;
  std::string whole_, line_, blanks_, unchecked_;
  int64_t checked_ = 0, line_number_ = 1;
  bool held_return_ = false, line_started_ = false, line_blank_ = true;
};

}  // namespace

void ReadCounts::first_reason(std::string where_and_why) {
  if (first.size() < kShownMax) first.push_back(std::move(where_and_why));
}

void ReadCounts::skip(const std::string& kind, std::string where_and_why) {
  ++lines_skipped;
  ++reasons[kind];
  first_reason(std::move(where_and_why));
}

void ReadCounts::note(std::string line) {
  if (notes.size() < kShownMax)
    notes.push_back(std::move(line));
  else
    ++notes_left_out;
}

Status read_documents(const InputFile& file, const SourceOptions& source, bool strict,
                      const Visit& visit, ReadCounts& counts, ManifestFile* hashed,
                      const std::atomic<bool>* stop) {
  return FileReader(file, source, strict, visit, counts, stop).read(hashed);
}

}  // namespace naite::data
