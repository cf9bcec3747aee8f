// SPDX-License-Identifier: Apache-2.0
#include "verify/audit.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "data/prepare.h"
#include "data/shards.h"
#include "formats/checkpoint.h"
#include "ledger/ledger.h"
#include "record/published.h"
#include "record/run_ledger.h"
#include "verify/mirror.h"

namespace naite::verify {

namespace fs = std::filesystem;
using nlohmann::json;
using record::StoredState;

namespace {

constexpr int64_t kFilesMax = 1'000'000;
constexpr int64_t kStepsMax = 100'000'000;  // the mixture is walked once, step by step
constexpr int64_t kBatchTokensMax = int64_t{1} << 27;
constexpr int64_t kShardTokensMax = int64_t{1} << 40;
constexpr uintmax_t kTextFileMax = uintmax_t{256} << 20;  // recipe, manifest, tokenizer

Status plain_text_file(const fs::path& path) {
  std::error_code code;
  const uintmax_t size = fs::file_size(path, code);
  if (code) return fail("{} is missing", path.string());
  if (size > kTextFileMax) return fail("{} has {} bytes, too many", path.string(), size);
  return {};
}

Status same(std::string_view what, const json& committed, const json& found) {
  if (committed == found) return {};
  return fail("{} is {}, the log commits to {}", what, found.dump(), committed.dump());
}

// Who else has signed a head, by their own names: without their keys nothing more can be said.
std::string witnesses_named(const ledger::Note& note, const ledger::Verifier& signer) {
  std::vector<std::string> names;
  for (const ledger::NoteSignature& signature : note.signatures)
    if (signature.name != signer.name) names.push_back(signature.name);
  if (names.empty()) return "";
  return fmt::format("; cosigned in the name of {}, which a policy with their keys would check",
                     fmt::join(names, ", "));
}

}  // namespace

bool is_named(const StoredState& state, const std::string& name) {
  return name == fmt::format("{}", state.step) || name == state.directory ||
         state.directory.ends_with("/" + name);
}

bool Audit::check(std::string_view name, const Result<Finding>& finding) {
  Check out{std::string(name), Outcome::kFails, ""};
  if (finding.ok()) {
    out.outcome = finding->outcome;
    out.detail = finding->detail;
  } else {
    out.detail = finding.error().message;
  }
  report_.checks.push_back(std::move(out));
  return finding.ok();
}

bool Audit::failed(std::string_view name) const {
  const Check* check = report_.find(name);
  return check != nullptr && check->outcome == Outcome::kFails;
}

// A check that others do not rest on.
bool Audit::may_fail(std::string_view name, const Result<Finding>& finding) {
  return check(name, finding) || !request_.fail_fast;
}

// Digests come first: what is parsed afterwards is what somebody has signed.
bool Audit::check_claims() {
  return check("files", files()) && check("log", log()) &&
         (request_.mirror != nullptr || may_fail("bytes", bytes())) &&
         may_fail("signature", signature()) && may_fail("publisher", publisher()) &&
         check("recipe", recipe()) && may_fail("seed", seed()) && check("data", data()) &&
         may_fail("batches", batches()) && (request_.text.empty() || may_fail("text", text()));
}

// What is computed rests on the files: from another state than the log has, nothing follows.
bool Audit::check_states() {
  const bool whole = !failed("bytes") && check("states", states());
  if (!whole && request_.fail_fast) return false;
  const bool asks = whole && (has_cosignatures() || asks_for_organisations());
  return (!asks || may_fail("cosigned", cosignatures())) && may_fail("distinct", distinct()) &&
         may_fail("end", end()) && whole && check("memory", memory()) &&
         check("initial", initial());
}

Result<Report> Audit::verify() {
  if (!fs::is_directory(request_.run)) return fail("{} is no run directory", request_.run.string());
  report_.run = request_.mirror != nullptr ? request_.mirror->url() : request_.run.string();
  const bool goes_on = check_claims() && check_states();
  if (goes_on && request_.replay.kind == Selection::Kind::kReports)
    check("reports", reports());
  else if (goes_on && request_.replay.kind != Selection::Kind::kNone)
    check("replay", replays());
  if (stopped()) return fail("interrupted");
  conclude();
  return std::move(report_);
}

// Links could lead out of the run, devices and pipes could stall whoever reads them.
Result<Finding> Audit::files() const {
  std::error_code code;
  int64_t count = 0;
  fs::recursive_directory_iterator it(request_.run, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const fs::file_type type = it->symlink_status(code).type();
    if (type != fs::file_type::directory && type != fs::file_type::regular)
      return fail("{} is a link or no plain file", it->path().string());
    if (++count > kFilesMax) return fail("more than {} files", kFilesMax);
  }
  if (code) return fail("cannot list {}: {}", request_.run.string(), code.message());
  return Finding{fmt::format("{} plain files and folders", count)};
}

Result<Finding> Audit::log() {
  if (request_.mirror != nullptr) NAITE_TRY(request_.mirror->fetch_log());
  NAITE_ASSIGN(ledger::LogContent log, ledger::read_log(run_.ledger()));
  note_ = std::move(log.note);
  NAITE_ASSIGN(history_, record::RunHistory::parse(log.entries));
  if (history_.commitment_entry.empty()) return fail("the log is empty");
  if (history_.commitment.origin != log.head.origin)
    return fail("the log is {}, its commitment was made for {}", log.head.origin,
                history_.commitment.origin);
  if (!history_.seed || !history_.initial_complete || history_.stored.empty())
    return fail("the log ends before the first state: there is nothing to verify yet");
  report_.origin = log.head.origin;
  report_.head = log.head;
  report_.commitment = sha256_hex(history_.commitment_entry);
  return Finding{fmt::format("{} entries; every tile, the root and the order of entries recomputed",
                             log.head.size)};
}

Result<Finding> Audit::signature() {
  NAITE_ASSIGN(const ledger::Verifier signer, ledger::Verifier::parse(history_.commitment.vkey));
  if (signer.name != report_.origin || signer.type != ledger::KeyType::kEd25519)
    return fail("the key of the commitment is not the key of {}", report_.origin);
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(note_, signer));
  if (!is_signed) return fail("the log's head carries no signature of {}", signer.vkey());
  NAITE_TRY(plain_text_file(run_.ledger() / "vkey"));
  NAITE_ASSIGN(const std::string vkey, read_file(run_.ledger() / "vkey"));
  if (vkey != signer.vkey() + "\n") return fail("the file vkey names another key");
  signer_ = signer;
  report_.signer = signer.vkey();
  unsigned_ = signer.name.starts_with("unsigned.invalid/");
  if (!request_.policy)
    return Finding{fmt::format("{}; times are the trainer's word{}",
                               unsigned_ ? "unsigned: signed by a key of this run alone"
                                         : "self-signed: no policy says whose key it is",
                               witnesses_named(note_, signer)),
                   Outcome::kOpen};
  NAITE_ASSIGN(const int64_t cosigned, request_.policy->accept(signer, note_));
  return Finding{fmt::format("by {}, trusted by the policy; {} witnesses", signer.name, cosigned)};
}

// The publisher's log of runs: this one must have been listed in it.
Result<Finding> Audit::publisher() {
  if (unsigned_ || !signer_)
    return Finding{"no publisher: nothing says which other runs were made", Outcome::kOpen};
  if (request_.mirror != nullptr) NAITE_TRY(request_.mirror->fetch_publisher());
  ledger::Verifier publisher = *signer_;
  publisher.name = publisher.name.substr(0, publisher.name.rfind('/'));
  NAITE_ASSIGN(const ledger::LogContent log, ledger::read_log(run_.ledger() / "publisher"));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(log.note, publisher));
  if (!is_signed || log.head.origin != publisher.name)
    return fail("the log of runs is not that of {}", publisher.name);
  int64_t runs = 0, ended = 0;
  bool listed = false;
  for (size_t i = 0; i < log.entries.size(); ++i) {
    const std::string where = fmt::format("entry {} of the log of runs:", i);
    NAITE_ASSIGN(const json entry, ledger::parse_canonical_json(log.entries[i], where));
    Table table(entry, where);
    const bool begins = table.choice("type", std::nullopt, {"run", "end"}) == "run";
    const std::string origin = table.string("origin");
    const std::string commitment = begins ? table.string("commitment") : "";
    NAITE_TRY(table.finish(true));
    runs += begins;
    ended += !begins;
    listed =
        listed || (origin == report_.origin && commitment == sha256_hex(history_.commitment_entry));
  }
  if (!listed) return fail("the log of runs does not list the commitment of this run");
  return Finding{fmt::format("{} lists {} runs, {} of them ended", publisher.name, runs, ended)};
}

Result<Finding> Audit::recipe() {
  if (request_.mirror != nullptr) NAITE_TRY(request_.mirror->fetch_claims(history_));
  for (const char* file :
       {"recipe.toml", "tokenizer.json", "tokenizer_config.json", "data/manifest.json"})
    NAITE_TRY(plain_text_file(request_.run / file));
  NAITE_ASSIGN(curriculum_, train::load_recipe(run_.recipe(), {}));
  const record::Commitment amended = history_.amended();
  NAITE_TRY(adopt_plan(amended.plan));
  for (train::Recipe& stage : curriculum_.stages)
    if (history_.seed->beacon) stage.seed = history_.seed->seed;
  for (const train::Recipe& stage : curriculum_.stages)
    if (curriculum_.total_steps() > kStepsMax || stage.train.batch_tokens > kBatchTokensMax)
      return fail("{} steps of {} tokens are more than this program verifies",
                  curriculum_.total_steps(), stage.train.batch_tokens);
  NAITE_ASSIGN(manifest_, data::Manifest::load(request_.run));
  NAITE_ASSIGN(const std::string tokenizer, sha256_file(request_.run / "tokenizer.json"));
  NAITE_TRY(same("tokenizer.json", amended.tokenizer_sha256, tokenizer));
  NAITE_ASSIGN(tokenizer_, data::Tokenizer::load(request_.run));
  if (manifest_.vocab_size != tokenizer_->vocab_size())
    return fail("the manifest speaks of {} tokens, the tokenizer has {}", manifest_.vocab_size,
                tokenizer_->vocab_size());
  NAITE_ASSIGN(const record::Commitment found,
               train::commitment_of(curriculum_, manifest_, amended.branch, request_.run));
  NAITE_TRY(same("arithmetic", amended.arithmetic, found.arithmetic));
  NAITE_TRY(same("data digest", amended.data_digest, found.data_digest));
  NAITE_TRY(same("data/manifest.json", amended.manifest_sha256, found.manifest_sha256));
  NAITE_TRY(same("tokenizer", amended.tokenizer_sha256, found.tokenizer_sha256));
  NAITE_TRY(same("tokenizer_config.json", amended.tokenizer_config_sha256,
                 found.tokenizer_config_sha256));
  if (found.training_digest != amended.training_digest) {
    // As the log has it: canonical JSON does not tell 1.0 from 1.
    NAITE_ASSIGN(const std::string training, ledger::canonical_json(found.training));
    const std::vector<std::string> differences =
        train::recipe_differences(amended.training, json::parse(training));
    return fail("recipe.toml is not what the log commits to: {}",
                differences.empty() ? "another training digest" : differences.front());
  }
  NAITE_TRY(same("recipe.toml", amended.recipe_sha256, found.recipe_sha256));
  NAITE_TRY(same("architecture", amended.architecture, found.architecture));
  NAITE_TRY(same("number of parameters", amended.parameters, found.parameters));
  NAITE_TRY(same("number of steps", amended.steps, found.steps));
  NAITE_TRY(same("number of tokens", amended.tokens, found.tokens));
  return Finding{fmt::format("{} of {} parameters, {} steps, {} tokens, as committed to first",
                             found.architecture, found.parameters, found.steps, found.tokens)};
}

// recipe.toml may have an older plan of checkpoints than the log.
Status Audit::adopt_plan(const json& plan) {
  if (!plan.is_array() || plan.size() != curriculum_.stages.size())
    return fail("the log's plan has not one entry for each stage");
  json resolved = curriculum_.resolved();
  json& stages = resolved.contains("stage") ? resolved["stage"] : resolved;
  for (size_t i = 0; i < plan.size(); ++i)
    (stages.is_array() ? stages[i] : stages)["checkpoint"] = plan[i];
  NAITE_ASSIGN(curriculum_, train::parse_recipe(resolved, run_.recipe().string()));
  return {};
}

Result<Finding> Audit::seed() const {
  const record::SeedEntry& entry = *history_.seed;
  const train::Recipe& recipe = curriculum_.first();
  if (entry.beacon != !recipe.beacon.empty())
    return fail("the recipe and the log say different things about the origin of the seed");
  if (!entry.beacon) {
    if (entry.seed != recipe.seed)
      return fail("the seed of the log is {}, of the recipe {}", entry.seed, recipe.seed);
    return Finding{fmt::format("{}, chosen by the trainer", entry.seed)};
  }
  if (entry.seed != record::beacon_seed(history_.commitment_entry, *ledger::from_hex(entry.value)))
    return fail("the seed does not follow from the commitment and the beacon's value");
  return Finding{fmt::format("from the commitment and the value {} of {}; look that value up",
                             entry.value, recipe.beacon)};
}

// Ids that no model has would make it read elsewhere; starts tell where documents begin.
Status Audit::tokens_of(const data::ManifestSplit& split) const {
  for (const data::ManifestShard& shard : split.shards)
    if (shard.tokens > kShardTokensMax || shard.documents > kShardTokensMax)
      return fail("data/{}: more tokens than this program verifies", shard.file);
  NAITE_ASSIGN(const data::SplitReader reader,
               data::SplitReader::open(request_.run / "data", split, manifest_.token_bytes));
  std::vector<int32_t> ids(static_cast<size_t>(1) << 16);
  for (int64_t at = 0; at < reader.num_tokens(); at += static_cast<int64_t>(ids.size())) {
    const auto count = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(ids.size()), reader.num_tokens() - at));
    reader.copy(at, std::span(ids).first(count));
    for (size_t i = 0; i < count; ++i)
      if (ids[i] < 0 || ids[i] >= manifest_.vocab_size)
        return fail("token {} has the id {} of {}", at + static_cast<int64_t>(i), ids[i],
                    manifest_.vocab_size);
  }
  int64_t before = -1;
  for (int64_t document = 0; document < reader.num_documents(); ++document) {
    const int64_t start = reader.document_start(document);
    int32_t first = -1;
    if (start > before && start < reader.num_tokens()) reader.copy(start, {&first, 1});
    if (first != manifest_.end_of_document)
      return fail("document {} does not begin where its shard says", document);
    before = start;
  }
  return {};
}

Result<Finding> Audit::data() {
  if (request_.mirror != nullptr) NAITE_TRY(request_.mirror->fetch_data(manifest_));
  progress("checking shards", 0, 0);
  NAITE_TRY(data::check_shards(request_.run / "data", manifest_, pool_));
  int64_t tokens = 0;
  for (const data::ManifestSource& source : manifest_.sources)
    for (const data::ManifestSplit* split : {&source.train, &source.validation}) {
      const Status status = tokens_of(*split);
      if (!status) return fail("source {}: {}", source.name, status.error().message);
      tokens += split->tokens;
    }
  NAITE_TRY(enter(curriculum_.first()));
  return Finding{fmt::format("tokenizer and every shard as committed to, {} tokens", tokens)};
}

// What every step has read, made again from the shards.
Result<Finding> Audit::batches() {
  const int64_t first = history_.commitment.first_step(), last = history_.last_step();
  for (const train::Recipe& stage : curriculum_.stages) {
    if (stage.end_step() <= first || stage.first_step >= last) continue;
    NAITE_TRY(enter(stage));
    train::HostBatch batch(stage);
    for (int64_t step = std::max(first, stage.first_step);
         step < std::min(last, stage.end_step()) && !stopped(); ++step) {
      if (step % 64 == 0) progress("checking batches", step, last);
      batch.fill(stage, *loader_, step);
      if (batch.digest() != history_.step(step + 1).batch)
        return fail("step {} read other data than the recipe says", step + 1);
    }
  }
  return Finding{
      fmt::format("{} steps read what the recipe says, none skipped or repeated", last - first)};
}

Status Audit::model_signature(const StoredState& state) const {
  const fs::path file = request_.run / state.directory / ledger::kModelSignatureFile;
  const std::string& pem = history_.commitment.model_key;
  std::error_code code;
  if (pem.empty()) {
    if (!fs::exists(file, code)) return {};
    return fail("{} is there, but the log names no key for it", file.string());
  }
  NAITE_ASSIGN(const ledger::ModelKey key, ledger::ModelKey::parse_public(pem));
  NAITE_TRY(plain_text_file(file));
  NAITE_ASSIGN(const std::string text, read_file(file));
  NAITE_ASSIGN(const ledger::ModelSignature signature,
               ledger::ModelSignature::parse(text, file.string()));
  NAITE_ASSIGN(const std::string expected, signature.text());
  if (text != expected) return fail("{} is spelled otherwise than naite does", file.string());
  if (!signature.is_signed_by(key))
    return fail("{} is not signed by the key of the log", file.string());
  if (ledger::to_hex(signature.manifest.digest()) != state.manifest)
    return fail("{} signs other files", file.string());
  return {};
}

// The stage whose last steps led to the state; for the first state of a run, the one it begins.
const train::Recipe& Audit::stage_that_stored(const StoredState& state) const {
  const bool first = state.step == history_.commitment.first_step();
  return curriculum_.stage_of(first ? state.step : state.step - 1);
}

// Every file of a stored state is there, is the one that the log has, and has none beside it.
Status Audit::state_bytes(const StoredState& state) const {
  const fs::path directory = request_.run / state.directory;
  if (!fs::is_directory(directory))
    return fail("{} is in the log and cannot be found", state.directory);
  NAITE_ASSIGN(const ledger::ModelManifest manifest,
               ledger::ModelManifest::of_directory(directory));
  if (ledger::to_hex(manifest.digest()) == state.manifest) return {};
  NAITE_TRY(formats::check_files(directory));
  return fail("{}: its files are not those that the log has", state.directory);
}

Result<Finding> Audit::bytes() const {
  const std::vector<const StoredState*> newest = record::newest_states(history_);
  int64_t done = 0;
  for (const StoredState* state : newest) {
    if (stopped()) return fail("interrupted");
    progress("checking files", done++, static_cast<int64_t>(newest.size()));
    NAITE_TRY(state_bytes(*state));
  }
  return Finding{fmt::format("{} states: every file is the one that was logged", newest.size())};
}

// What stands in the directory of a stored state against the log, and against what the recipe says
// must stand there.
Status Audit::state_content(const StoredState& state) {
  const fs::path directory = request_.run / state.directory;
  const train::Recipe& stage = stage_that_stored(state);
  const int64_t tokens = stage.tokens_at(state.step);
  const fs::path expected =
      state.checkpoint ? run_.checkpoint(stage.stage, state.step, tokens) : run_.audit(state.step);
  if (expected != run_.path() / state.directory || state.end_token != tokens)
    return fail("{} is not the name of the state after step {}", state.directory, state.step);
  NAITE_ASSIGN(const std::string weights, formats::weights_digest(directory));
  NAITE_ASSIGN(const std::string digest, formats::state_digest(directory));
  if (weights != state.weights || digest != state.state)
    return fail("{}: weights or training state are not those that the log has", state.directory);
  NAITE_ASSIGN(const json cursor, read_json(directory / "state/cursor.json"));
  if (cursor != train::cursor_of(curriculum_, state.step))
    return fail("{}: the cursor is not that of step {}", state.directory, state.step);
  NAITE_TRY(enter(stage));
  NAITE_TRY(formats::check_model_files(
      directory, train::content_of(stage, *model_, *tokenizer_, request_.run)));
  if (state.step > history_.commitment.first_step()) {
    const json loss = state.metrics.is_object() ? state.metrics.value("loss", json()) : json();
    if (loss != json(std::bit_cast<double>(history_.step(state.step).loss)))
      return fail("{}: its loss is not that of step {} in the log", state.directory, state.step);
  }
  return state.checkpoint ? model_signature(state) : Status();
}

// Every state that the plan has up to the last step is there, in the order of the plan.
Status Audit::planned_states() const {
  const int64_t first = history_.commitment.first_step(), stored = history_.stored.back().step;
  for (const train::Recipe& stage : curriculum_.stages) {
    std::vector<int64_t> planned = stage.checkpoint_steps();
    for (const int64_t step : stage.audit_steps()) planned.push_back(step);
    for (const int64_t step : planned) {
      // The newest state may be on its way; an amended plan holds for what comes after it.
      if (step < first || step > (history_.ended ? history_.last_step() : stored)) continue;
      if (history_.find(step) == nullptr && history_.amendments.empty())
        return fail("the plan stores a state after step {}, the log has none", step);
    }
  }
  return {};
}

// Over HTTP, a range needs the first state, those inside it, and those that averages in it are made
// of. Without a range, and of a run at hand, every state is looked at.
bool Audit::is_asked_for(const StoredState& state) const {
  const Selection& selection = request_.replay;
  if (request_.mirror == nullptr || selection.kind != Selection::Kind::kRange) return true;
  int64_t from = -1, to = -1;
  for (const StoredState& other : history_.stored) {
    if (from < 0 && is_named(other, selection.from)) from = other.step;
    if (from >= 0 && is_named(other, selection.to)) to = other.step;
  }
  if (state.step == history_.commitment.first_step()) return true;
  if (state.step >= from && state.step <= to) return true;
  const train::Recipe& stage = stage_that_stored(state);
  const std::vector<int64_t> averaging = stage.averaging_steps();
  const bool average_inside = std::any_of(averaging.begin(), averaging.end(),
                                          [&](int64_t step) { return step > from && step <= to; });
  return average_inside && state.step < from && train::is_averaged(stage, state.step);
}

Result<Finding> Audit::states() {
  if (history_.stored.front().step != history_.commitment.first_step())
    return fail("the first state is not that of step {}", history_.commitment.first_step());
  const std::vector<const StoredState*> newest = record::newest_states(history_);
  std::set<std::string> logged;
  int64_t done = 0;
  for (const StoredState* state : newest) {
    if (stopped()) return fail("interrupted");
    logged.insert(state->directory);
    if (!is_asked_for(*state)) continue;
    progress("checking states", done++, static_cast<int64_t>(newest.size()));
    if (request_.mirror != nullptr) {
      NAITE_TRY(request_.mirror->fetch_state(history_, *state));
      NAITE_TRY(state_bytes(*state));
    }
    NAITE_TRY(state_content(*state));
  }
  for (const fs::path& parent : {run_.checkpoints(), run_.audits()}) {
    if (!fs::exists(parent)) continue;
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(parent));
    for (const std::string& name : names)
      if (!logged.contains(parent.filename().string() + "/" + name))
        return fail("{} is not in the log", (parent / name).string());
  }
  NAITE_TRY(planned_states());
  if (done < static_cast<int64_t>(newest.size()))
    return Finding{fmt::format("{} of {} states fetched: every file and digest as logged; the "
                               "others were not looked at",
                               done, newest.size()),
                   Outcome::kOpen};
  return Finding{fmt::format("{} states: every file, digest{} as logged", newest.size(),
                             history_.commitment.model_key.empty() ? "" : " and signature")};
}

Result<Finding> Audit::distinct() const {
  std::map<std::string, int64_t> seen;
  for (const StoredState& state : history_.stored) {
    const auto [it, is_new] = seen.emplace(state.weights, state.step);
    if (!is_new && it->second != state.step)
      return fail("the states after steps {} and {} have the same weights", it->second, state.step);
  }
  return Finding{fmt::format("{} states, no two with the same weights", seen.size())};
}

Result<Finding> Audit::end() const {
  const int64_t delivered = history_.last_step();
  const std::string detail =
      fmt::format("{} of {} planned steps", delivered, history_.commitment.steps);
  if (history_.abandoned) return Finding{"abandoned after " + detail, Outcome::kOpen};
  if (!history_.ended) return Finding{"not ended: " + detail, Outcome::kOpen};
  if (delivered != history_.commitment.steps) return fail("ended after {}", detail);
  const StoredState* last = history_.find(delivered);
  if (last == nullptr || !last->checkpoint || last->state != history_.end_state)
    return fail("the end is not the state of the last checkpoint");
  return Finding{detail + " delivered"};
}

// The tokenizer trained again and all shards packed again from the raw text.
Result<Finding> Audit::text() const {
  data::PrepareRequest prepare;
  prepare.tokenizer = curriculum_.first().tokenizer;
  prepare.data = curriculum_.first().data;
  if (!prepare.tokenizer.file.empty())
    prepare.tokenizer.file = fs::absolute(request_.run / "tokenizer.json").string();
  for (data::SourceOptions& source : prepare.data.sources) {
    // Paths come from the run; they stay below the verifier's folder.
    const fs::path path = fs::path(source.path).lexically_normal().relative_path();
    if (path.empty() || *path.begin() == "..")
      return fail("source {}: the path {} leaves the folder of --text", source.name, source.path);
    source.path = (fs::absolute(request_.text) / path).string();
  }
  prepare.num_threads = pool_.num_threads();
  prepare.progress = [this](const data::PrepareProgress& p) { progress(p.phase, p.done, p.total); };
  prepare.run_directory = fs::temp_directory_path() / ("naite-verify-" + ledger::random_hex(8));
  NAITE_TRY(make_directories(prepare.run_directory));
  const Result<data::Manifest> again = data::prepare(prepare);
  const Result<std::string> config = sha256_file(prepare.run_directory / "tokenizer_config.json");
  NAITE_TRY(remove_tree(prepare.run_directory));
  if (!again) return again.error();
  if (again->tokenizer_sha256 != manifest_.tokenizer_sha256)
    return fail("the tokenizer that the text gives is another one");
  if (prepare.tokenizer.file.empty() && *config != history_.commitment.tokenizer_config_sha256)
    return fail("tokenizer_config.json is not that of the tokenizer");
  NAITE_ASSIGN(const std::string digest, train::data_digest(*again));
  if (digest != history_.commitment.data_digest)
    return fail("the text gives other shards than those that were trained on");
  return Finding{"tokenizer and every shard made again from the raw text: the same"};
}

}  // namespace naite::verify
