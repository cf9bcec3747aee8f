// SPDX-License-Identifier: Apache-2.0
// The formats against the vectors of their specifications, and against each other.
#include "ledger/ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

namespace naite::ledger {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kNeumann =
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr const char* kNeumannPrivate =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
constexpr const char* kNote =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xe2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n";

std::vector<Digest> some_leaves(int64_t count) {
  std::vector<Digest> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(leaf_hash(fmt::format("entry {}", i)));
  return out;
}

TEST(Encoding, HexAndBase64ThereAndBackInOneSpelling) {
  EXPECT_TRUE(rc::check("bytes survive", [](const std::string& bytes) {
    RC_ASSERT(from_hex(to_hex(bytes)) == bytes);
    RC_ASSERT(from_base64(to_base64(bytes)) == bytes);
  }));
  EXPECT_EQ(to_base64("foob"), "Zm9vYg==");
  EXPECT_EQ(from_base64("Zm9vYg=="), "foob");
  for (const char* bad : {"Zm9vYg=", "Zm9vYh==", "Zm9vYg", "Zm9v=g==", "====", "Zm9v Yg=",
                          "Zg=="
                          "Zg=="})
    EXPECT_FALSE(from_base64(bad)) << bad;
  EXPECT_FALSE(from_hex("AB"));
  EXPECT_FALSE(from_hex("a"));
  for (const char* bad : {"", "01", "-1", "+1", "1 ", "9999999999999999999"})
    EXPECT_FALSE(from_decimal(bad)) << bad;
  EXPECT_EQ(from_decimal("0"), 0);
  EXPECT_EQ(from_decimal("70000"), 70000);
  EXPECT_EQ(from_decimal("9223372036854775807"), INT64_MAX);
  EXPECT_FALSE(from_decimal("9223372036854775808"));
}

TEST(Encoding, Utf8) {
  for (const char* good : {"", "abc", "한국어", "\xf0\x9f\x8c\xb3", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good));
  for (const char* bad : {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf8\x88\x80\x80\x80", "\xe3\x81", "a\xff"})
    EXPECT_FALSE(is_utf8(bad)) << to_hex(bad);
}

// RFC 8785, appendix B.
TEST(CanonicalJson, NumbersAreWrittenAsEcmaScriptWritesThem) {
  const std::pair<uint64_t, const char*> vectors[] = {
      {0x0000000000000000, "0"},
      {0x8000000000000000, "0"},
      {0x0000000000000001, "5e-324"},
      {0x8000000000000001, "-5e-324"},
      {0x7fefffffffffffff, "1.7976931348623157e+308"},
      {0x4340000000000000, "9007199254740992"},
      {0xc340000000000000, "-9007199254740992"},
      {0x4430000000000000, "295147905179352830000"},
      {0x44b52d02c7e14af5, "9.999999999999997e+22"},
      {0x44b52d02c7e14af6, "1e+23"},
      {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
      {0x444b1ae4d6e2ef4e, "999999999999999700000"},
      {0x444b1ae4d6e2ef4f, "999999999999999900000"},
      {0x444b1ae4d6e2ef50, "1e+21"},
      {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
      {0x3eb0c6f7a0b5ed8d, "0.000001"},
      {0x41b3de4355555553, "333333333.3333332"},
      {0x41b3de4355555554, "333333333.33333325"},
      {0x41b3de4355555555, "333333333.3333333"},
      {0x41b3de4355555556, "333333333.3333334"},
      {0x41b3de4355555557, "333333333.33333343"},
      {0xbecbf647612f3696, "-0.0000033333333333333333"},
      {0x43143ff3c1cb0959, "1424953923781206.2"}};
  for (const auto& [bits, text] : vectors)
    EXPECT_EQ(canonical_number(std::bit_cast<double>(bits)), text);
}

TEST(CanonicalJson, KeysStringsAndWhatItRefuses) {
  // RFC 8785, sections 3.2.2 and 3.2.3.
  const json value = json::parse(R"({
    "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
    "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
    "literals": [null, true, false]})");
  EXPECT_EQ(*canonical_json(value),
            R"({"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],)"
            "\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
  const json keys =
      json::parse(R"({"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7})");
  EXPECT_EQ(*canonical_json(keys),
            "{\"\\r\":2,\"1\":4,\"\xc2\x80\":6,\"\xc3\xb6\":7,\"\xe2\x82\xac\":1,"
            "\"\xf0\x9f\x98\x80\":5,\"\xef\xac\xb3\":3}");
  EXPECT_FALSE(canonical_json(json(std::nan(""))).ok());
  EXPECT_FALSE(canonical_json(json(int64_t{9007199254740993})).ok());
  EXPECT_FALSE(canonical_json(json(INT64_MIN + 1)).ok());
  EXPECT_FALSE(canonical_json(json("\xff")).ok());
  for (const char* other : {"{\"b\":1,\"a\":2}", "[1, 2]", "1.0", "\"\\u0041\"", "-0", "1e1",
                            "{}\n", "{\"a\":1,\"a\":1}"})
    EXPECT_FALSE(parse_canonical_json(other, "test").ok()) << other;
  EXPECT_TRUE(parse_canonical_json(R"({"a":[1,2.5,"x"]})", "test").ok());
  EXPECT_TRUE(rc::check("every finite double reads back", [](uint64_t bits) {
    const double number = std::bit_cast<double>(bits);
    if (!std::isfinite(number)) return;
    RC_ASSERT(std::strtod(canonical_number(number).c_str(), nullptr) == number);
  }));
}

TEST(Merkle, RootsOfThePublishedTestVector) {
  const std::string leaves[] = {"",
                                std::string(1, '\0'),
                                "\x10",
                                "\x20\x21",
                                "\x30\x31",
                                "\x40\x41\x42\x43",
                                "\x50\x51\x52\x53\x54\x55\x56\x57",
                                "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"};
  const char* roots[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                         "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                         "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                         "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                         "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                         "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<Digest> hashes;
  EXPECT_EQ(to_hex(tree_root(hashes)), roots[0]);
  for (size_t i = 0; i < 8; ++i) {
    hashes.push_back(leaf_hash(leaves[i]));
    EXPECT_EQ(to_hex(tree_root(hashes)), roots[i + 1]);
  }
}

TEST(Merkle, EveryProofHoldsAndNoOtherDoes) {
  for (int64_t size = 1; size < 40; ++size) {
    const std::vector<Digest> leaves = some_leaves(size);
    const Digest root = tree_root(leaves);
    for (int64_t i = 0; i < size; ++i) {
      std::vector<Digest> proof = inclusion_proof(leaves, i);
      EXPECT_TRUE(verify_inclusion(leaves[i], i, size, proof, root));
      EXPECT_FALSE(verify_inclusion(leaves[i], i, size, proof, leaf_hash("x")));
      EXPECT_FALSE(verify_inclusion(leaf_hash("x"), i, size, proof, root));
      if (size > 1) {
        EXPECT_FALSE(verify_inclusion(leaves[i], (i + 1) % size, size, proof, root));
      }
      proof.push_back(root);
      EXPECT_FALSE(verify_inclusion(leaves[i], i, size, proof, root));
    }
    for (int64_t old = 1; old <= size; ++old) {
      const Digest old_root = tree_root(std::span(leaves).first(old));
      std::vector<Digest> proof = consistency_proof(leaves, old);
      EXPECT_TRUE(verify_consistency(old, old_root, size, root, proof)) << old << " " << size;
      EXPECT_FALSE(verify_consistency(old, leaf_hash("x"), size, root, proof));
      EXPECT_FALSE(verify_consistency(old, old_root, size, leaf_hash("x"), proof));
      if (!proof.empty()) {
        proof[proof.size() / 2][0] ^= 1;
        EXPECT_FALSE(verify_consistency(old, old_root, size, root, proof));
      }
    }
  }
}

TEST(Notes, ThePublishedExample) {
  const Signer signer = *Signer::parse(kNeumannPrivate);
  EXPECT_EQ(signer.skey(), kNeumannPrivate);
  EXPECT_EQ(signer.verifier().vkey(), kNeumann);
  const Note note = *Note::parse(kNote, "note");
  EXPECT_TRUE(*verify_note(note, *Verifier::parse(kNeumann)));
  EXPECT_EQ(note.text + "\n" + signer.signature_line(note.text), kNote);
  // Other keys are not asked.
  EXPECT_FALSE(*verify_note(note, Signer::make("PeterNeumann")->verifier()));
  EXPECT_FALSE(*verify_note(note, signer.renamed("another")->verifier()));
  EXPECT_TRUE(
      Verifier::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
          .ok());
}

TEST(Notes, EveryFlippedBitIsFound) {
  const Verifier verifier = *Verifier::parse(kNeumann);
  const std::string good = kNote;
  for (size_t i = 0; i < good.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      const Result<Note> note = Note::parse(bad, "note");
      if (!note) continue;
      const Result<bool> verdict = verify_note(*note, verifier);
      EXPECT_FALSE(verdict.ok() && *verdict) << i << " " << bit;
    }
}

TEST(Notes, MalformedOnesAreRefused) {
  const std::string line = Signer::parse(kNeumannPrivate)->signature_line("a\n");
  EXPECT_TRUE(Note::parse("a\n\n" + line, "note").ok());
  std::string many = "a\n\n";
  for (int i = 0; i <= kSignaturesMax; ++i) many += line;
  const std::vector<std::string> malformed = {"",
                                              "a",
                                              "a\n",
                                              "a\n\n",
                                              "a\n" + line,
                                              "a\n\n" + line.substr(0, line.size() - 1),
                                              "a\n\n" + line + "x",
                                              "a\r\n\n" + line,
                                              "\xff\n\n" + line,
                                              "a\n\n\xe2\x80\x94 name+ AAAA\n",
                                              "a\n\n- name AAAAAAA=\n",
                                              many,
                                              std::string(kNoteBytesMax, 'a') + "\n\n" + line};
  for (const std::string& bad : malformed)
    EXPECT_FALSE(Note::parse(bad, "note").ok()) << bad.substr(0, 40);
  for (const char* bad : {"", "a b", "a+b", "a\n", "a\xc2\xa0", "a\xe3\x80\x80", "\xe2\x80\x83",
                          "a\xe2\x80\xae"
                          "b",
                          "a\xc2\x9b"
                          "b",
                          "a\xe2\x80\x8b"
                          "b",
                          "a\xef\xbb\xbf"})
    EXPECT_FALSE(check_key_name(bad).ok()) << bad;
  EXPECT_TRUE(check_key_name("\xed\x95\x9c\xea\xb5\xad.example/team").ok());
  for (const char* bad : {"PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
                          "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
                          "PeterNeumann", "", "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy"})
    EXPECT_FALSE(Verifier::parse(bad).ok()) << bad;
}

TEST(Notes, CosignaturesStateATime) {
  const Signer log = *Signer::make("example.org/log"), witness = *Signer::make("witness.example");
  const std::string text = Head{"example.org/log", 3, leaf_hash("x")}.text();
  const std::string note_text =
      text + "\n" + log.signature_line(text) + witness.cosignature_line(text, 1790000000);
  const Note note = *Note::parse(note_text, "note");
  EXPECT_TRUE(*verify_note(note, log.verifier()));
  EXPECT_EQ(**verify_cosignature(note, witness.verifier(KeyType::kCosignature)), 1790000000u);
  EXPECT_FALSE(*verify_cosignature(note, log.verifier(KeyType::kCosignature)));
  Note later = note;
  later.signatures[1].bytes[7] = static_cast<char>(later.signatures[1].bytes[7] + 1);
  EXPECT_FALSE(verify_cosignature(later, witness.verifier(KeyType::kCosignature)).ok());
  EXPECT_EQ(Head::parse(note.text, "note")->size, 3);
  for (const char* bad : {"", "a\n", "a\n01\nAAAA\n", "a\n-1\n", "a\n1\nAAAA\n", "\n1\n"})
    EXPECT_FALSE(Head::parse(bad, "head").ok()) << bad;
}

TEST(Tiles, PathsAndWidthsOfTheSpecification) {
  EXPECT_EQ(tile_path(0, 1234067, 256), "tile/0/x001/x234/067");
  EXPECT_EQ(tile_path(2, 0, 1), "tile/2/000.p/1");
  EXPECT_EQ(tile_path(kEntriesLevel, 5, 112), "tile/entries/005.p/112");
  for (const auto& [level, number, width] : {std::tuple(0, 1234067, 256),
                                             {kEntriesLevel, 5, 112},
                                             {2, 0, 1},
                                             {63, 999, 255},
                                             {0, 1000, 256}}) {
    const std::optional<TileName> tile = parse_tile_path(tile_path(level, number, width));
    ASSERT_TRUE(tile) << tile_path(level, number, width);
    EXPECT_EQ(std::tuple(tile->level, tile->number, tile->width), std::tuple(level, number, width));
  }
  for (const char* bad : {"", "tile", "tile/0", "tile/0/", "tile/0/00", "tile/64/000", "tile/x/000",
                          "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p", "tile/0/x000/001",
                          "tile/0/000/1", "tile/-1/000", "tile/0/000.p/1/2"})
    EXPECT_FALSE(parse_tile_path(bad)) << bad;
  auto paths = [](int64_t size) {
    std::vector<std::string> out;
    for (const TileName& tile : tiles_of(size))
      if (tile.level != kEntriesLevel)
        out.push_back(tile_path(tile.level, tile.number, tile.width));
    return out;
  };
  EXPECT_TRUE(paths(0).empty());
  EXPECT_EQ(paths(256), (std::vector<std::string>{"tile/0/000", "tile/1/000.p/1"}));
  const std::vector<std::string> many = paths(70000);
  ASSERT_EQ(many.size(), 273u + 1 + 1 + 1 + 1);
  EXPECT_EQ(many[273], "tile/0/273.p/112");
  EXPECT_EQ(many[274], "tile/1/000");
  EXPECT_EQ(many[275], "tile/1/001.p/17");
  EXPECT_EQ(many[276], "tile/2/000.p/1");
}

TEST(Tiles, BundlesAreReadExactly) {
  const std::vector<std::string> entries = {"", "a", std::string(kEntryBytesMax, 'x')};
  const std::string bytes = entry_bundle(entries);
  EXPECT_EQ(*parse_entry_bundle(bytes, 3, "bundle"), entries);
  for (const auto& [text, count] : {std::pair(bytes, 2),
                                    {bytes, 4},
                                    {bytes + "x", 3},
                                    {bytes.substr(0, bytes.size() - 1), 3},
                                    {std::string(1, 0), 1}})
    EXPECT_FALSE(parse_entry_bundle(text, count, "bundle").ok());
}

TEST(Proofs, ThereAndBackAndNothingElse) {
  const Signer log = *Signer::make("example.org/log");
  const std::vector<Digest> leaves = some_leaves(11);
  const std::string text = Head{log.name(), 11, tree_root(leaves)}.text();
  LogProof proof{std::nullopt, 6, inclusion_proof(leaves, 6),
                 text + "\n" + log.signature_line(text)};
  for (const std::optional<std::string>& extra : {std::optional<std::string>(), {"more"}}) {
    proof.extra = extra;
    const LogProof again = *LogProof::parse(proof.text(), "proof");
    EXPECT_EQ(again.text(), proof.text());
    EXPECT_TRUE(again.verify("entry 6", log.verifier()).ok());
    EXPECT_FALSE(again.verify("entry 7", log.verifier()).ok());
    EXPECT_FALSE(again.verify("entry 6", Signer::make("example.org/log")->verifier()).ok());
  }
  const std::string good = proof.text();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    const Result<LogProof> parsed = LogProof::parse(bad, "proof");
    // `extra` is not authenticated, by the specification.
    if (parsed.ok() && parsed->extra != proof.extra) continue;
    EXPECT_FALSE(parsed.ok() && parsed->verify("entry 6", log.verifier()).ok()) << i;
  }
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("naite-ledger-{}", getpid());
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path directory_;
};

TEST_F(Files, ALogGrowsAndReadsBackWhole) {
  const Signer signer = *Signer::make("example.org/log");
  std::vector<std::string> all;
  for (const int64_t batch : {1, 2, 252, 1, 1, 3, 300, 0, 250}) {
    LogWriter writer = *LogWriter::open(directory_ / "log", signer);
    EXPECT_EQ(writer.size(), static_cast<int64_t>(all.size()));
    std::vector<std::string> entries;
    for (int64_t i = 0; i < batch; ++i)
      entries.push_back(fmt::format("entry {}", all.size() + entries.size()));
    ASSERT_TRUE(writer.append(entries).ok());
    all.insert(all.end(), entries.begin(), entries.end());
    const Result<LogContent> log = read_log(directory_ / "log");
    ASSERT_TRUE(log.ok()) << log.error().message;
    EXPECT_EQ(log->entries, all);
    EXPECT_TRUE(*verify_note(log->note, signer.verifier()));
  }
  EXPECT_FALSE(LogWriter::open(directory_ / "log", *Signer::make("example.org/log")).ok());
  EXPECT_FALSE(LogWriter::open(directory_ / "log", *signer.renamed("example.org/b")).ok());
  LogWriter writer = *LogWriter::open(directory_ / "log", signer);
  EXPECT_FALSE(writer.append({std::string(kEntryBytesMax + 1, 'x')}).ok());
}

// The files that an append adds, in the order in which it writes them.
std::vector<std::string> new_files(const fs::path& before, const fs::path& after) {
  std::vector<std::string> entries, tiles;
  for (const auto& item : fs::recursive_directory_iterator(after)) {
    if (!item.is_regular_file()) continue;
    const std::string name = fs::relative(item.path(), after).string();
    if (fs::exists(before / name) || name == "checkpoint") continue;
    (name.starts_with("tile/entries/") ? entries : tiles).push_back(name);
  }
  // Full bundles come before partial ones of a higher number, and names ascend the same way.
  std::sort(entries.begin(), entries.end());
  std::sort(tiles.begin(), tiles.end());
  entries.insert(entries.end(), tiles.begin(), tiles.end());
  entries.push_back("checkpoint");
  return entries;
}

TEST_F(Files, WhereverAnAppendIsCutOffTheLogNeitherForksNorShrinks) {
  const Signer signer = *Signer::make("example.org/log");
  for (const auto& [old_size, added] : {std::pair(0, 3), {3, 2}, {250, 4}, {250, 10}, {250, 300}}) {
    std::vector<std::string> all;
    for (int i = 0; i < old_size + added; ++i) all.push_back(fmt::format("entry {}", i));
    const fs::path before = directory_ / "before", after = directory_ / "after";
    for (const fs::path& path : {before, after}) {
      fs::remove_all(path);
      LogWriter writer = *LogWriter::open(path, signer);
      ASSERT_TRUE(writer.append({all.begin(), all.begin() + old_size}).ok());
      if (path == before) continue;
      ASSERT_TRUE(writer.append({all.begin() + old_size, all.end()}).ok());
    }
    const std::vector<std::string> files = new_files(before, after);
    for (size_t done = 0; done <= files.size(); ++done) {
      const fs::path cut = directory_ / "cut";
      fs::remove_all(cut);
      fs::copy(before, cut, fs::copy_options::recursive);
      for (size_t i = 0; i < done; ++i) {
        fs::create_directories((cut / files[i]).parent_path());
        fs::copy(after / files[i], cut / files[i], fs::copy_options::overwrite_existing);
      }
      ASSERT_TRUE(write_file(cut / "tile/.tmp-x-1", "half").ok() || done == 0 || old_size == 0);
      LogWriter writer = *LogWriter::open(cut, signer);
      const std::vector<std::string>& durable = writer.entries();
      ASSERT_GE(durable.size(), static_cast<size_t>(old_size));
      EXPECT_TRUE(std::equal(durable.begin(), durable.end(), all.begin()));
      if (!durable.empty()) {
        EXPECT_EQ(read_log(cut)->entries, durable);
      }
      ASSERT_TRUE(writer.append({all.begin() + writer.size(), all.end()}).ok());
      EXPECT_EQ(*read_file(cut / "checkpoint"), *read_file(after / "checkpoint"));
      EXPECT_EQ(read_log(cut)->entries, all);
    }
  }
}

TEST_F(Files, EveryChangedByteOfALogIsFound) {
  const Signer signer = *Signer::make("example.org/log");
  LogWriter writer = *LogWriter::open(directory_, signer);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(writer.append({fmt::format("entry {}", i)}).ok());
  for (const char* file : {"checkpoint", "tile/0/000.p/5", "tile/entries/000.p/5"}) {
    const std::string good = *read_file(directory_ / file);
    for (size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 4);
      ASSERT_TRUE(write_file(directory_ / file, bad).ok());
      const Result<LogContent> log = read_log(directory_);
      const Result<bool> verdict = log.ok() ? verify_note(log->note, signer.verifier()) : false;
      EXPECT_FALSE(verdict.ok() && *verdict) << file << " byte " << i;
    }
    fs::remove(directory_ / file);
    EXPECT_FALSE(read_log(directory_).ok()) << file;
    fs::create_symlink("/dev/zero", directory_ / file);
    EXPECT_FALSE(read_log(directory_).ok()) << file;
    fs::remove(directory_ / file);
    ASSERT_TRUE(write_file(directory_ / file, good).ok());
  }
  EXPECT_TRUE(read_log(directory_).ok());
}

TEST_F(Files, KeysAreNeverOverwrittenAndNeverOpenToOthers) {
  const fs::path keys = directory_ / "keys";
  ASSERT_TRUE(make_keys(keys, "example.org/team").ok());
  const std::string before = *read_file(keys / "log.key");
  EXPECT_FALSE(make_keys(keys, "example.org/team").ok());
  fs::remove(keys / "log.key");
  EXPECT_FALSE(make_keys(keys, "example.org/team").ok());
  EXPECT_FALSE(fs::exists(keys / "log.key"));
  fs::remove_all(keys);
  ASSERT_TRUE(make_keys(keys, "example.org/team").ok());
  EXPECT_NE(*read_file(keys / "log.key"), before);
  for (const char* file : {"log.key", "model.key"}) {
    struct stat info {};
    ASSERT_EQ(stat((keys / file).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
  const Result<Keys> loaded = load_keys(keys);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->log.verifier().vkey() + "\n", *read_file(keys / "log.vkey"));
  EXPECT_EQ(loaded->model.public_pem(), *read_file(keys / "model.pub"));
  fs::permissions(keys / "model.key", fs::perms::group_read, fs::perm_options::add);
  EXPECT_FALSE(load_keys(keys).ok());
  EXPECT_FALSE(make_keys(directory_ / "other", "two words").ok());
}

TEST_F(Files, ModelSignaturesBindEveryFile) {
  const fs::path model = directory_ / "model";
  ASSERT_TRUE(make_directories(model / "state").ok());
  ASSERT_TRUE(write_file(model / "config.json", "{}").ok());
  ASSERT_TRUE(write_file(model / "state/x", "1").ok());
  const ModelKey key = *ModelKey::make(), other = *ModelKey::make();
  const ModelManifest manifest = *ModelManifest::of_directory(model);
  EXPECT_EQ(manifest.files.size(), 2u);
  const std::string bundle = *sign_model(manifest, "model", key);
  ASSERT_TRUE(write_file(model / kModelSignatureFile, bundle).ok());
  const ModelSignature signature = *ModelSignature::parse(bundle, "model.sig");
  EXPECT_TRUE(signature.is_signed_by(key));
  EXPECT_TRUE(signature.is_signed_by(*ModelKey::parse_public(key.public_pem())));
  EXPECT_FALSE(signature.is_signed_by(other));
  EXPECT_EQ(signature.manifest, *ModelManifest::of_directory(model));
  ASSERT_TRUE(write_file(model / "state/y", "2").ok());
  EXPECT_NE(signature.manifest, *ModelManifest::of_directory(model));
  fs::remove(model / "state/y");
  fs::rename(model / "state/x", model / "state/z");
  EXPECT_EQ(signature.manifest.root(), ModelManifest::of_directory(model)->root());
  EXPECT_NE(signature.manifest.digest(), ModelManifest::of_directory(model)->digest());
  fs::create_symlink("z", model / "state/x");
  EXPECT_FALSE(ModelManifest::of_directory(model).ok());
  ModelSignature forged = signature;
  forged.payload[forged.payload.size() / 2] ^= 1;
  EXPECT_FALSE(forged.is_signed_by(key));
}

}  // namespace
}  // namespace naite::ledger
