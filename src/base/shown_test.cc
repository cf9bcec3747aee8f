// SPDX-License-Identifier: Apache-2.0
#include "base/shown.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace naite {
namespace {

TEST(Shown, ALineHasNothingThatATerminalObeysOrHides) {
  const std::pair<std::string, std::string> cases[] = {
      {"나이테, naïve ✓ 𝄞", "나이테, naïve ✓ 𝄞"},
      {"\x1b[2J\x07", "\\x1b[2J\\x07"},
      {"a\nb\tc\rd", "a\\nb\\tc\\x0dd"},
      {std::string("nul\0", 4), "nul\\x00"},
      {"\xc2\x9b"
       "2J",
       "\\u{9b}2J"},  // the C1 form of ESC [
      {"\xe2\x80\xae"
       "txt.exe",
       "\\u{202e}txt.exe"},
      {"a\xe2\x80\x8b"
       "b\xef\xbb\xbf",
       "a\\u{200b}b\\u{feff}"},
      {"\xf3\xa0\x81\x81", "\\u{e0041}"},  // a tag
      {"\xe2\x9d\xa4\xef\xb8\x8f", "❤\\u{fe0f}"},
      {"\xf3\xa0\x84\x80", "\\u{e0100}"},  // a variation selector
      {"\xe3\x85\xa4", "\\u{3164}"},       // a filler
      {"\xff\xfe\x80", "\\xff\\xfe\\x80"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},  // half of a surrogate pair
      {"cut \xf0\x9f\x98", "cut \\xf0\\x9f\\x98"},
  };
  for (const auto& [text, line] : cases) {
    EXPECT_EQ(shown_line(text), line);
    EXPECT_EQ(shown_line(line), line) << "shown twice";
  }
}

TEST(Shown, ATextKeepsItsLinesAndWhatJoinsItsCharacters) {
  const std::string family = "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7";
  const std::string text = "one\n\ttwo " + family + " \xe2\x9d\xa4\xef\xb8\x8f";
  EXPECT_EQ(shown_text(text), text);
  EXPECT_EQ(shown_text("\x1b[8m\r\xc2\x85"), "\\x1b[8m\\x0d\\u{85}");
  // Only the first of a row has something before it.
  EXPECT_EQ(shown_text("a\xe2\x80\x8d\xe2\x80\x8d\xe2\x80\x8c"), "a\xe2\x80\x8d\\u{200d}\\u{200c}");
}

TEST(Shown, JsonStaysTheSameValue) {
  const nlohmann::json value = {{"name", "\x1b\x7f\xc2\x9b\xe2\x80\xae\xf3\xa0\x81\x81 나이테"}};
  for (const int indent : {-1, 2}) {
    const std::string shown = shown_json(value.dump(indent));
    EXPECT_EQ(nlohmann::json::parse(shown), value);
    EXPECT_NE(shown.find("나이테"), std::string::npos);
    for (const char* hidden : {"\x1b", "\x7f", "\xc2\x9b", "\xe2\x80\xae", "\xf3\xa0\x81\x81"})
      EXPECT_EQ(shown.find(hidden), std::string::npos);
  }
}

// The table against its description: ascending, and by the block.
TEST(Shown, TheTableIsInOrder) {
  for (const uint32_t code : {0u, 0x1fu, 0x7fu, 0x9fu, 0xadu, 0x61cu, 0x180eu, 0x200fu, 0x202au,
                              0x2069u, 0xfe00u, 0xfffbu, 0x1d17au, 0xe0001u, 0xe01efu})
    EXPECT_TRUE(is_unseen(code)) << code;
  for (const uint32_t code : {0x20u, 0x7eu, 0xa0u, 0xacu, 0xaeu, 0x3000u, 0x1161u, 0xac00u, 0xd7a3u,
                              0xfffcu, 0xfffdu, 0x1f600u, 0x10fffdu})
    EXPECT_FALSE(is_unseen(code)) << code;
}

}  // namespace
}  // namespace naite
