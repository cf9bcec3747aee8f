// SPDX-License-Identifier: Apache-2.0
// Whom a policy counts: keys and names, each once, at times that can be.
#include "verify/policy.h"

#include <gtest/gtest.h>

namespace naite::verify {
namespace {

using ledger::KeyType;
using ledger::Signer;

constexpr int64_t kCommitted = 1790000000, kNow = 1790100000;

std::string listed(const std::vector<std::string>& keys) {
  return fmt::format("[{}]", keys.empty() ? "" : fmt::format("\"{}\"", fmt::join(keys, "\", \"")));
}

std::string witness_key(const Signer& signer) {
  return signer.verifier(KeyType::kCosignature).vkey();
}

class Policies : public testing::Test {
 protected:
  Policies()
      : publisher_(*Signer::make("example.org/team")),
        first_(*Signer::make("first.example")),
        second_(*Signer::make("second.example")) {}

  std::string text(const std::vector<std::string>& witnesses,
                   const std::vector<std::string>& verifiers = {}) const {
    return fmt::format("publishers = {}\nwitnesses = {}\nverifiers = {}\n",
                       listed({publisher_.verifier().vkey()}), listed(witnesses),
                       listed(verifiers));
  }
  void is_refused(const std::string& text, const std::string& reason) const {
    const Result<Policy> policy = Policy::parse(text, "policy.toml");
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_NE(policy.error().message.find(reason), std::string::npos) << policy.error().message;
  }
  // How many count of those who sign at these times.
  size_t counted(const std::vector<std::pair<const Signer*, uint64_t>>& signers) const {
    const Signer run = *publisher_.renamed("example.org/team/run");
    const std::string head = ledger::Head{run.name(), 3, {}}.text();
    std::string note = head + "\n" + run.signature_line(head);
    for (const auto& [signer, time] : signers) note += signer->cosignature_line(head, time);
    Policy policy = *Policy::parse(text({witness_key(first_), witness_key(second_)}), "policy");
    policy.quorum = 0;
    const auto found =
        policy.accept(run.verifier(), *ledger::Note::parse(note, "note"), kCommitted, kNow);
    return found.ok() ? found->size() : 99;
  }

  const Signer publisher_, first_, second_;
};

TEST_F(Policies, NobodyCountsTwice) {
  const Signer renamed = *first_.renamed("other.example");
  Signer namesake = *second_.renamed("first.example");
  EXPECT_TRUE(Policy::parse(text({witness_key(first_), witness_key(second_)}), "policy").ok());
  is_refused(text({witness_key(first_), witness_key(renamed)}), "have the same key");
  is_refused(text({witness_key(first_), witness_key(first_)}), "have the same key");
  is_refused(text({witness_key(first_), witness_key(namesake)}), "have the same name");
  is_refused(text({}, {first_.verifier().vkey(), renamed.verifier().vkey()}), "have the same key");
  const Signer own = *publisher_.renamed("university.example");
  is_refused(text({witness_key(own)}), "cannot vouch for itself");
  is_refused(text({}, {own.verifier().vkey()}), "cannot vouch for itself");
  is_refused(text({first_.verifier().vkey()}), "key of the other kind");
  // Policies that a program makes are counted in the same way.
  Policy policy;
  policy.publishers = {publisher_.verifier()};
  const Signer run = *publisher_.renamed("example.org/team/run");
  const Signer as_witness = *publisher_.renamed("witness.example");
  const std::string head = ledger::Head{run.name(), 3, {}}.text();
  std::string note = head + "\n" + run.signature_line(head);
  for (const Signer* signer : {&first_, &renamed, &as_witness}) {
    policy.witnesses.push_back(signer->verifier(KeyType::kCosignature));
    note += signer->cosignature_line(head, kNow);
  }
  EXPECT_EQ(policy.accept(run.verifier(), *ledger::Note::parse(note, ""), kCommitted, kNow)->size(),
            1u);
}

TEST_F(Policies, TimesThatCannotBeDoNotCount) {
  EXPECT_EQ(counted({{&first_, kCommitted}, {&second_, kNow}}), 2u);
  EXPECT_EQ(counted({{&first_, kCommitted - kClockSkew}, {&second_, kNow + kClockSkew}}), 2u);
  EXPECT_EQ(counted({{&first_, 0}}), 0u);
  EXPECT_EQ(counted({{&first_, kCommitted - kClockSkew - 1}}), 0u);
  EXPECT_EQ(counted({{&first_, kNow + kClockSkew + 1}}), 0u);
  EXPECT_EQ(counted({{&first_, uint64_t{1} << 63}}), 0u);
  EXPECT_EQ(counted({{&first_, ~uint64_t{0}}}), 0u);
  EXPECT_EQ(cosigners_named({{"w.example", 1790000000}}), "; w.example at 2026-09-21T14:13:20Z");
  EXPECT_EQ(cosigners_named({}), "");
}

}  // namespace
}  // namespace naite::verify
