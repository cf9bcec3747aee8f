// SPDX-License-Identifier: Apache-2.0
#include "base/foreign_files.h"

#include <algorithm>

namespace naite {

namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  size_t offset;
  std::string_view bytes;
  ForeignFile file;
};

constexpr ForeignFile kPickle = {ForeignKind::kBinary, "a Python pickle (PyTorch's old format)",
                                 "convert it to safetensors where it comes from"};
constexpr ForeignFile kTar = {ForeignKind::kPacked, "a tar archive",
                              "unpack it with `tar -xf FILE`"};
constexpr ForeignFile kZip = {ForeignKind::kPacked,
                              "a zip archive (as Office documents and PyTorch's .bin and .pt are)",
                              "unpack it with `unzip FILE`, or convert it where it comes from"};
constexpr ForeignFile kLz4 = {ForeignKind::kPacked, "lz4 data", "unpack it with `lz4 -d FILE NEW`"};
constexpr ForeignFile kAnnex = {ForeignKind::kPointer, "a git-annex pointer, not the file itself",
                                "`git annex get FILE` fetches the file"};
constexpr ForeignFile kLfs = {ForeignKind::kPointer, "a Git LFS pointer, not the file itself",
                              "`git lfs pull` fetches the file"};
constexpr ForeignFile kPage = {
    ForeignKind::kWebPage, "an HTML page",
    "if it is a server's answer instead of the file, fetch the file again, signed in if need be"};
constexpr ForeignFile kAnswer = {ForeignKind::kWebPage,
                                 "a server's error message instead of the file",
                                 "fetch the file again, signed in if need be"};
constexpr ForeignFile kUtf32 = {ForeignKind::kEncoding, "UTF-32 text (byte-order mark)",
                                "convert it with `iconv -f UTF-32 -t UTF-8 FILE > NEW`"};
constexpr ForeignFile kUtf16 = {ForeignKind::kEncoding, "UTF-16 text (byte-order mark)",
                                "convert it with `iconv -f UTF-16 -t UTF-8 FILE > NEW`"};

// Four bytes of UTF-32 begin like UTF-16, so they come first.
constexpr Signature kSignatures[] = {
    {0, "\xff\xfe\0\0"sv, kUtf32},
    {0, "\0\0\xfe\xff"sv, kUtf32},
    {0, "\xff\xfe"sv, kUtf16},
    {0, "\xfe\xff"sv, kUtf16},
    {0,
     "\x1f\x8b\x08"sv,
     {ForeignKind::kPacked, "gzip data", "name it .gz, or unpack it with `gzip -dc FILE > NEW`"}},
    {0,
     "\x1f\x9d"sv,
     {ForeignKind::kPacked, "compress (.Z) data", "unpack it with `gzip -dc FILE > NEW`"}},
    {0,
     "\x28\xb5\x2f\xfd"sv,
     {ForeignKind::kPacked, "zstd data", "name it .zst, or unpack it with `zstd -dc FILE > NEW`"}},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     {ForeignKind::kPacked, "xz data", "unpack it with `xz -dc FILE > NEW`"}},
    {4,
     "\x31\x41\x59\x26\x53\x59"sv,  // behind "BZh" and a digit: pi
     {ForeignKind::kPacked, "bzip2 data", "unpack it with `bzip2 -dc FILE > NEW`"}},
    {0, "\x04\x22\x4d\x18"sv, kLz4},
    {0, "\x02\x21\x4c\x18"sv, kLz4},
    {0,
     "7z\xbc\xaf\x27\x1c"sv,
     {ForeignKind::kPacked, "a 7z archive", "unpack it with `7z x FILE`"}},
    {0, "Rar!\x1a\x07"sv, {ForeignKind::kPacked, "a rar archive", "unpack it with `unrar x FILE`"}},
    {257, "ustar"sv, kTar},
    {0, "PK\x03\x04"sv, kZip},
    {0, "PK\x05\x06"sv, kZip},
    {0, "\x80\x02"sv, kPickle},
    {0, "\x80\x03"sv, kPickle},
    {0, "\x80\x04\x95"sv, kPickle},
    {0, "\x80\x05\x95"sv, kPickle},
    {0,
     "PAR1\x15"sv,
     {ForeignKind::kBinary, "a Parquet file", "name it .parquet, or write the text as .jsonl"}},
    {0, "ARROW1\0\0"sv, {ForeignKind::kBinary, "an Arrow file", "write the text as .jsonl"}},
    {0,
     "\xff\xff\xff\xff"sv,
     {ForeignKind::kBinary, "an Arrow stream", "write the text as .jsonl"}},
    {0,
     "\x89HDF\r\n\x1a\n"sv,
     {ForeignKind::kBinary, "an HDF5 file", "convert it where it comes from"}},
    {0,
     "SQLite format 3\0"sv,
     {ForeignKind::kBinary, "an SQLite database", "write its text as .jsonl"}},
    {0,
     "%PDF-"sv,
     {ForeignKind::kBinary, "a PDF document", "take its text with `pdftotext FILE NEW`"}},
    {0, "{\\rtf"sv, {ForeignKind::kBinary, "an RTF document", "save it as plain text in UTF-8"}},
    {0,
     "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv,
     {ForeignKind::kBinary, "a Hangul (HWP) or old Office document",
      "save it as plain text in UTF-8"}},
    {0, "\x89PNG\r\n\x1a\n"sv, {ForeignKind::kBinary, "a PNG picture", "leave it out"}},
    {0, "\xff\xd8\xff"sv, {ForeignKind::kBinary, "a JPEG picture", "leave it out"}},
    {0,
     "\x7f"
     "ELF"sv,
     {ForeignKind::kBinary, "a program or library", "leave it out"}},
    {0, "GGUF\x02\0\0\0"sv, {ForeignKind::kBinary, "a GGUF model", "name it .gguf"}},
    {0, "GGUF\x03\0\0\0"sv, {ForeignKind::kBinary, "a GGUF model", "name it .gguf"}},
    {0, "version https://git-lfs.github.com/spec/"sv, kLfs},
    {0, "/annex/objects/"sv, kAnnex},
    {0, "Entry not found"sv, kAnswer},
    {0, "Repository not found"sv, kAnswer},
    {0, "Invalid username or password"sv, kAnswer},
    {0, "Access to model "sv, kAnswer},
    {0, "Access to dataset "sv, kAnswer},
};

bool has_at(std::string_view bytes, const Signature& signature) {
  return bytes.size() > signature.offset &&
         bytes.substr(signature.offset).starts_with(signature.bytes);
}

// Pointers and servers' messages are short; a text about them goes on.
constexpr size_t kShortBytes = 1024;

bool begins_as_page(std::string_view bytes) {
  const size_t begin = without_byte_order_mark(bytes).find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return false;
  const std::string_view rest = without_byte_order_mark(bytes).substr(begin);
  const auto begins_with = [&](std::string_view tag) {
    return rest.size() >= tag.size() &&
           std::equal(tag.begin(), tag.end(), rest.begin(), [](char a, char b) {
             return a == (b >= 'A' && b <= 'Z' ? b + ('a' - 'A') : b);
           });
  };
  return begins_with("<!doctype html") || begins_with("<html");
}

}  // namespace

std::optional<ForeignFile> what_is(std::string_view bytes) {
  for (const Signature& signature : kSignatures) {
    if (!has_at(bytes, signature)) continue;
    const ForeignKind kind = signature.file.kind;
    const bool is_short = bytes.size() <= kShortBytes;
    if ((kind == ForeignKind::kPointer || kind == ForeignKind::kWebPage) && !is_short) continue;
    if (signature.offset == 4 && !bytes.starts_with("BZh")) continue;
    return signature.file;
  }
  if (begins_as_page(bytes)) return kPage;
  return std::nullopt;
}

std::string_view without_byte_order_mark(std::string_view text) {
  while (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return text;
}

}  // namespace naite
