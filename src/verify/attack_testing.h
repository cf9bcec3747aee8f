// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: one line of the table of attacks, and how each is tried.
#include "verify/fixture_testing.h"

namespace naite::verify {

struct Attack {
  const char* name;
  const char* found_by;  // the first check that fails
  const char* reason;    // part of what it says
  std::function<void(Forger&)> forge;
  // What the verifier asks for beyond a replay of every interval.
  std::function<void(VerifyRequest&)> ask = {};
  Outcome outcome = Outcome::kFails;  // or kUnchecked: nothing is shown, and nobody accused
};

class Attacks : public Verify {
 protected:
  static void must_be_found(const std::vector<Attack>& attacks) {
    for (const Attack& attack : attacks) {
      const std::filesystem::path copy = copy_of("honest");
      Forger forger(copy, directory_ / "keys");
      attack.forge(forger);
      VerifyRequest request;
      request.run = copy;
      request.replay.kind = Selection::Kind::kAll;
      if (std::string_view(attack.found_by) == "text") request.text = ".";
      if (attack.ask) attack.ask(request);
      const Result<Report> report = verify(request, *kernels_, *pool_);
      ASSERT_TRUE(report.ok()) << attack.name << ": " << report.error().message;
      EXPECT_FALSE(report->holds()) << attack.name;
      const Check* first = report->first(attack.outcome);
      ASSERT_NE(first, nullptr) << attack.name << ": " << report->to_json().dump(1);
      EXPECT_EQ(first->name, attack.found_by) << attack.name << ": " << report->to_json().dump(1);
      EXPECT_NE(first->detail.find(attack.reason), std::string::npos)
          << attack.name << ": " << first->detail;
      const bool fails = attack.outcome == Outcome::kFails;
      EXPECT_EQ(report->answer(), fails ? Answer::kContradicted : Answer::kUnchecked)
          << attack.name;
      EXPECT_EQ(report->verdicts[0].verdict, !fails             ? "could not be checked"
                                             : first->by_policy ? "not accepted by the policy"
                                                                : "contradicted")
          << attack.name;
      const bool accuses = report->sentence.find("is not what its log claims") != std::string::npos;
      EXPECT_EQ(accuses, fails && !first->by_policy) << attack.name << ": " << report->sentence;
    }
  }
};

}  // namespace naite::verify
