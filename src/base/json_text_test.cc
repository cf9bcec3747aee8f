// SPDX-License-Identifier: Apache-2.0
#include "base/json_text.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/config.h"
#include "base/files.h"

namespace naite {
namespace {

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::string refusal(const std::string& text, const JsonBounds& bounds) {
  const Result<nlohmann::json> value = parse_json(text, "it", bounds);
  return value.ok() ? "accepted" : value.error().message;
}

TEST(JsonText, SizeDepthAndNumberOfValuesAreCountedFirst) {
  const JsonBounds bounds{1000, 10};
  EXPECT_EQ(refusal("[1,2,3,4,5,6,7,8]", bounds), "accepted");
  const std::string many = "it: more than 10 values; no file of this kind has so many";
  EXPECT_EQ(refusal("[1,2,3,4,5,6,7,8,9,10]", bounds), many);
  for (const char* bomb : {"[],", "{},", "1,", "[[]],", "\"\","})
    EXPECT_EQ(refusal(fmt::format("[{}0]", repeated(bomb, 20)), bounds), many) << bomb;
  EXPECT_EQ(refusal(fmt::format("{}0{}", repeated("{\"a\":", 20), repeated("}", 20)), bounds),
            many);
  // In strings they are text.
  EXPECT_EQ(refusal(fmt::format("[\"{}\"]", repeated("[,{\\\"", 40)), bounds), "accepted");
  EXPECT_EQ(refusal(fmt::format("[\"{}\"]", std::string(1000, 'x')), bounds),
            "it: has 1004 bytes; at most 1000 are read of such a file");
  const JsonBounds deep{1000, 1000};
  EXPECT_EQ(refusal(fmt::format("{}{}", repeated("[", 100), repeated("]", 100)), deep), "accepted");
  EXPECT_EQ(refusal(fmt::format("{}{}", repeated("[", 101), repeated("]", 101)), deep),
            "it: JSON nested deeper than 100 levels");
}

TEST(JsonText, NoFileIsReadBeyondItsBound) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("naite-bound-{}", getpid());
  ASSERT_TRUE(write_file(path, "12345").ok());
  EXPECT_EQ(*read_file(path, 5), "12345");
  EXPECT_FALSE(read_file(path, 4).ok());
  std::filesystem::resize_file(path, uintmax_t{1} << 40);  // with a hole, it takes no place
  EXPECT_FALSE(read_json(path).ok());
  std::filesystem::remove(path);
  EXPECT_FALSE(read_file("/dev/zero", 1 << 20).ok()) << "endless";
}

TEST(JsonText, TomlIsBoundedTheSameWay) {
  EXPECT_TRUE(parse_toml("a = [1, 2]\n", "it").ok());
  const Result<nlohmann::json> many =
      parse_toml(fmt::format("a = [{}]\n", repeated("[],", 300'000)), "it");
  ASSERT_FALSE(many.ok());
  EXPECT_NE(many.error().message.find("values"), std::string::npos) << many.error().message;
}

}  // namespace
}  // namespace naite
