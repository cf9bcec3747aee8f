// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "formats/gguf_keys.h"

namespace naite::formats {
namespace {

namespace fs = std::filesystem;

template <class T>
std::string plain(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string text(std::string_view value) { return plain<uint64_t>(value.size()).append(value); }

std::string file_of(uint64_t tensors, uint64_t keys, std::string_view rest) {
  return "GGUF" + plain(uint32_t{3}) + plain(tensors) + plain(keys) + std::string(rest);
}
std::string tensor_of(std::string_view name, const std::vector<uint64_t>& sizes, uint32_t type,
                      uint64_t offset) {
  std::string out = text(name) + plain(static_cast<uint32_t>(sizes.size()));
  for (const uint64_t size : sizes) out += plain(size);
  return out + plain(type) + plain(offset);
}
std::string with_data(std::string head, size_t bytes) {
  head.resize((head.size() + 31) / 32 * 32 + bytes, '\1');
  return head;
}

void expect_refused(std::string_view file, std::string_view because) {
  const Result<GgufHeader> header = parse_gguf(file, "w.gguf");
  ASSERT_FALSE(header) << because;
  const std::string& message = header.error().message;
  EXPECT_NE(message.find(because), std::string::npos) << message;
  EXPECT_TRUE(message.starts_with("w.gguf: "));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

Status deliver(const TensorSpec& spec, const ByteSink& sink) {
  std::vector<float> values(static_cast<size_t>(*element_count(spec.shape)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i % 5) - 2);
  std::string bytes;
  NAITE_TRY(encode_floats(spec.type, values, bytes));
  return sink(bytes.data(), bytes.size());
}

TEST(Gguf, WhatIsWrittenReadsBack) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-gguf-{}.gguf", ::getpid());
  GgufKeys keys;
  keys.text("general.architecture", "llama");
  keys.u32("llama.block_count", 3);
  keys.f32("llama.rope.freq_base", 10000.0f);
  keys.boolean("tokenizer.ggml.add_bos_token", false);
  keys.texts("tokenizer.ggml.tokens", {"나", "이", "", "테"});
  keys.i32s("tokenizer.ggml.token_type", {1, 3, -1});
  keys.f32s("scores", {0.5f});
  const std::vector<TensorSpec> specs = {{"token_embd.weight", StoredType::kF16, {6, 256}},
                                         {"output_norm.weight", StoredType::kF32, {3}},
                                         {"blk.0.a", StoredType::kQ4K, {2, 256}},
                                         {"blk.0.b", StoredType::kQ6K, {2, 1, 256}},
                                         {"blk.0.c", StoredType::kQ8_0, {3, 32}},
                                         {"blk.0.d", StoredType::kBf16, {5}}};
  ASSERT_TRUE(write_gguf(path, keys, specs, deliver));
  const Result<Gguf> file = Gguf::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->text("general.architecture"), "llama");
  EXPECT_EQ(*file->integer("llama.block_count"), 3);
  EXPECT_EQ(*file->number("llama.block_count"), 3.0);
  EXPECT_EQ(*file->number("llama.rope.freq_base"), 10000.0);
  EXPECT_EQ(*file->boolean("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(*file->texts("tokenizer.ggml.tokens"),
            (std::vector<std::string_view>{"나", "이", "", "테"}));
  EXPECT_EQ(*file->integers("tokenizer.ggml.token_type"), (std::vector<int64_t>{1, 3, -1}));
  EXPECT_FALSE(file->integers("scores"));
  EXPECT_FALSE(file->text("llama.block_count"));
  EXPECT_FALSE(file->integer("general.architecture"));
  EXPECT_FALSE(file->texts("general.architecture"));
  EXPECT_FALSE(file->text("absent"));
  EXPECT_FALSE(file->has("absent"));
  ASSERT_EQ(file->tensors().size(), specs.size());
  for (const TensorSpec& spec : specs) {
    const StoredTensor* tensor = file->find(spec.name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->shape, spec.shape);
    EXPECT_EQ(tensor->type, spec.type);
    std::vector<float> values(static_cast<size_t>(*element_count(spec.shape)));
    ASSERT_TRUE(read_floats(*tensor, values));
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_NEAR(values[i], static_cast<float>(static_cast<int>(i % 5) - 2), 0.15f);
  }
  EXPECT_EQ(file->find("absent"), nullptr);
  fs::remove(path);
  EXPECT_FALSE(Gguf::open(path));
}

TEST(Gguf, WritingRefusesWhatTheFormatCannotHold) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-{}.gguf", ::getpid());
  const auto refused = [&](const std::vector<TensorSpec>& specs) {
    return !write_gguf(path, GgufKeys(), specs, deliver).ok();
  };
  EXPECT_TRUE(refused({{"a", StoredType::kF32, {}}}));
  EXPECT_TRUE(refused({{"a", StoredType::kF32, {1}}, {"a", StoredType::kF32, {1}}}));
  EXPECT_TRUE(refused({{std::string(64, 'a'), StoredType::kF32, {1}}}));
  EXPECT_TRUE(refused({{"a", StoredType::kQ8_0, {33}}}));
  EXPECT_TRUE(refused({{"a", StoredType::kU16, {33}}}));
  EXPECT_FALSE(fs::exists(path));
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string head =
      file_of(1, 1, text("k") + plain(uint32_t{8}) + text("value") + tensor_of("t", {2, 3}, 0, 0));
  const std::string file = with_data(head, 24);
  ASSERT_TRUE(parse_gguf(file, "w.gguf"));
  for (size_t bytes = 0; bytes < file.size(); ++bytes)
    EXPECT_FALSE(parse_gguf(file.substr(0, bytes), "w.gguf")) << bytes;
}

TEST(Gguf, HostileFilesAreRefusedInOneLine) {
  expect_refused("GGML....", "not a GGUF file");
  expect_refused("GGUF" + plain(uint32_t{1}) + std::string(16, '\0'), "version 1");
  expect_refused(file_of(~uint64_t{0}, 0, ""), "announced");
  expect_refused(file_of(0, uint64_t{1} << 63, ""), "announced");
  const auto key = [](uint32_t type, std::string_view value) {
    return file_of(0, 1, text("k") + plain(type) + std::string(value));
  };
  expect_refused(key(13, ""), "value type 13");
  expect_refused(key(8, plain(~uint64_t{0})), "truncated");
  expect_refused(key(9, plain(uint32_t{0}) + plain(uint64_t{1} << 62)), "truncated in an array");
  expect_refused(key(9, plain(uint32_t{8}) + plain(uint64_t{1} << 62)), "truncated in an array");
  std::string nested;
  for (int i = 0; i < 10000; ++i) nested += plain(uint32_t{9}) + plain(uint64_t{1});
  expect_refused(key(9, nested), "nested too deep");
  const std::string entry = text("k") + plain(uint32_t{0}) + "1";
  expect_refused(file_of(0, 2, entry + entry), "twice");
  const auto align = [](uint32_t value) {
    return file_of(0, 1, text("general.alignment") + plain(uint32_t{4}) + plain(value));
  };
  expect_refused(align(0), "power of two");
  expect_refused(align(48), "power of two");

  const auto tensors = [](const std::vector<std::string>& list, size_t bytes) {
    std::string all;
    for (const std::string& one : list) all += one;
    return with_data(file_of(list.size(), 0, all), bytes);
  };
  expect_refused(tensors({tensor_of("t", {1, 1, 1, 1, 1}, 0, 0)}, 64), "5 dimensions");
  expect_refused(tensors({tensor_of("t", {~uint64_t{0}}, 0, 0)}, 64), "63 bits");
  expect_refused(tensors({tensor_of("t", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0)}, 64),
                 "number of elements");
  expect_refused(tensors({tensor_of("t", {1}, 2, 0)}, 64), "has type 2");
  expect_refused(tensors({tensor_of("t", {33}, 8, 0)}, 64), "blocks of 32");
  expect_refused(tensors({tensor_of("t", {1}, 0, 4)}, 64), "multiple of 32");
  expect_refused(tensors({tensor_of("t", {1}, 0, uint64_t{1} << 63)}, 64), "outside the data");
  expect_refused(tensors({tensor_of("t", {17}, 0, 0)}, 64), "outside the data");
  expect_refused(tensors({tensor_of("t", {9}, 0, 0), tensor_of("u", {1}, 0, 32)}, 64), "overlap");
  expect_refused(tensors({tensor_of("t", {8}, 0, 0), tensor_of("t", {1}, 0, 32)}, 64), "twice");
}

std::string key_of(std::string_view key, uint32_t type, std::string_view value) {
  return text(key) + plain(type) + std::string(value);
}

TEST(Gguf, FilesOfOtherKindsAreCalledWhatTheyAre) {
  expect_refused("", "is empty");
  expect_refused("GGUF" + plain(uint32_t{0x03000000}) + plain(uint64_t{0}), "big-endian");
  for (const char* magic : {"lmgg", "tjgg", "fmgg"})
    expect_refused(std::string(magic) + std::string(16, '\1'), "before GGUF");
  expect_refused(plain(uint64_t{2}) + "{}", "a safetensors file");
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
                 "a Git LFS pointer");
  expect_refused("PK\x03\x04 archive", "a zip archive");
  expect_refused("<html><body>404</body></html>", "an HTML page");
  // Parts of a split model: 16-bit numbers, as llama.cpp writes them.
  const std::string part =
      key_of("split.no", 2, plain(uint16_t{1})) + key_of("split.count", 2, plain(uint16_t{3}));
  expect_refused(file_of(0, 2, part), "is part 2 of 3");
  expect_refused(file_of(0, 2, part), "llama-gguf-split --merge");
  const std::string whole =
      key_of("split.no", 2, plain(uint16_t{0})) + key_of("split.count", 2, plain(uint16_t{1}));
  EXPECT_TRUE(parse_gguf(with_data(file_of(0, 2, whole), 0), "w.gguf"));
}

// The keys of a model of two layers without anything else.
std::string refusal_of_keys(const std::function<void(GgufKeys&)>& more) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-keys-{}.gguf", ::getpid());
  GgufKeys keys;
  keys.text("general.architecture", "llama");
  for (const auto& [key, value] : {std::pair("block_count", 1u),
                                   {"context_length", 64u},
                                   {"embedding_length", 8u},
                                   {"feed_forward_length", 8u},
                                   {"attention.head_count", 2u}})
    keys.u32(std::string("llama.") + key, value);
  keys.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  more(keys);
  EXPECT_TRUE(write_gguf(path, keys, {{"token_embd.weight", StoredType::kF32, {5, 8}}}, deliver));
  const Result<Gguf> file = Gguf::open(path);
  EXPECT_TRUE(file);
  const Result<nlohmann::json> config = config_from_gguf(*file);
  fs::remove(path);
  return config ? "" : config.error().message;
}

TEST(Gguf, KeysOfTheArchitectureAreDoneOrRefused) {
  const auto with_u32 = [](const std::string& key, uint32_t value) {
    return refusal_of_keys([&](GgufKeys& keys) { keys.u32("llama." + key, value); });
  };
  const auto with_f32 = [](const std::string& key, float value) {
    return refusal_of_keys([&](GgufKeys& keys) { keys.f32("llama." + key, value); });
  };
  EXPECT_EQ(refusal_of_keys([](GgufKeys&) {}), "");
  for (const char* key : {"expert_count", "attention.sliding_window", "nextn_predict_layers"})
    EXPECT_NE(with_u32(key, 4).find(key), std::string::npos) << key;
  for (const char* key : {"attn_logit_softcapping", "logit_scale", "residual_scale",
                          "attention.scale", "rope.scaling.attn_factor"}) {
    EXPECT_NE(with_f32(key, 0.5f).find(key), std::string::npos) << key;
    EXPECT_EQ(with_f32(key, 0.0f), "") << key;
  }
  EXPECT_EQ(with_f32("logit_scale", 1.0f), "");
  EXPECT_EQ(with_u32("attention.sliding_window", 64), "");  // the whole context
  EXPECT_EQ(with_u32("vocab_size", 5), "");
  EXPECT_NE(with_u32("vocab_size", 4), "");
  EXPECT_EQ(with_u32("rope.dimension_count", 4), "");
  EXPECT_NE(with_u32("rope.dimension_count", 2), "");  // a part of each head
  EXPECT_NE(with_u32("attention.value_length", 2), "");
}

// Every token at its number, also for programs that number added ones by themselves.
TEST(Gguf, AddedTokensKeepTheirNumbers) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-added-{}.gguf", ::getpid());
  const auto read = [&](const std::vector<std::string>& tokens,
                        const std::vector<int32_t>& types) -> nlohmann::json {
    GgufKeys keys;
    keys.text("tokenizer.ggml.model", "gpt2");
    keys.text("tokenizer.ggml.pre", "qwen2");
    keys.texts("tokenizer.ggml.tokens", tokens);
    keys.i32s("tokenizer.ggml.token_type", types);
    keys.texts("tokenizer.ggml.merges", {});
    EXPECT_TRUE(write_gguf(path, keys, {{"x", StoredType::kF32, {1}}}, deliver));
    const Result<Gguf> file = Gguf::open(path);
    EXPECT_TRUE(file);
    const Result<std::string> tokenizer = tokenizer_from_gguf(*file);
    fs::remove(path);
    if (!tokenizer) return tokenizer.error().message;
    return nlohmann::json::parse(*tokenizer)["model"]["vocab"];
  };
  using nlohmann::json;
  EXPECT_EQ(read({"a", "b", "<x>", "[PAD3]"}, {1, 1, 3, 5}), json({{"a", 0}, {"b", 1}}));
  EXPECT_EQ(read({"<x>", "a", "<y>"}, {3, 1, 4}), json({{"<x>", 0}, {"a", 1}}));
  EXPECT_EQ(read({"a", "[PAD1]", "<x>"}, {1, 5, 3}), json({{"a", 0}, {"[PAD1]", 1}, {"<x>", 2}}));
  EXPECT_NE(read({"a", "a"}, {1, 1}).dump().find("have the same text a"), std::string::npos);
}

}  // namespace
}  // namespace naite::formats
