// SPDX-License-Identifier: Apache-2.0
#include "record/run_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "record/provenance.h"
#include "record/published.h"

namespace naite::record {
namespace {

namespace fs = std::filesystem;

class RunFiles : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("naite-run-files-{}", getpid());
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  // With this one file, or folder if it ends in a slash.
  std::string wrong_with(const std::string& name) const {
    fs::remove_all(root_);
    fs::create_directories((root_ / name).parent_path());
    if (!name.ends_with('/')) std::ofstream(root_ / name) << "x";
    const Status status = check_places(RunDirectory(root_));
    return status.ok() ? std::string() : status.error().message;
  }
  fs::path root_;
};

TEST_F(RunFiles, EverythingHasAPlaceOrIsNamed) {
  for (const char* name : {"recipe.toml",
                           "data/manifest.json",
                           "data/00-나무-train-00000.tokens",
                           "ledger/vkey",
                           "ledger/tile/entries/x001/000.p/7",
                           "ledger/publisher/tile/0/000",
                           "checkpoints/stage1-step0000000000/config.json",
                           "audit/step0000000002/state/cursor.json",
                           "autosave/step0000000003/record.json",
                           "events.out.tfevents.1.host.2",
                           ".lock",
                           ".run-key",
                           ".mirror",
                           ".fetching/data/x",
                           "evidence/ledger/9-aa/checkpoint",
                           "checkpoints/",
                           "data/",
                           "ledger/tile/0/000.p/",
                           ".tmp-recipe.toml-7",
                           "checkpoints/.tmp-stage1-7/x",
                           "data/.tmp-x.tokens-1",
                           "ledger/tile/0/.tmp-000-1"})
    EXPECT_EQ(wrong_with(name), "") << name;
  for (const char* name :
       {"model.safetensors", "recipe.toml/x", "recipe.TOML", "data/x.bin", "data/more/x.tokens",
        "data/manifest.json.bak", "ledger/x", "ledger/publisher/vkey", "checkpoints/x",
        "checkpoint/x/config.json", "audit/README.md", "autosave/x", "best/", "ledger/more/",
        "events.out", ".tmp", "log.jsonl.1", "..tmp-x"}) {
    const std::string wrong = wrong_with(name);
    EXPECT_NE(wrong.find("has no place in a run"), std::string::npos) << name << wrong;
    EXPECT_EQ(wrong.find('\n'), std::string::npos) << name;
  }
}

TEST_F(RunFiles, AStateHasFilesOfItsOwnOnly) {
  const auto wrong_with = [&](const std::string& name, bool checkpoint, uintmax_t size = 1) {
    fs::remove_all(root_);
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << "x";
    fs::resize_file(root_ / name, size);
    const Status status = check_state_names(root_, checkpoint, 1000);
    return status.ok() ? std::string() : status.error().message;
  };
  for (const char* name : {"config.json", "state/cursor.json", "record.json"})
    for (const bool checkpoint : {true, false}) EXPECT_EQ(wrong_with(name, checkpoint), "") << name;
  for (const char* name : {"provenance.json", "bom.cdx.json", "model.sig", "cosignatures/x.sig"}) {
    EXPECT_EQ(wrong_with(name, true), "") << name;
    EXPECT_NE(wrong_with(name, false), "") << name;
  }
  for (const char* name : {"adapter_config.json", "state/x", "state/more/cursor.json",
                           "model.safetensors.index.json", ".tmp-x", "cosignature/x.sig"})
    EXPECT_NE(wrong_with(name, true), "") << name;
  // Sparse files cost nothing to make and much to hash.
  EXPECT_NE(wrong_with("model.safetensors", true, uintmax_t{1} << 40).find("1000 parameters"),
            std::string::npos);
  EXPECT_NE(wrong_with("record.json", true, uintmax_t{1} << 30), "");
  fs::remove(root_ / "record.json");
  fs::create_symlink("/etc/hostname", root_ / "config.json");
  EXPECT_FALSE(check_state_names(root_, true, 1000).ok());
}

TEST(Provenance, IsAFunctionOfTheLogAndTheManifest) {
  Commitment claims;
  claims.origin = "example.org/team/x-1";
  claims.version = "1.2.3";
  data::Manifest manifest;
  manifest.sources.resize(1);
  manifest.sources[0].name = "나무";
  manifest.sources[0].license = "CC0-1.0";
  manifest.sources[0].train.shards = {{"00-a.tokens", 7, 1, std::string(64, 'a'), "bb", "cc"}};
  const auto bill = nlohmann::json::parse(bill_of_materials(claims, manifest));
  EXPECT_EQ(bill["components"][0]["licenses"][0]["license"]["name"], "CC0-1.0");
  EXPECT_EQ(bill["components"][0]["components"].size(), 3u);  // tokens, starts, weights
  EXPECT_EQ(bill["dependencies"][0]["dependsOn"].size(), 2u);
  const std::string before = bill_of_materials(claims, manifest);
  EXPECT_EQ(bill_of_materials(claims, manifest), before);
  claims.version = "1.2.4";
  EXPECT_NE(bill_of_materials(claims, manifest), before);
  StoredState parent;
  parent.step = 5;
  parent.directory = "checkpoints/p";
  const std::map<std::string, std::string> files = {{"README.md", "00"},
                                                    {"model.safetensors", "11"}};
  const auto statement = nlohmann::json::parse(provenance_text(claims, &parent, 10, files));
  EXPECT_EQ(statement["subject"].size(), 1u);
  const auto& definition = statement["predicate"]["buildDefinition"];
  EXPECT_EQ(definition["externalParameters"]["first_step"], 5);
  EXPECT_EQ(definition["resolvedDependencies"][2]["name"], "checkpoints/p");
  EXPECT_EQ(statement["predicate"]["runDetails"]["builder"]["version"]["naite"], "1.2.4");
}

}  // namespace
}  // namespace naite::record
