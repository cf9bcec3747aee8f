// SPDX-License-Identifier: Apache-2.0
#pragma once
// Somebody's text before it is shown to people: names, licences, samples, file names, what a server
// answered. Characters that a terminal obeys or that nobody sees would let it say other than what
// it is: control characters (C0, C1), those that turn the direction of writing, invisible ones
// (zero width, fillers, tags, variation selectors) and bytes that are no UTF-8. They are shown as
// what they are: \n, \t, \x1b for bytes, \u{202e} for characters.
#include <cstdint>
#include <string>
#include <string_view>

namespace naite {

// Whether nobody would see the character as itself.
bool is_unseen(uint32_t code);

// Whether shown_line() leaves the text as it is: what people call things should be so.
bool is_plain_line(std::string_view text);
inline constexpr std::string_view kPlainLine =
    "one line of UTF-8 without control characters and invisible ones";

// As part of a line: line feeds and tabs are escaped, too.
std::string shown_line(std::string_view text);
// As a text: line feeds and tabs stay, and so do joiners and variation selectors behind a character
// that one sees, where scripts and emoji need them.
std::string shown_text(std::string_view text);
// The same JSON, with such characters of its strings as JSON's own escapes.
std::string shown_json(std::string_view json);

}  // namespace naite
