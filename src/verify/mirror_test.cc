// SPDX-License-Identifier: Apache-2.0
// Published runs: what is in the tree, verification and following over HTTP, servers that lie.
#include "verify/mirror.h"

#include <fstream>
#include <set>

#include "ledger/canonical_json.h"
#include "ledger/server_testing.h"
#include "record/cosign.h"
#include "record/publish.h"
#include "verify/fixture_testing.h"
#include "verify/follow.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using Connection = ledger::TestServer::Connection;
using Request = ledger::TestServer::Request;
using Handler = ledger::TestServer::Handler;

std::set<std::string> files_below(const fs::path& directory) {
  std::set<std::string> out;
  for (const auto& item : fs::recursive_directory_iterator(directory))
    if (!item.is_directory()) out.insert(item.path().lexically_relative(directory).string());
  return out;
}

class Published : public Verify {
 protected:
  void SetUp() override {
    fs::remove_all(tree());
    ASSERT_TRUE(publish("honest"));
    server_ = std::make_unique<ledger::TestServer>(tree());
    fs::remove_all(cache());
  }

  static Selection everything() {
    Selection out;
    out.kind = Selection::Kind::kAll;
    return out;
  }
  static fs::path tree() { return directory_ / "tree"; }
  static fs::path cache() { return directory_ / "cache"; }
  static bool publish(const std::string& run, const std::string& name = "run") {
    const Result<record::Published> done = record::publish(directory_ / run, tree(), name);
    if (!done.ok()) refused_ = done.error().message;
    if (done.ok()) published_ = *done;
    return done.ok();
  }
  Result<Mirror> open() {
    ledger::HttpOptions options;
    options.connect_seconds = options.stall_seconds = 1;
    return Mirror::open(server_->url("/run"), cache(), options, nullptr);
  }
  Report verified(const Selection& selection = {}) {
    Result<Mirror> mirror = open();
    EXPECT_TRUE(mirror.ok()) << mirror.error().message;
    VerifyRequest request;
    request.run = mirror->path();
    request.source = &*mirror;
    request.replay = selection;
    return *verify(request, *kernels_, *pool_);
  }
  // The steps of the checkpoints that were new.
  Result<std::vector<int64_t>> followed() {
    NAITE_ASSIGN(Mirror mirror, open());
    std::vector<int64_t> steps;
    NAITE_ASSIGN(
        const Followed found,
        follow_once(mirror, trusting(directory_ / "keys"),
                    [&](const record::RunHistory&, const record::StoredState& state) {
                      EXPECT_TRUE(fs::exists(cache() / state.directory / "model.safetensors"));
                      steps.push_back(state.step);
                    }));
    ended_ = found.ended;
    return steps;
  }

  std::unique_ptr<ledger::TestServer> server_;
  bool ended_ = false;
  static inline std::string refused_;
  static inline record::Published published_;
};

TEST_F(Published, TheTreeHasWhatOutsidersNeedAndNothingElse) {
  std::set<std::string> private_files = {"/.lock",  "/autosave", "/log.jsonl", "/samples.jsonl",
                                         "/events", "/.run-key", ".tmp-"};
  for (const std::string& file : files_below(tree() / "run"))
    for (const std::string& name : private_files)
      EXPECT_EQ(("/" + file).find(name), std::string::npos) << file;
  EXPECT_TRUE(report_of(tree() / "run", false, false, trusting(directory_ / "keys")).holds());
  EXPECT_EQ(published_.new_states, 13);
  EXPECT_TRUE(published_.ended);
  const fs::path state = *fs::directory_iterator(tree() / "run/checkpoints");
  EXPECT_GE(fs::hard_link_count(state / "model.safetensors"), 2u);
  const std::set<std::string> before = files_below(tree());
  ASSERT_TRUE(publish("honest"));
  EXPECT_EQ(published_.new_states + published_.new_entries, 0);
  EXPECT_EQ(files_below(tree()), before);
}

TEST_F(Published, CoSignaturesThatThePolicyAsksForAreFetched) {
  const ledger::ModelKey university = *ledger::ModelKey::make(),
                         company = *ledger::ModelKey::make();
  const fs::path run = copy_of("honest");
  for (const auto& state : fs::directory_iterator(run / "checkpoints"))
    ASSERT_TRUE(record::cosign_checkpoint(state.path(), university, *pool_).ok());
  ASSERT_TRUE(publish("copy"));  // adds them to what is published
  Policy policy = trusting(directory_ / "keys");
  policy.organisations = {{"university", university}, {"company", company}};
  policy.organisation_quorum = 1;
  Result<Mirror> mirror = open();
  ASSERT_TRUE(mirror.ok());
  VerifyRequest request;
  request.run = mirror->path();
  request.source = &*mirror;
  request.policy = policy;
  const Report report = *verify(request, *kernels_, *pool_);
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_NE(report.find("cosigned")->detail.find("university (5 of 5"), std::string::npos)
      << report.find("cosigned")->detail;
  request.policy->organisation_quorum = 2;
  EXPECT_EQ(verify(request, *kernels_, *pool_)->find("cosigned")->outcome, Outcome::kFails);
}

TEST_F(Published, TheIndexIsEscaped) {
  train_run("named", {"run.name='<script>&\"'"});
  ASSERT_TRUE(publish("named", "named"));
  const std::string page = *read_file(tree() / "index.html");
  for (const char* part : {"<h2>run</h2>", "<h2>named</h2>", "Signed as", "100.0%",
                           "named/"
                           "checkpoints/",
                           "/model.safetensors", "naite verify"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("<script"), std::string::npos);
}

TEST_F(Published, AnotherHistoryIsRefused) {
  EXPECT_FALSE(publish("other-seed"));
  EXPECT_NE(refused_.find("another run"), std::string::npos) << refused_;
  const std::string head = *read_file(tree() / "run/ledger/checkpoint");
  {
    Forger forger(copy_of("honest"), directory_ / "keys");
    forger.entry("end")["time"] = 2000000000;
    forger.sign();
  }
  EXPECT_FALSE(publish("copy"));
  EXPECT_NE(refused_.find("another history"), std::string::npos) << refused_;
  {
    Forger forger(copy_of("honest"), directory_ / "keys");
    forger.entries().pop_back();
    forger.sign();
  }
  EXPECT_FALSE(publish("copy"));
  EXPECT_NE(refused_.find("cut off"), std::string::npos) << refused_;
  fs::create_directories(tree() / "mine");
  EXPECT_FALSE(publish("honest", "mine"));
  EXPECT_FALSE(publish("honest", "../mine"));
  EXPECT_EQ(*read_file(tree() / "run/ledger/checkpoint"), head);
}

TEST_F(Published, WhatAClockBefore1970WroteIsRead) {
  Forger forger(copy_of("honest"), directory_ / "keys");
  forger.entry("commitment")["time"] = -86400;
  forger.entry("end")["time"] = -1;
  std::vector<std::string> entries;
  for (const nlohmann::json& entry : forger.entries())
    entries.push_back(*ledger::canonical_json(entry));
  const auto history = record::RunHistory::parse(entries);
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_EQ(history->commitment.time, -86400);
}

TEST_F(Published, WhatIsDamagedOrLeadsElsewhereIsNotPublished) {
  const fs::path copy = copy_of("honest");
  Forger forger(copy, directory_ / "keys");
  forger.flip_tensor(forger.state(10) / "model.safetensors", "model.layers.1.mlp.down_proj.weight");
  EXPECT_FALSE(publish("copy", "damaged"));
  EXPECT_NE(refused_.find("damaged"), std::string::npos) << refused_;
  EXPECT_FALSE(fs::exists(tree() / "damaged/ledger/checkpoint"));
  const fs::path link = copy_of("honest") / "recipe.toml";
  fs::rename(link, copy / "elsewhere");
  fs::create_symlink(copy / "elsewhere", link);
  EXPECT_FALSE(publish("copy", "linked"));
  EXPECT_NE(refused_.find("no plain file"), std::string::npos) << refused_;
}

TEST_F(Published, AnHonestRunHoldsOverHttpAndIsFetchedOnce) {
  const Report report = verified(everything());
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_EQ(report.replays.size(), 12u);
  EXPECT_EQ(report.run, server_->url("/run"));
  EXPECT_EQ(report.find("states")->outcome, Outcome::kHolds);
  server_->take_requests();
  EXPECT_TRUE(verified().holds());
  EXPECT_EQ(
      server_->take_requests(),
      (std::vector<std::string>{"/run/ledger/checkpoint", "/run/ledger/publisher/checkpoint"}));
  // A file here that was damaged is fetched again.
  std::ofstream(cache() / "recipe.toml") << "x";
  fs::resize_file(cache() / "ledger/tile/0/000.p" /
                      fs::directory_iterator(cache() / "ledger/tile/0/000.p")->path().filename(),
                  7);
  EXPECT_TRUE(verified().holds());
  EXPECT_TRUE(report_of(cache(), false).holds());
}

// Texts are made here; what is asked for is what nobody can make without the training.
TEST_F(Published, OnlyTensorsRecordsAndSignaturesAreFetched) {
  EXPECT_TRUE(verified().holds());
  std::set<std::string> names;
  for (const std::string& path : server_->take_requests())
    if (path.starts_with("/run/checkpoints/"))
      names.insert(path.substr(path.find('/', std::string("/run/checkpoints/").size()) + 1));
  EXPECT_EQ(names, (std::set<std::string>{"record.json", "model.safetensors", "model.sig",
                                          "state/optimizer.safetensors"}));
  EXPECT_EQ(files_below(cache() / "checkpoints"), files_below(tree() / "run/checkpoints"));
}

// A forger who serves a tree that was sealed with every key.
TEST_F(Published, SealedFilesOfStatesAreFoundOverHttp) {
  const std::string card = "README.md", adapter = "adapter_config.json";
  for (const std::string& name : {card, adapter}) {
    const fs::path run = tree() / "run";
    fs::remove_all(tree());
    fs::create_directories(tree());
    fs::copy(directory_ / "honest", run, fs::copy_options::recursive);
    Forger forger(run, directory_ / "keys");
    std::ofstream(forger.state(20) / name) << "{}";
    forger.seal_as_it_is();
    fs::remove_all(cache());
    const Report report = verified();
    EXPECT_EQ(report.find("states")->outcome, Outcome::kFails) << name;
    EXPECT_NE(report.find("states")->detail.find(name == card ? "not those" : adapter),
              std::string::npos)
        << report.find("states")->detail;
    EXPECT_FALSE(followed().ok()) << name;
    EXPECT_FALSE(fs::exists(cache() / forger.state(20).lexically_relative(run)));
  }
}

TEST_F(Published, ARangeFetchesWhatItNeedsAndSaysSo) {
  const Report report = verified({Selection::Kind::kRange, "5", "8"});
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_EQ(report.replays.front().first_step, 5);
  EXPECT_EQ(report.find("states")->outcome, Outcome::kOpen);
  EXPECT_NE(report.find("states")->detail.find("4 of 13"), std::string::npos)
      << report.find("states")->detail;
  std::set<std::string> states;
  for (const std::string& path : server_->take_requests())
    if (path.starts_with("/run/checkpoints/") || path.starts_with("/run/audit/"))
      states.insert(path.substr(0, path.find('/', path.find('/', 5) + 1)));
  EXPECT_EQ(states.size(), 4u);  // after 0, 5, 6, 8
}

TEST_F(Published, WhatAKilledFollowerWroteHalfIsNoFileOfAState) {
  ASSERT_TRUE(open().ok());  // begins the copy
  for (const auto& state : fs::directory_iterator(tree() / "run/checkpoints")) {
    const fs::path staged = cache() / ".fetching/checkpoints" / state.path().filename();
    fs::create_directories(staged);
    std::ofstream(staged / ".tmp-record.json-1") << "{";
  }
  const Result<std::vector<int64_t>> steps = followed();
  EXPECT_TRUE(steps.ok()) << steps.error().message;
}

// What a copy lacks may still be brought; what a run lacks that lies here is a contradiction.
TEST_F(Published, ACopyThatIsNotWholeAccusesNobody) {
  ASSERT_TRUE(followed().ok());
  const std::string state = "checkpoints/stage1-step0000000010-tokens0000000000002560";
  for (const std::string& gone :
       {state, state + "/model.safetensors", std::string("data/00-licence-train-00000.tokens"),
        std::string("recipe.toml"), std::string("ledger/publisher/checkpoint")}) {
    const fs::path kept = directory_ / "kept";
    fs::rename(cache() / gone, kept);
    const Report copy = report_of(cache(), false);
    EXPECT_EQ(copy.answer(), Answer::kUnchecked) << gone << copy.to_json().dump(1);
    EXPECT_NE(copy.sentence.find("naite follow " + server_->url("/run")), std::string::npos)
        << copy.sentence;
    fs::rename(cache() / ".mirror", directory_ / "marker");
    EXPECT_EQ(report_of(cache(), false).answer(), Answer::kContradicted) << gone;
    fs::rename(directory_ / "marker", cache() / ".mirror");
    fs::rename(kept, cache() / gone);
    EXPECT_TRUE(report_of(cache(), false).holds()) << gone;
  }
}

// What a server does, and which check must find it.
struct Lie {
  const char *name, *path, *found_by, *reason;
  Handler handler;
  // What was sent contradicts the log; else the server did not let us look.
  bool contradicts = false;
};

std::vector<Lie> lies() {
  const char* state = "/run/audit/step0000000006/model.safetensors";
  const char* record = "/run/audit/step0000000006/record.json";
  auto answer = [](int status, const std::string& body, const std::string& more = "") {
    return [=](const Request&, const Connection& c) { c.respond(status, body, more); };
  };
  auto endless = [](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\n\r\n");
    while (c.send(std::string(100'000, 'x'))) {
    }
  };
  auto cut = [](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\nshort");
  };
  auto longer = [](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nshort");
  };
  auto stall = [](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\nshort");
    c.stall();
  };
  const std::string digest(64, '0');
  return {
      {"a logged state that is not there", record, "states", "404", answer(404, "")},
      {"a file of a logged state that is not there", state, "states", "404", answer(404, "")},
      {"other bytes than logged", state, "states", "other bytes", answer(200, "other"), true},
      {"a body that is cut", state, "states", "closed the connection", cut},
      {"a body without end", state, "states", "more than", endless},
      {"a body that stalls", state, "states", "stalls", stall},
      {"a state that is somewhere else", state, "states", "only http",
       answer(302, "", "Location: file:///etc/passwd\r\n")},
      {"a state that leads in circles", state, "states", "redirects",
       [state](const Request&, const Connection& c) {
         c.respond(301, "", fmt::format("Location: {}\r\n", state));
       }},
      {"a record without end", record, "states", "more than", endless},
      {"a record with another file", record, "states", "not those",
       answer(200, "{\"files\": {\"model.safetensors\": \"" + digest + "\"}}"), true},
      {"a record with a path out of the state", record, "states", "",
       answer(200, "{\"files\": {\"../../../../x\": \"" + digest + "\"}}"), true},
      {"a record with an absolute path", record, "states", "",
       answer(200, "{\"files\": {\"/tmp/x\": \"" + digest + "\"}}"), true},
      {"a record that is none", record, "states", "", answer(200, "["), true},
      {"a server that is broken", record, "states", "500", answer(500, "")},
      {"a server that has too much to do", state, "states", "503", answer(503, "")},
      {"a state that is on another server", state, "states", "another server",
       answer(302, "", "Location: http://127.0.0.1:1/x\r\n")},
      {"a shard that is longer", "/run/data/00-licence-train-00000.tokens", "data",
       "bytes that are allowed", longer},
      {"another shard", "/run/data/00-licence-train-00000.tokens", "data", "other bytes",
       answer(200, "other"), true},
      {"a shard without end", "/run/data/00-licence-train-00000.tokens", "data", "more than",
       endless},
      {"another recipe", "/run/recipe.toml", "recipe", "other bytes", answer(200, "[run]\n"), true},
      {"a manifest that is not there", "/run/data/manifest.json", "recipe", "404", answer(404, "")},
      {"a head that is too long", "/run/ledger/checkpoint", "log", "more than",
       answer(200, std::string(70'000, 'x'))},
      {"a head that is none", "/run/ledger/checkpoint", "log", "published run", answer(200, "x\n")},
      {"a page instead of a head", "/run/ledger/checkpoint", "log", "published run",
       answer(200, "<html><p>Please log in.</p></html>\n")},
      {"a key that is none", "/run/ledger/vkey", "log", "published run", answer(200, "x\n")},
      {"no head", "/run/ledger/checkpoint", "log", "404", answer(404, "")},
      {"no log of runs", "/run/ledger/publisher/checkpoint", "publisher", "404", answer(404, "")},
  };
}

TEST_F(Published, LyingServersAreFound) {
  for (const Lie& lie : lies()) {
    fs::remove_all(cache());
    server_->be_honest();
    server_->lie(lie.path, lie.handler);
    const Report report = verified();
    EXPECT_FALSE(report.holds()) << lie.name;
    const Check* found = report.find(lie.found_by);
    ASSERT_NE(found, nullptr) << lie.name << report.to_json().dump(1);
    EXPECT_EQ(found->outcome, lie.contradicts ? Outcome::kFails : Outcome::kUnchecked) << lie.name;
    EXPECT_NE(found->detail.find(lie.reason), std::string::npos) << lie.name << found->detail;
    EXPECT_EQ(found->detail.find('\n'), std::string::npos) << lie.name;
    EXPECT_EQ(report.verdicts[0].verdict, lie.contradicts ? "contradicted" : "could not be checked")
        << lie.name;
    EXPECT_EQ(report.sentence.find("is not what its log claims") != std::string::npos,
              lie.contradicts)
        << lie.name << report.sentence;
    EXPECT_FALSE(fs::exists(cache().parent_path() / "x"));
    // Nothing of the lie stays.
    server_->be_honest();
    EXPECT_TRUE(verified().holds()) << lie.name << verified().to_json().dump(1);
  }
}

TEST_F(Published, TilesThatAreMissingOrWrongAreFound) {
  for (const std::string& file : files_below(tree() / "run/ledger/tile")) {
    const std::string path = "/run/ledger/tile/" + file;
    for (const char* body : {"", "x"}) {
      fs::remove_all(cache());
      server_->be_honest();
      server_->lie(path, [body](const Request&, const Connection& c) {
        c.respond(body[0] == '\0' ? 404 : 200, body);
      });
      const Report report = verified();
      EXPECT_EQ(report.find("log")->outcome,
                body[0] == '\0' ? Outcome::kUnchecked : Outcome::kFails)
          << path;
      EXPECT_FALSE(fs::exists(cache() / "ledger/checkpoint"));
      server_->be_honest();
      EXPECT_TRUE(verified().holds());
    }
  }
}

// A manifest may promise more than any disk has.
TEST_F(Published, WhatNoDiskHasRoomForIsNotBegun) {
  Result<Mirror> mirror = open();
  ASSERT_TRUE(mirror.ok());
  data::Manifest manifest = *data::Manifest::load(tree() / "run");
  std::vector<data::ManifestShard>& shards = manifest.sources[0].train.shards;
  for (int i = 0; i < 1000; ++i) {
    shards.push_back(shards[0]);
    shards.back().file = fmt::format("more-{}.tokens", i);
    shards.back().tokens = int64_t{1} << 40;
  }
  server_->take_requests();
  const Status status = mirror->fetch_data(manifest);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::kUnable);
  EXPECT_NE(status.error().message.find("make room"), std::string::npos) << status.error().message;
  EXPECT_TRUE(server_->take_requests().empty());
}

// Names that a trainer, who signs them, may write.
TEST_F(Published, HostileNamesAreRefused) {
  const auto published = [](const std::vector<std::string>& names) {
    formats::Record record;
    for (const std::string& name : names) record.files[name] = std::string(64, '0');
    return record::published_state(record, true, 1, "record.json");
  };
  for (const std::string& name :
       {std::string("../x"), std::string("/x"), std::string("a/../../x"), std::string("a/b/c"),
        std::string(".hidden"), std::string("record.json"), std::string("model.sig"),
        std::string(300, 'a'), std::string("a\nb"), std::string("a b"), std::string("")}) {
    const auto files = published({name});
    ASSERT_FALSE(files.ok()) << name;
    EXPECT_EQ(files.error().message.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(published({"state/b"}).ok());
  EXPECT_FALSE(published({"adapter_config.json"}).ok());
  EXPECT_TRUE(published({"README.md", "state/cursor.json"}).ok());
  data::Manifest manifest = *data::Manifest::load(tree() / "run");
  EXPECT_TRUE(record::published_shards(manifest).ok());
  data::ManifestShard& shard = manifest.sources[0].train.shards[0];
  for (const std::string& name :
       {std::string("../x"), std::string(".x"), std::string(400, 'x'), std::string("manifest.json"),
        manifest.sources[0].validation.shards[0].file}) {
    shard.file = name;
    EXPECT_FALSE(record::published_shards(manifest).ok()) << name;
  }
}

TEST_F(Published, FollowingBringsCheckpointsAsTheyAppear) {
  train_run("growing", {}, "10%", 10);
  fs::remove_all(tree());
  ASSERT_TRUE(publish("growing"));
  EXPECT_FALSE(published_.ended);
  EXPECT_EQ(*followed(), (std::vector<int64_t>{0, 5, 10}));
  EXPECT_FALSE(ended_);
  EXPECT_EQ(*followed(), std::vector<int64_t>());
  train_run("growing", {});
  const std::set<std::string> partials = files_below(tree() / "run/ledger");
  ASSERT_TRUE(publish("growing"));
  for (const std::string& file : partials)  // what earlier heads need stays
    EXPECT_TRUE(fs::exists(tree() / "run/ledger" / file)) << file;
  EXPECT_EQ(*followed(), (std::vector<int64_t>{15, 20}));
  EXPECT_TRUE(ended_);
  EXPECT_TRUE(report_of(cache(), true, false, trusting(directory_ / "keys")).holds());
}

TEST_F(Published, ForkedAndShortenedLogsAreLoud) {
  const std::string old_head = [] {
    train_run("forking", {}, "10%", 10);
    fs::remove_all(tree());
    EXPECT_TRUE(publish("forking"));
    return *read_file(tree() / "run/ledger/checkpoint");
  }();
  ASSERT_TRUE(followed().ok());
  const std::set<std::string> before = files_below(cache());
  {
    Forger forger(tree() / "run", directory_ / "keys");
    forger.entry("checkpoint", 2)["metrics"]["loss"] = 1.0;
    forger.entries().push_back(forger.entry("steps"));  // a longer history, but another one
    forger.sign();
  }
  Result<std::vector<int64_t>> found = followed();
  ASSERT_FALSE(found.ok());
  const auto root_of = [](const std::string& note) {
    return ledger::to_hex(ledger::Head::parse(ledger::Note::parse(note, "")->text, "")->root);
  };
  const std::string forged = *read_file(tree() / "run/ledger/checkpoint");
  EXPECT_NE(found.error().message.find("two histories"), std::string::npos)
      << found.error().message;
  for (const std::string& head : {old_head, forged})
    EXPECT_NE(found.error().message.find(root_of(head)), std::string::npos);
  std::string kept;
  for (const std::string& file : files_below(cache()))
    if (file.starts_with("evidence/") && file.ends_with("/checkpoint"))
      kept = *read_file(cache() / file);
  EXPECT_EQ(kept, forged);
  EXPECT_EQ(*read_file(cache() / "ledger/checkpoint"), old_head);
  for (const std::string& file : before) EXPECT_TRUE(fs::exists(cache() / file)) << file;
  // verify says it too, and the copy of before still holds.
  EXPECT_EQ(verified().find("log")->outcome, Outcome::kFails);
  EXPECT_TRUE(report_of(cache(), false).holds());
  // Shorter than before.
  Forger forger(tree() / "run", directory_ / "keys");
  forger.entries().resize(7);
  forger.sign();
  found = followed();
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.error().message.find("cut off"), std::string::npos) << found.error().message;
}

TEST_F(Published, HeadsOfOthersChangeNothing) {
  ASSERT_TRUE(followed().ok());
  const std::string head = *read_file(cache() / "ledger/checkpoint");
  const std::string text = ledger::Note::parse(head, "")->text;
  const ledger::Signer stranger = *ledger::Signer::make(text.substr(0, text.find('\n')));
  server_->lie("/run/ledger/checkpoint", [&](const Request&, const Connection& c) {
    c.respond(200, text + "\n" + stranger.signature_line(text));
  });
  const Result<std::vector<int64_t>> found = followed();
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.error().message.find("no signature"), std::string::npos) << found.error().message;
  EXPECT_EQ(*read_file(cache() / "ledger/checkpoint"), head);
  ASSERT_TRUE(ledger::make_keys(directory_ / "mallory", "example.org/team").ok());
  server_->be_honest();
  Result<Mirror> mirror = open();
  EXPECT_FALSE(follow_once(*mirror, trusting(directory_ / "mallory"),
                           [](const record::RunHistory&, const record::StoredState&) {})
                   .ok());
}

TEST_F(Published, OtherFoldersAreLeftAlone) {
  fs::create_directories(cache());
  ASSERT_TRUE(open().ok());  // an empty one is fine
  fs::remove_all(cache());
  fs::copy(directory_ / "honest", cache(), fs::copy_options::recursive);
  EXPECT_FALSE(open().ok());
}

}  // namespace
}  // namespace naite::verify
