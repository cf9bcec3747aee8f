// SPDX-License-Identifier: Apache-2.0
// The table of attacks, continued: on what others vouch for. Organisations that co-sign
// checkpoints, witnesses that cosign heads, verifiers whose reports combine; and what honest ones
// give.
#include <fstream>

#include "base/clock.h"
#include "ledger/ledger.h"
#include "ledger/server_testing.h"
#include "record/cosign.h"
#include "verify/attack_testing.h"
#include "verify/signed_report.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Keys that outlive single attacks.
const ledger::ModelKey& university() {
  static const ledger::ModelKey key = *ledger::ModelKey::make();
  return key;
}
const ledger::ModelKey& company() {
  static const ledger::ModelKey key = *ledger::ModelKey::make();
  return key;
}
const ledger::Signer& witness() {
  static const ledger::Signer key = *ledger::Signer::make("witness.example");
  return key;
}
const ledger::Signer& auditor(const std::string& name) {
  static std::map<std::string, ledger::Signer> keys;
  return keys.try_emplace(name, *ledger::Signer::make(name)).first->second;
}

void put(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

fs::path cosignature(const Forger& f, int64_t step, const ledger::ModelKey& key,
                     const char* extension) {
  return f.state(step) / ledger::kCosignaturesDirectory / (ledger::cosignature_id(key) + extension);
}

void cosign(const Forger& f, const ledger::ModelKey& key,
            std::vector<int64_t> steps = {0, 5, 10, 15, 20}) {
  ThreadPool pool(1);
  for (const int64_t step : steps)
    ASSERT_TRUE(*record::cosign_checkpoint(f.state(step), key, pool)) << step;
}

class Others : public Attacks {
 protected:
  static Policy policy_of_all() {
    Policy policy = trusting(directory_ / "keys");
    policy.organisations = {{"university", university()}, {"company", company()}};
    policy.organisation_quorum = 2;
    policy.witnesses = {witness().verifier(ledger::KeyType::kCosignature)};
    policy.quorum = 1;
    policy.verifiers = {auditor("a.example").verifier(), auditor("b.example").verifier()};
    return policy;
  }
  static void with_organisations(VerifyRequest& request) {
    request.policy = policy_of_all();
    request.policy->quorum = 0;
  }
  static void with_witness(VerifyRequest& request) {
    request.policy = policy_of_all();
    request.policy->organisations.clear();
  }
  // The publisher's key under another name.
  static ledger::Signer as_university(const Forger&) {
    return *ledger::load_keys(directory_ / "keys")->log.renamed("university.example");
  }
  static void append_to_head(const Forger& f, const std::string& line) {
    f.edit("ledger/checkpoint", [&](std::string& text) { text += line; });
  }

  // Attacks on co-signatures of checkpoints.
  static std::vector<Attack> on_cosignatures();
  static std::vector<Attack> on_witnesses();
  static std::vector<Attack> on_reports();
  static std::vector<Attack> on_what_reports_say();

  // Honest reports of shards about the run in `run`, as files beside it.
  static std::vector<fs::path> write_reports(const fs::path& run, int64_t shards = 2) {
    std::vector<fs::path> out;
    for (int64_t shard = 1; shard <= shards; ++shard) {
      VerifyRequest request;
      request.run = run;
      request.replay = {Selection::Kind::kAll, "", "", 0, shard, shards};
      const Report report = *verify(request, *kernels_, *pool_);
      out.push_back(directory_ / fmt::format("report-{}", shard));
      put(out.back(), *sign_report(report, auditor(shard % 2 == 1 ? "a.example" : "b.example")));
    }
    return out;
  }
  static void combine(VerifyRequest& request) {
    request.replay = {};
    request.replay.kind = Selection::Kind::kReports;
    request.replay.reports = {directory_ / "report-1", directory_ / "report-2"};
    request.policy = policy_of_all();
    request.policy->quorum = request.policy->organisation_quorum = 0;
    request.policy->organisations.clear();
  }
  // Changes the first report and signs it as `who`.
  static void forge_report(const Forger& f, const ledger::Signer& who,
                           const std::function<void(json&)>& change) {
    write_reports(f.path());
    const fs::path file = directory_ / "report-1";
    const ledger::Note note = *ledger::Note::parse(*read_file(file), "report", kReportBytesMax);
    json value = json::parse(note.text);
    change(value);
    const std::string text = *ledger::canonical_json(value) + "\n";
    put(file, text + "\n" + who.signature_line(text));
  }
};

std::vector<Attack> Others::on_cosignatures() {
  return {
      {"a co-signature from another checkpoint", "cosigned", "over other files",
       [](Forger& f) {
         cosign(f, university(), {5});
         fs::copy(f.state(5) / ledger::kCosignaturesDirectory,
                  f.state(10) / ledger::kCosignaturesDirectory);
       }},
      {"a letter of a co-signature", "cosigned", "",
       [](Forger& f) {
         cosign(f, university(), {10});
         const fs::path file = cosignature(f, 10, university(), ".sig");
         std::string text = *read_file(file);
         const size_t at = text.find("\"sig\":\"") + 30;
         text[at] = text[at] == 'A' ? 'B' : 'A';
         put(file, text);
       }},
      {"a co-signature under another organisation's name", "cosigned", "not signed by the key",
       [](Forger& f) {
         cosign(f, university(), {20});
         fs::rename(cosignature(f, 20, university(), ".sig"),
                    cosignature(f, 20, company(), ".sig"));
         put(cosignature(f, 20, company(), ".pub"), company().public_pem());
       }},
      {"another key under an organisation's name", "cosigned", "not the key that its name",
       [](Forger& f) {
         cosign(f, university(), {20});
         put(cosignature(f, 20, university(), ".pub"), company().public_pem());
       }},
      {"the publisher as an organisation of its own", "cosigned", "publisher's own key",
       [](Forger& f) {
         const ledger::ModelKey key = ledger::load_keys(directory_ / "keys")->model;
         ASSERT_TRUE(ledger::write_cosignature(
                         f.state(20), *ledger::ModelManifest::of_directory(f.state(20)), key)
                         .ok());
       }},
      {"a program among the co-signatures", "cosigned", "no signature and no key",
       [](Forger& f) {
         cosign(f, university(), {20});
         put(f.state(20) / ledger::kCosignaturesDirectory / "run_me.py", "print()\n");
       }},
      {"one organisation of two", "cosigned", "1 of the policy's organisations",
       [](Forger& f) { cosign(f, university()); }, with_organisations},
      {"an organisation that signed all but the last checkpoint", "cosigned", "1 of the policy's",
       [](Forger& f) {
         cosign(f, university());
         cosign(f, company(), {0, 5, 10, 15});
       },
       with_organisations},
  };
}

std::vector<Attack> Others::on_witnesses() {
  const auto text_of = [](const Forger& f) {
    return ledger::read_log(f.path() / "ledger")->head.text();
  };
  return {
      {"no witness", "signature", "0 of the policy's witnesses", [](Forger&) {}, with_witness},
      {"a witness that saw another history", "signature", "cosignature of witness.example is wrong",
       [](Forger& f) {
         ledger::Head head = ledger::read_log(f.path() / "ledger")->head;
         head.root[7] ^= 1;
         append_to_head(f, witness().cosignature_line(head.text(), 1790000000));
       },
       with_witness},
      {"a cosignature of an older head", "signature", "cosignature of witness.example is wrong",
       [](Forger& f) {
         ledger::Head head = ledger::read_log(f.path() / "ledger")->head;
         const auto leaves = ledger::read_log(f.path() / "ledger")->leaves;
         --head.size;
         head.root = ledger::tree_root(std::span(leaves).first(leaves.size() - 1));
         append_to_head(f, witness().cosignature_line(head.text(), 1790000000));
       },
       with_witness},
      {"a witness of the same name", "signature", "0 of the policy's witnesses",
       [=](Forger& f) {
         const ledger::Signer other = *ledger::Signer::make("witness.example");
         append_to_head(f, other.cosignature_line(text_of(f), 1790000000));
       },
       with_witness},
      {"another time in a cosignature", "signature", "cosignature of witness.example is wrong",
       [=](Forger& f) {
         const std::string line = witness().cosignature_line(text_of(f), 1790000000);
         const size_t at = line.rfind(' ') + 1;
         std::string raw = *ledger::from_base64(line.substr(at, line.size() - at - 1));
         raw[11] ^= 1;
         append_to_head(f, line.substr(0, at) + ledger::to_base64(raw) + "\n");
       },
       with_witness},
      {"a cosignature from before the commitment", "signature", "0 of the policy's witnesses",
       [=](Forger& f) { append_to_head(f, witness().cosignature_line(text_of(f), 1600000000)); },
       with_witness},
      {"a cosignature of the future", "signature", "0 of the policy's witnesses",
       [=](Forger& f) { append_to_head(f, witness().cosignature_line(text_of(f), ~uint64_t{0})); },
       with_witness},
      {"the publisher as its own witness", "signature", "0 of the policy's witnesses",
       [=](Forger& f) {
         const ledger::Signer own = as_university(f);
         append_to_head(f, own.cosignature_line(text_of(f), static_cast<uint64_t>(unix_seconds())));
       },
       [](VerifyRequest& request) {
         with_witness(request);
         request.policy->witnesses = {ledger::load_keys(directory_ / "keys")
                                          ->log.renamed("university.example")
                                          ->verifier(ledger::KeyType::kCosignature)};
       }},
  };
}

std::vector<Attack> Others::on_reports() {
  return {
      {"a shard that nobody replayed", "reports", "a shard is missing",
       [](Forger& f) { write_reports(f.path()); },
       [](VerifyRequest& request) {
         combine(request);
         request.replay.reports.pop_back();
       },
       Outcome::kUnchecked},
      {"the same report twice", "reports", "a shard is missing",
       [](Forger& f) { write_reports(f.path()); },
       [](VerifyRequest& request) {
         combine(request);
         request.replay.reports[1] = request.replay.reports[0];
       },
       Outcome::kUnchecked},
      {"reports about another run", "reports", "about another head",
       [](Forger&) { write_reports(directory_ / "other-seed"); }, combine, Outcome::kUnchecked},
      {"reports about an older head", "reports", "about another head",
       [](Forger& f) {
         write_reports(f.path());
         f.entries().back()["time"] = 2000000000;
         f.sign();
       },
       combine, Outcome::kUnchecked},
      {"a report by somebody else", "reports", "whom the policy does not name",
       [](Forger& f) {
         const ledger::Signer& mallory = auditor("mallory.example");
         forge_report(f, mallory, [&](json& value) { value["vkey"] = mallory.verifier().vkey(); });
       },
       combine, Outcome::kUnchecked},
      {"a report signed by another key than it names", "reports", "is not signed by",
       [](Forger& f) { forge_report(f, auditor("mallory.example"), [](json&) {}); }, combine,
       Outcome::kUnchecked},
      {"a letter of a report", "reports", "",
       [](Forger& f) {
         write_reports(f.path());
         std::string text = *read_file(directory_ / "report-1");
         text.replace(text.find("true"), 4, "null");
         put(directory_ / "report-1", text);
       },
       combine, Outcome::kUnchecked},
      {"a report of other bits", "reports", "found other bits in steps",
       [](Forger& f) {
         forge_report(f, auditor("a.example"), [](json& value) { value["replays"][0][2] = false; });
       },
       combine},
      {"a report of a run that does not hold", "reports", "does not hold",
       [](Forger& f) {
         forge_report(f, auditor("a.example"),
                      [](json& value) { value["checks"][2][1] = "fails"; });
       },
       combine},
      {"a report of steps that are no interval", "reports", "no interval of the log",
       [](Forger& f) {
         forge_report(f, auditor("a.example"), [](json& value) { value["replays"][0][1] = 20; });
       },
       combine, Outcome::kUnchecked},
  };
}

// Reports that say too little, or that somebody else would have to sign.
std::vector<Attack> Others::on_what_reports_say() {
  const auto forged = [](const std::function<void(json&)>& change) {
    return [=](Forger& f) { forge_report(f, auditor("a.example"), change); };
  };
  const auto without_policy = [](VerifyRequest& request) {
    combine(request);
    request.policy.reset();
  };
  return {
      {"a report that says nothing", "reports", "is no check", forged([](json& value) {
         value["checks"] = {{"x", "open", ""}};
       }),
       combine},
      {"a report without the check of the data", "reports", "`data` is not in it",
       forged([](json& value) {
         json& checks = value["checks"];
         checks.erase(std::find_if(checks.begin(), checks.end(),
                                   [](const json& check) { return check[0] == "data"; }));
       }),
       combine},
      {"a report whose replay is open", "reports", "`replay` does not hold",
       forged([](json& value) { value["checks"].back()[1] = "open"; }), combine},
      {"a report with a check twice", "reports", "twice",
       forged([](json& value) { value["checks"].push_back(json(value["checks"].back())); }),
       combine},
      {"a report with an interval twice", "reports", "are in it twice",
       forged([](json& value) { value["replays"].push_back(json(value["replays"][0])); }), combine},
      {"a report of another number of intervals", "reports", "about 0 intervals",
       forged([](json& value) { value["intervals"] = 0; }), combine},
      {"a report by another version", "reports", "made by naite 0.0.9",
       forged([](json& value) { value["verifier"]["version"] = "0.0.9"; }), combine},
      {"a report that writes on terminals", "reports", "plain text",
       forged([](json& value) { value["verifier"]["compiler"] = "\x1b[31m"; }), combine},
      {"a report of the future", "reports", "in the future",
       forged([](json& value) { value["time"] = int64_t{1} << 40; }), combine},
      {"one key under two names", "reports", "one key under two names",
       [](Forger& f) {
         const ledger::Signer second = *auditor("b.example").renamed("c.example");
         forge_report(f, second, [&](json& value) { value["vkey"] = second.verifier().vkey(); });
       },
       without_policy},
      {"the publisher as a verifier of its own", "reports", "with the key of the run itself",
       [](Forger& f) {
         const ledger::Signer own = as_university(f);
         forge_report(f, own, [&](json& value) { value["vkey"] = own.verifier().vkey(); });
       },
       without_policy},
  };
}

TEST_F(Others, AttacksOnCosignatures) { must_be_found(on_cosignatures()); }
TEST_F(Others, AttacksOnWitnesses) { must_be_found(on_witnesses()); }
TEST_F(Others, AttacksOnReports) { must_be_found(on_reports()); }
// Such a report shows nothing, and accuses nobody.
TEST_F(Others, AttacksOnWhatReportsSay) {
  std::vector<Attack> attacks = on_what_reports_say();
  for (Attack& attack : attacks) attack.outcome = Outcome::kUnchecked;
  must_be_found(attacks);
}

TEST_F(Others, OrganisationsCosignWhatIsThere) {
  const fs::path copy = copy_of("honest");
  const Forger f(copy, directory_ / "keys");
  cosign(f, university());
  EXPECT_FALSE(*record::cosign_checkpoint(f.state(5), university(), *pool_));  // it has signed
  const Report found = report_of(copy, false);
  EXPECT_TRUE(found.holds());
  EXPECT_EQ(found.find("cosigned")->outcome, Outcome::kOpen);
  EXPECT_NE(found.find("cosigned")->detail.find("5 of 5 checkpoints"), std::string::npos);
  cosign(f, company());
  Policy policy = policy_of_all();
  policy.quorum = 0;
  const Report trusted = report_of(copy, false, false, policy);
  EXPECT_TRUE(trusted.holds()) << trusted.to_json().dump(1);
  EXPECT_NE(trusted.find("cosigned")->detail.find("university (5 of 5"), std::string::npos);
  // Nobody signs files that are not the recorded ones, the own key's again, or beside a wrong one.
  f.flip(f.state(20).lexically_relative(copy).string() + "/model.safetensors");
  EXPECT_FALSE(record::cosign_checkpoint(f.state(20), university(), *pool_).ok());
  const ledger::ModelKey third = *ledger::ModelKey::make();
  EXPECT_FALSE(record::cosign_checkpoint(f.state(20), third, *pool_).ok());
  put(f.state(15) / "more", "");
  EXPECT_FALSE(record::cosign_checkpoint(f.state(15), third, *pool_).ok());
  fs::copy(f.state(5) / "model.sig", f.state(10) / "model.sig",
           fs::copy_options::overwrite_existing);
  EXPECT_FALSE(record::cosign_checkpoint(f.state(10), third, *pool_).ok());
  EXPECT_FALSE(
      record::cosign_checkpoint(f.state(5), ledger::load_keys(directory_ / "keys")->model, *pool_)
          .ok());
}

TEST_F(Others, ReportsOfShardsCombine) {
  const fs::path run = directory_ / "honest";
  VerifyRequest request;
  request.run = run;
  write_reports(run);
  combine(request);
  const Report known = *verify(request, *kernels_, *pool_);
  EXPECT_TRUE(known.holds()) << known.to_json().dump(1);
  EXPECT_EQ(known.verdicts[0].verdict, "from scratch");
  EXPECT_EQ(known.replays.size(), 12u);
  EXPECT_EQ(known.replays[0].why, "by a.example");
  EXPECT_EQ(known.replays[1].why, "by b.example");
  EXPECT_EQ(known.miss_one, 0);
  EXPECT_EQ(known.miss_tenth, 0);
  EXPECT_NE(known.sentence.find("as reported by a.example, b.example"), std::string::npos);
  request.policy.reset();
  const Report unknown = *verify(request, *kernels_, *pool_);
  EXPECT_TRUE(unknown.holds());
  EXPECT_EQ(unknown.find("reports")->outcome, Outcome::kOpen);
  EXPECT_EQ(unknown.verdicts[0].verdict, "from scratch as reported");
  // One shard by itself was drawn by nobody: both chances to have missed a forgery stay one.
  request.replay = {Selection::Kind::kAll, "", "", 0, 1, 2};
  EXPECT_EQ(verify(request, *kernels_, *pool_)->miss_one, 1);
}

// A seed from a public value counts as chosen unless a witness had signed the commitment before.
TEST_F(Others, ABeaconProvesWhatAWitnessSawBefore) {
  ledger::TestServer server;
  server.lie("/add-checkpoint", [](const auto& request, const auto& connection) {
    const std::string note = request.body.substr(request.body.find("\n\n") + 2);
    connection.respond(200, witness().cosignature_line(ledger::Note::parse(note, "")->text,
                                                       static_cast<uint64_t>(unix_seconds())));
  });
  const auto recipe = train::load_recipe(
      "tests/recipes/tiny.toml",
      {"train.tokens=1024", "run.seed=beacon", "run.beacon=round 12345 of example.org"});
  ASSERT_TRUE(recipe.ok()) << recipe.error().message;
  const auto trained = [&](const std::string& name, bool witnessed) {
    train::TrainRequest request;
    request.run_directory = directory_ / name;
    request.keys = directory_ / "keys";
    if (witnessed)
      request.witnesses.push_back(*ledger::Witness::make(
          server.url(), witness().verifier(ledger::KeyType::kCosignature).vkey()));
    Quiet quiet;
    EXPECT_TRUE(train::train(*recipe, request, *kernels_, *pool_, quiet).ok());
    request.beacon_value = "c0ffee";
    const auto outcome = train::train(*recipe, request, *kernels_, *pool_, quiet);
    EXPECT_TRUE(outcome.ok()) << outcome.error().message;
    return request.run_directory;
  };
  Policy policy = trusting(directory_ / "keys");
  policy.witnesses = {witness().verifier(ledger::KeyType::kCosignature)};
  const fs::path alone = trained("beacon-alone", false), seen = trained("beacon-seen", true);
  const auto seed_of = [&](const fs::path& run, std::optional<Policy> trust) {
    const Report report = report_of(run, false, false, std::move(trust));
    EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
    return *report.find("seed");
  };
  EXPECT_EQ(seed_of(alone, policy).outcome, Outcome::kOpen);
  EXPECT_NE(seed_of(alone, policy).detail.find("counts as chosen"), std::string::npos);
  EXPECT_EQ(seed_of(seen, {}).outcome, Outcome::kOpen);
  const Check known = seed_of(seen, policy);
  EXPECT_EQ(known.outcome, Outcome::kHolds) << known.detail;
  EXPECT_NE(known.detail.find("witness.example at 20"), std::string::npos) << known.detail;
  // A witness's signature over anything but that beginning is found.
  Forger forger(seen, directory_ / "keys");
  const ledger::Head other{forger.signer().name(), 1, {}};
  forger.entry("seed")["cosignatures"] = {
      witness().cosignature_line(other.text(), static_cast<uint64_t>(unix_seconds()))};
  forger.sign();
  const Report forged = report_of(seen, false, false, policy);
  EXPECT_EQ(forged.find("seed")->outcome, Outcome::kFails) << forged.to_json().dump(1);
}

// What a run says of itself, and that it trains to its end when one witness cosigns, one refuses,
// one is away and one never answers.
class Listener final : public train::Observer {
 public:
  void note(const std::string& line) override { notes += line + "\n"; }
  void preparing(const data::PrepareProgress&) override {}
  void step(const train::StepReport&) override {}
  void validated(const train::ValidationReport&) override {}
  std::string notes;
};

TEST_F(Others, WitnessesCosignATrainingAndDoNotHoldItUp) {
  ledger::TestServer honest, refusing, stalling;
  honest.lie("/add-checkpoint", [](const auto& request, const auto& connection) {
    const std::string note = request.body.substr(request.body.find("\n\n") + 2);
    connection.respond(200, witness().cosignature_line(ledger::Note::parse(note, "")->text,
                                                       static_cast<uint64_t>(unix_seconds())));
  });
  refusing.lie("/add-checkpoint",
               [](const auto&, const auto& connection) { connection.respond(422, ""); });
  stalling.lie("/add-checkpoint", [](const auto&, const auto& connection) { connection.stall(); });
  std::string away;
  {
    const ledger::TestServer gone;
    away = gone.url();
  }
  const std::string vkey = witness().verifier(ledger::KeyType::kCosignature).vkey();
  train::TrainRequest request;
  for (const std::string& url : {honest.url(), refusing.url(), stalling.url(), away})
    request.witnesses.push_back(*ledger::Witness::make(url, vkey));
  request.run_directory = directory_ / "witnessed";
  request.keys = directory_ / "keys";
  Listener listener;
  const auto recipe = train::load_recipe("tests/recipes/tiny.toml", {"train.tokens=1024"});
  const auto outcome = train::train(*recipe, request, *kernels_, *pool_, listener);
  ASSERT_TRUE(outcome.ok()) << outcome.error().message;
  EXPECT_NE(listener.notes.find(refusing.url() + ": the witness saw another history"),
            std::string::npos)
      << listener.notes;
  EXPECT_NE(listener.notes.find("not witnessed: " + away), std::string::npos) << listener.notes;
  Policy policy = trusting(directory_ / "keys");
  policy.witnesses = {witness().verifier(ledger::KeyType::kCosignature)};
  policy.quorum = 1;
  const Report report = report_of(request.run_directory, false, false, policy);
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_NE(report.find("signature")->detail.find("1 witnesses"), std::string::npos);
}

}  // namespace
}  // namespace naite::verify
