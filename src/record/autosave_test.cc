// SPDX-License-Identifier: Apache-2.0
#include "record/autosave.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace naite::record {
namespace {

namespace fs = std::filesystem;

TEST(Autosave, IsTheRunsOwnByTheKeyAndTheLogThatItContinues) {
  const fs::path place = fs::temp_directory_path() / fmt::format("naite-autosave-{}", getpid());
  fs::create_directories(place);
  ASSERT_TRUE(write_file(place / "record.json", "{}\n").ok());
  const ledger::Signer signer = *ledger::Signer::make("example.org/run");
  const ledger::Verifier log = signer.verifier();
  std::vector<Digest> leaves;
  for (const char* entry : {"a", "b", "c"}) leaves.push_back(ledger::leaf_hash(entry));
  const std::span<const Digest> all(leaves);
  EXPECT_FALSE(check_autosave(place, 9, log, all).ok());
  ASSERT_TRUE(sign_autosave(place, 9, signer, all.first(2)).ok());
  EXPECT_TRUE(check_autosave(place, 9, log, all.first(2)).ok());
  EXPECT_TRUE(check_autosave(place, 9, log, all).ok()) << "the log has grown since";

  const auto refused = [&](int64_t step, const ledger::Verifier& by, std::span<const Digest> of,
                           const char* says) {
    const Status status = check_autosave(place, step, by, of);
    ASSERT_FALSE(status.ok()) << says;
    EXPECT_NE(status.error().message.find(says), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("remove it to go on"), std::string::npos);
  };
  refused(8, log, all, "another state");
  refused(9, log, all.first(1), "continues another log");
  std::swap(leaves[0], leaves[1]);
  refused(9, log, all, "another log");
  std::swap(leaves[0], leaves[1]);
  refused(9, ledger::Signer::make("example.org/run")->verifier(), all, "not of the log's key");
  refused(9, signer.renamed("example.org/other")->verifier(), all, "not of the log's key");
  ASSERT_TRUE(write_file(place / "record.json", "{ }\n").ok());
  refused(9, log, all, "another state");
  // A head of the log is no signature of an autosave.
  const std::string head = ledger::Head{log.name, 2, ledger::tree_root(all.first(2))}.text();
  ASSERT_TRUE(
      write_file(place / kAutosaveSignature, head + "\n" + signer.signature_line(head)).ok());
  refused(9, log, all, "");
  // Nor is the signature of an autosave a head.
  ASSERT_TRUE(sign_autosave(place, 9, signer, all).ok());
  const ledger::Note note =
      *ledger::Note::parse(*read_file(place / kAutosaveSignature), "autosave.sig");
  EXPECT_FALSE(ledger::Head::parse(note.text, "autosave.sig").ok());
  fs::remove_all(place);
}

}  // namespace
}  // namespace naite::record
