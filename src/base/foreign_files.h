// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a file is that was taken for something else. A reader that cannot make sense of a file asks
// here before it calls the file damaged: most such files are sound, and of another kind (a Git LFS
// pointer, an error page of a web server, an archive), for which there is a command that helps.
#include <cstddef>
#include <optional>
#include <string_view>

namespace naite {

enum class ForeignKind {
  kPointer,   // stands for a file that is elsewhere
  kWebPage,   // HTML, or a server's error message
  kPacked,    // compressed, or an archive
  kEncoding,  // text in UTF-16 or UTF-32
  kBinary,    // a document, picture, table or model
};

struct ForeignFile {
  ForeignKind kind;
  std::string_view what;    // "a Git LFS pointer, not the file itself"
  std::string_view advice;  // "`git lfs pull` fetches the file"
};

// So many bytes from the beginning of a file are enough.
inline constexpr size_t kForeignBytes = 4096;

// By the first bytes, never by the name; nothing for plain text and for kinds that are not known.
std::optional<ForeignFile> what_is(std::string_view bytes);

// The mark at the beginning of UTF-8 text that Windows programs write. It is no part of the text.
inline constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
std::string_view without_byte_order_mark(std::string_view text);

}  // namespace naite
