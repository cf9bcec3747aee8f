// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which encoding a text has that is not UTF-8, to say the command that converts it. Text is never
// decoded here for training: a guess can be wrong, and a recipe must give the same bytes
// everywhere. Guesses are tried with iconv(3) on the bytes at hand, so the advice is one that
// works.
#include <filesystem>
#include <string>
#include <string_view>

namespace naite::data {

// The iconv name of what `bytes` probably are, CP949 or CP932 for example; empty if nothing fits.
// `bytes` are not UTF-8 and begin at a character. One that is cut off at the end is fine.
std::string guess_encoding(std::string_view bytes);

// What to do about `bytes` that are not UTF-8: "perhaps CP949: convert it with `iconv ...`".
std::string not_utf8_advice(std::string_view bytes, const std::filesystem::path& path);

// UTF-16 or UTF-32 without a byte-order mark: its zero bytes give it away, even where the bytes
// happen to be UTF-8. Empty for everything else.
std::string guess_wide_encoding(std::string_view head);

// The iconv name of the charset that a page declares in a <meta> element, if iconv knows it and
// `bytes` (a part of the page) can be in it; empty otherwise.
std::string declared_encoding(std::string_view page, std::string_view bytes);

// "convert it with `iconv -f CP949 -t UTF-8 FILE > NEW`"; unpacks .gz and .zst first.
std::string iconv_advice(std::string_view encoding, const std::filesystem::path& path);

}  // namespace naite::data
