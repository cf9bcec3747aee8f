// SPDX-License-Identifier: Apache-2.0
// The table of attacks, continued: on policies, which must count keys and not their names, and on
// what may stand in a signed report.
#include <fstream>

#include "verify/sealed_testing.h"
#include "verify/signed_report.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using ledger::Signer;
using nlohmann::json;

// What an attack works with: the run, lines under its head, a policy's lines, reports.
struct Scene {
  const ForgedRun& honest;
  const Signer& publisher;
  std::string text = {};  // of the head
  json report = {};       // of an honest verifier, as JSON
  std::string others = {}, policy = {};
  std::vector<std::string> reports = {};

  void witness(const Signer& key, uint64_t time, const std::string& name = "") {
    const Signer signer = name.empty() ? key : *key.renamed(name);
    others += signer.cosignature_line(text, time);
    witnesses += fmt::format("\"{}\",", signer.verifier(ledger::KeyType::kCosignature).vkey());
  }
  void verifier(const Signer& key) { verifiers += fmt::format("\"{}\",", key.verifier().vkey()); }
  std::string witnesses = {}, verifiers = {};
  std::string toml() const {
    return fmt::format("publishers = [\"{}\"]\nwitnesses = [{}]\nverifiers = [{}]\n{}",
                       publisher.verifier().vkey(), witnesses, verifiers, policy);
  }
};

struct Trick {
  const char* name;
  std::function<void(Scene&)> play;
};

const Signer& someone() {
  static const Signer key = *Signer::make("a.example");
  return key;
}

constexpr uint64_t kSoon = 1;  // seconds after the commitment

uint64_t began(const Scene& scene) {
  return json::parse(scene.honest.log.entries[0])["time"].get<uint64_t>();
}

// A report by `key` that says that `intervals` were replayed, with what `change` does to it.
std::string report_by(const Scene& scene, const Signer& key, const json& replays,
                      const std::function<void(json&)>& change = {}) {
  json value = scene.report;
  value["vkey"] = key.verifier().vkey();
  value["replays"] = replays;
  if (change) change(value);
  const std::string text = *ledger::canonical_json(value) + "\n";
  return text + "\n" + key.signature_line(text);
}

const json kBoth = {{0, 1, true}, {1, 2, true}};

std::vector<Trick> with_witnesses() {
  return {
      {"one key under two names",
       [](Scene& s) {
         s.witness(someone(), began(s) + kSoon);
         s.witness(someone(), began(s) + kSoon, "b.example");
         s.policy = "quorum = 2\n";
       }},
      {"one line twice",
       [](Scene& s) {
         s.witness(someone(), began(s) + kSoon);
         s.witnesses += s.witnesses;
         s.policy = "quorum = 2\n";
       }},
      {"the publisher's key as its witness",
       [](Scene& s) {
         s.witness(s.publisher, began(s) + kSoon, "b.example");
         s.policy = "quorum = 1\n";
       }},
      {"a time that is none", [](Scene& s) { s.witness(someone(), 0); }},
      {"a time before the run", [](Scene& s) { s.witness(someone(), began(s) - 86400 * 365); }},
      {"a time far ahead", [](Scene& s) { s.witness(someone(), began(s) + 86400 * 3650); }},
      {"a time without bound", [](Scene& s) { s.witness(someone(), ~uint64_t{0}); }},
  };
}

std::vector<Trick> with_reports() {
  const auto changed = [](const std::function<void(json&)>& change) {
    return [=](Scene& s) {
      s.verifier(someone());
      s.reports = {report_by(s, someone(), kBoth, change)};
    };
  };
  return {
      {"one verifier under two names",
       [](Scene& s) {
         const Signer other = *someone().renamed("b.example");
         s.verifier(someone());
         s.verifier(other);
         s.reports = {report_by(s, someone(), {kBoth[0]}), report_by(s, other, {kBoth[1]})};
       }},
      {"the publisher as its verifier",
       [](Scene& s) {
         const Signer own = *s.publisher.renamed("b.example");
         s.verifier(own);
         s.reports = {report_by(s, own, kBoth)};
       }},
      {"a report that checked nothing", changed([](json& r) {
         r["checks"] = {{"x", "open", ""}};
       })},
      {"a report without a check", changed([](json& r) { r["checks"] = json::array(); })},
      {"a report that says a thing twice",
       changed([](json& r) { r["checks"].push_back(r["checks"][0]); })},
      {"a report that left states open", changed([](json& r) {
         for (json& check : r["checks"])
           if (check[0] == "states") check[1] = "open";
       })},
      {"a report from the future", changed([](json& r) { r["time"] = int64_t{1} << 52; })},
      {"a report from before the run", changed([](json& r) { r["time"] = 1; })},
      {"a report of other intervals", changed([](json& r) { r["intervals"] = 7; })},
      {"an interval twice", changed([](json& r) { r["replays"].push_back(r["replays"][0]); })},
      {"intervals that overlap", changed([](json& r) {
         r["replays"].push_back({0, 2, true});
       })},
  };
}

class TrustAttacks : public Sealed {
 protected:
  // By somebody who replayed every interval.
  static std::string honest_report() {
    return *sign_report(report_of(directory_ / "small"), someone());
  }

  // Whether the verification holds with this policy and these reports.
  static bool holds(const Trick& trick, std::string& why) {
    const Signer publisher = ledger::load_keys(directory_ / "keys")->log;
    ForgedRun run = *honest_;
    Scene scene{*honest_, publisher};
    const std::string head = run.ledger.at("ledger/checkpoint");
    scene.text = ledger::Note::parse(head, "")->text;
    scene.report = json::parse(ledger::Note::parse(honest_report(), "", kReportBytesMax)->text);
    trick.play(scene);
    run.ledger["ledger/checkpoint"] = head + scene.others;
    Bench bench(directory_ / "bench", *honest_);
    bench.put(run);
    std::ofstream(directory_ / "policy.toml") << scene.toml();
    const Result<Policy> policy = Policy::load(directory_ / "policy.toml");
    if (!policy.ok()) why = policy.error().message;
    if (!policy.ok()) return false;
    VerifyRequest request;
    request.run = bench.run();
    request.policy = *policy;
    if (!scene.reports.empty()) request.replay.kind = Selection::Kind::kReports;
    for (size_t i = 0; i < scene.reports.size(); ++i) {
      request.replay.reports.push_back(directory_ / fmt::format("report-{}", i));
      std::ofstream(request.replay.reports.back()) << scene.reports[i];
    }
    const Result<Report> report = verify(request, *kernels_, *pool_);
    why = report.ok() ? report->sentence : report.error().message;
    return report.ok() && report->holds();
  }
  static void must_not_hold(const std::vector<Trick>& tricks) {
    for (const Trick& trick : tricks) {
      std::string why;
      EXPECT_FALSE(holds(trick, why)) << trick.name << ": " << why;
    }
  }
};

TEST_F(TrustAttacks, WithWitnesses) { must_not_hold(with_witnesses()); }
TEST_F(TrustAttacks, WithReports) { must_not_hold(with_reports()); }

TEST_F(TrustAttacks, WhatIsHonestCounts) {
  std::string why;
  EXPECT_TRUE(holds({"witness", [](Scene& s) { s.witness(someone(), began(s) + kSoon); }}, why))
      << why;
  EXPECT_TRUE(holds({"report",
                     [](Scene& s) {
                       s.verifier(someone());
                       s.reports = {report_by(s, someone(), kBoth)};
                     }},
                    why))
      << why;
}

}  // namespace
}  // namespace naite::verify
