// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

namespace naite::formats {
namespace {

namespace fs = std::filesystem;

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-{}-{}", name, ::getpid());
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::string file_of(std::string_view header, std::string_view data, uint64_t claimed) {
  std::string file(reinterpret_cast<const char*>(&claimed), sizeof claimed);
  return file.append(header).append(data);
}
std::string file_of(std::string_view header, std::string_view data = "") {
  return file_of(header, data, header.size());
}

std::string refusal(std::string_view file) {
  const Result<SafetensorsHeader> header = parse_safetensors(file, "w.safetensors");
  if (header) return "";
  EXPECT_EQ(header.error().message.find('\n'), std::string::npos);
  EXPECT_TRUE(header.error().message.starts_with("w.safetensors: ")) << header.error().message;
  EXPECT_LT(header.error().message.size(), 400u);
  return header.error().message;
}

void expect_refused(std::string_view header, std::string_view data, std::string_view because) {
  const std::string message = refusal(file_of(header, data));
  EXPECT_NE(message.find(because), std::string::npos) << header << "\n  gives: " << message;
}

// The bytes of a tensor depend on its name alone, so any order can be checked.
Status deliver(const TensorSpec& spec, const ByteSink& sink) {
  const int64_t bytes = *stored_bytes(spec.type, spec.shape);
  for (int64_t i = 0; i < bytes; ++i) {
    const char byte = static_cast<char>(spec.name[0] + i);
    NAITE_TRY(sink(&byte, 1));
  }
  return {};
}

void expect_delivered(const StoredTensor& tensor) {
  std::string expected;
  ASSERT_TRUE(deliver(tensor, [&](const void* data, size_t bytes) -> Status {
    expected.append(static_cast<const char*>(data), bytes);
    return {};
  }));
  EXPECT_EQ(tensor.bytes, expected);
}

const std::vector<TensorSpec> kSpecs = {
    {"b.odd", StoredType::kBf16, {3}},
    {"a.wide", StoredType::kF32, {2, 3}},
    {"c.scalar", StoredType::kI64, {}},
    {"d.empty", StoredType::kF16, {4, 0, 2}},
    {"e \"quoted\" 나이테", StoredType::kU8, {5}},
};

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const fs::path directory = fresh_directory("safetensors");
  const fs::path path = directory / "model.safetensors";
  ASSERT_TRUE(write_safetensors(path, kSpecs, {{"run", "first \n rings"}}, deliver));
  for (const fs::path& place : {path, directory}) {
    const Result<Safetensors> file = Safetensors::open(place);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->metadata(), (Metadata{{"format", "pt"}, {"run", "first \n rings"}}));
    ASSERT_EQ(file->tensors().size(), kSpecs.size());
    for (const TensorSpec& spec : kSpecs) {
      const StoredTensor* tensor = file->find(spec.name);
      ASSERT_NE(tensor, nullptr) << spec.name;
      EXPECT_EQ(tensor->type, spec.type);
      EXPECT_EQ(tensor->shape, spec.shape);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->bytes.data()) %
                    static_cast<uintptr_t>(stored_type_info(spec.type).block_bytes),
                0u);
      expect_delivered(*tensor);
    }
    EXPECT_EQ(file->find("absent"), nullptr);
  }
  fs::remove_all(directory);
}

TEST(Safetensors, ShardsAndTheirIndexReadBack) {
  const fs::path directory = fresh_directory("shards");
  ASSERT_TRUE(write_model_safetensors(directory, kSpecs, {}, deliver, 30));
  EXPECT_EQ(*list_directory(directory),
            (std::vector<std::string>{"model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors",
                                      "model.safetensors.index.json"}));
  const Result<Safetensors> model = Safetensors::open(directory);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->tensors().size(), kSpecs.size());
  for (const StoredTensor& tensor : model->tensors()) expect_delivered(tensor);

  // Programs that read every such file would see another model.
  ASSERT_TRUE(write_safetensors(directory / "adapter_model.safetensors", kSpecs, {}, deliver));
  EXPECT_NE(Safetensors::open(directory).error().message.find("adapter_model.safetensors"),
            std::string::npos);
  fs::remove(directory / "adapter_model.safetensors");

  const fs::path index = directory / "model.safetensors.index.json";
  const std::string good = *read_file(index);
  const auto message_with = [&](std::string_view from, std::string_view to) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    EXPECT_TRUE(write_file(index, bad));
    const Result<Safetensors> opened = Safetensors::open(directory);
    return opened ? std::string() : opened.error().message;
  };
  EXPECT_NE(message_with("c.scalar", "c.absent").find("holds the tensor c.scalar"),
            std::string::npos);
  EXPECT_NE(message_with("model-00001-of-00002.safetensors", "../x").find("beside the index"),
            std::string::npos);
  EXPECT_NE(message_with("weight_map", "weight_maps").find("weight_map"), std::string::npos);
  EXPECT_NE(message_with("{", std::string(10000, '[')).find("nested deeper"), std::string::npos);
  fs::remove_all(directory);
}

TEST(Safetensors, ADirectoryWithoutWeightsIsNamed) {
  const fs::path directory = fresh_directory("empty");
  EXPECT_NE(Safetensors::open(directory).error().message.find("holds neither"), std::string::npos);
  EXPECT_FALSE(Safetensors::open(directory / "absent.safetensors"));
  fs::remove_all(directory);
}

TEST(Safetensors, AFailingSourceLeavesNothingBehind) {
  const fs::path directory = fresh_directory("failing");
  const Status status =
      write_safetensors(directory / "model.safetensors", kSpecs, {},
                        [](const TensorSpec&, const ByteSink&) -> Status { return fail("no"); });
  EXPECT_FALSE(status);
  EXPECT_TRUE(list_directory(directory)->empty());
  EXPECT_FALSE(write_safetensors(directory / "x", {kSpecs[0], kSpecs[0]}, {}, deliver));
  fs::remove_all(directory);
}

constexpr std::string_view kGood = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                   R"("b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}   )";

TEST(Safetensors, AcceptsAPlainFileAndEveryTruncationIsRefused) {
  const std::string file = file_of(kGood, "123456789");
  EXPECT_EQ(refusal(file), "");
  for (size_t bytes = 0; bytes < file.size(); ++bytes)
    EXPECT_NE(refusal(file.substr(0, bytes)), "");
  EXPECT_NE(refusal(file + "x"), "");
  EXPECT_EQ(refusal(file_of("{}")), "");
}

TEST(Safetensors, HostileHeadersAreRefusedInOneLine) {
  EXPECT_NE(refusal(file_of("{}", "", uint64_t{1} << 63)).find("claims a header of"),
            std::string::npos);
  EXPECT_NE(refusal(file_of("{}", "", ~uint64_t{0})).find("claims"), std::string::npos);
  EXPECT_NE(refusal(file_of("{}", "", 3)).find("truncated"), std::string::npos);
  const auto one = [](std::string_view fields) { return fmt::format("{{\"a\":{{{}}}}}", fields); };
  const std::string u8 = R"("dtype":"U8")";
  expect_refused("[]", "", "does not begin");
  expect_refused("{", "", "not valid JSON");
  expect_refused("{}x", "", "not valid JSON");
  expect_refused("{\"\xff\":{}}", "", "not valid JSON");
  expect_refused(R"({"a":1})", "", "a number where");
  expect_refused(R"({"a":[]})", "", "a list where");
  expect_refused(R"({"a":null})", "", "null");
  expect_refused(one(""), "", "not all of");
  expect_refused(one(u8 + R"(,"shape":[],"data_offsets":[0])"), "1", "two numbers");
  expect_refused(one(u8 + R"(,"shape":[],"data_offsets":[0,1,2])"), "1", "two numbers");
  expect_refused(one(u8 + R"(,"shape":[-1],"data_offsets":[0,1])"), "1", "negative");
  expect_refused(one(u8 + R"(,"shape":[1.5],"data_offsets":[0,1])"), "1", "fraction");
  expect_refused(one(u8 + R"(,"shape":[[1]],"data_offsets":[0,1])"), "1", "a list");
  expect_refused(one(u8 + R"(,"shape":[18446744073709551615],"data_offsets":[0,1])"), "1", "63");
  expect_refused(one(u8 + R"(,"shape":[],"dtype":"U8")"), "1", "`dtype` twice");
  expect_refused(one(u8 + R"(,"extra":1)"), "", "unknown key");
  expect_refused(one(R"("dtype":"F8_E4M3","shape":[],"data_offsets":[0,1])"), "1", "F8_E4M3");
  expect_refused(one(u8 + R"(,"shape":[],"data_offsets":[1,0])"), "1", "outside the data");
  expect_refused(one(u8 + R"(,"shape":[2],"data_offsets":[0,2])"), "1", "outside the data");
  expect_refused(one(u8 + R"(,"shape":[1],"data_offsets":[1,2])"), "12", "a hole");
  expect_refused(one(u8 + R"(,"shape":[3],"data_offsets":[0,2])"), "12", "needs 3 bytes, has 2");
  expect_refused(one(u8 + R"(,"shape":[],"data_offsets":[0,1])"), "12", "belong to none");
  expect_refused(one(u8 + R"(,"shape":[4294967296,4294967296,4294967296],"data_offsets":[0,1])"),
                 "1", "no valid number of elements");
  const std::string entry = u8 + R"(,"shape":[2],"data_offsets":[0,2])";
  expect_refused(fmt::format(R"({{"a":{{{0}}},"b":{{{0}}}}})", entry), "12", "overlap");
  const std::string zero = u8 + R"(,"shape":[0],"data_offsets":[0,0])";
  expect_refused(fmt::format(R"({{"a":{{{0}}},"a":{{{0}}}}})", zero), "", "appears twice");
  expect_refused(R"({"__metadata__":{"a":1}})", "", "__metadata__");
  expect_refused(R"({"__metadata__":{"a":"","a":""}})", "", "twice");
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", "", "twice");
}

TEST(Safetensors, FilesOfOtherKindsAreCalledWhatTheyAre) {
  EXPECT_NE(refusal("").find("is empty"), std::string::npos);
  EXPECT_NE(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
                .find("a Git LFS pointer"),
            std::string::npos);
  EXPECT_NE(refusal("<!DOCTYPE html><html></html>").find("an HTML page"), std::string::npos);
  EXPECT_NE(refusal("PK\x03\x04 archive").find("a zip archive"), std::string::npos);
  EXPECT_NE(refusal("\x80\x02}q").find("pickle"), std::string::npos);
}

// The length of a header may look like the mark of a pickle.
TEST(Safetensors, LengthsAreNoMarks) {
  std::string header = R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})";
  header.resize(0x280, ' ');
  EXPECT_EQ(refusal(file_of(header, "1")), "");
}

// Two files that hold "a" and "b", and an index of them.
struct Sharded {
  fs::path directory = fresh_directory("sharded");
  ~Sharded() { fs::remove_all(directory); }
  void write(const std::string& file, const std::vector<std::string>& names) const {
    std::vector<TensorSpec> specs;
    for (const std::string& name : names) specs.push_back({name, StoredType::kF32, {2}});
    ASSERT_TRUE(write_safetensors(directory / file, specs, {}, deliver));
  }
  std::string open(const std::string& index) const {
    EXPECT_TRUE(write_file(directory / "model.safetensors.index.json", index));
    const Result<Safetensors> file = Safetensors::open(directory);
    return file ? "" : file.error().message;
  }
};

TEST(Safetensors, AnIndexMustSayWhatTheFilesHold) {
  const Sharded sharded;
  sharded.write("one", {"a"});
  sharded.write("two", {"b"});
  const auto expect = [&](const std::string& map, std::string_view says) {
    const std::string message = sharded.open("{\"weight_map\":" + map + "}");
    EXPECT_EQ(message.empty(), says.empty()) << map << " gives: " << message;
    EXPECT_NE(message.find(says), std::string::npos) << map << " gives: " << message;
  };
  const std::string good = R"({"a":"one","b":"two"})";
  expect(good, "");
  expect(R"({"a":"one","a":"two","b":"two"})", "the key `a` stands twice");
  expect(R"({"a":"one","b":"three"})", "three is not there");
  expect(R"({"a":"one","c":"two"})", "holds the tensor b");
  expect(R"({"a":"one","b":"two","c":"two"})", "lacks the tensor c");
  for (const char* outside : {"../two", "/two", "..", ".", "x/two", "", "x\\\\two"})
    expect(fmt::format(R"({{"a":"one","b":"{}"}})", outside), "not mapped to the name of a file");
  expect(R"(["a"])", "no table `weight_map`");
  sharded.write("two", {"a", "b"});  // another "a", for those who read whole files
  expect(good, "two: holds the tensor a");
  sharded.write("two", {"b", "more"});
  expect(good, "two: holds the tensor more");
  sharded.write("two", {"b"});
  sharded.write("model.safetensors", {"a", "b"});
  expect(good, "remove one of them");
  expect(R"({"a":"model.safetensors","b":"model.safetensors"})", "");
}

TEST(Safetensors, DepthAndLongNamesCostNothing) {
  std::string deep = R"({"dtype":)";
  for (int i = 0; i < 10000; ++i) deep += R"({"dtype":)";
  expect_refused(deep, "", "a table where");
  const std::string lists(10000, '['), name(100000, 'n');
  expect_refused(fmt::format(R"({{"a":{{"shape":{})", lists), "", "a list where");
  expect_refused(fmt::format(R"({{"{}\n":1}})", name), "", "nnn...");
  std::string many = R"({"a":{"shape":[1)";
  for (int i = 0; i < 16; ++i) many += ",1";
  expect_refused(many, "", "more dimensions");
}

}  // namespace
}  // namespace naite::formats
