// SPDX-License-Identifier: Apache-2.0
#include "verify/claims.h"

#include <algorithm>
#include <span>

#include "base/clock.h"
#include "base/machine_limits.h"
#include "data/prepare.h"
#include "data/shards.h"
#include "ledger/ledger.h"
#include "record/run_files.h"
#include "train/commitment.h"
#include "verify/planned.h"

namespace naite::verify {

namespace fs = std::filesystem;
using nlohmann::json;
using record::StoredState;

namespace {

constexpr int64_t kFilesMax = 1'000'000;
constexpr double kBytesPerToken = 32;  // of a batch: ids, targets, positions, spans, weights
constexpr int64_t kShardTokensMax = int64_t{1} << 40;
constexpr uintmax_t kTextFileMax = uintmax_t{256} << 20;  // recipe, manifest, tokenizer

Status same(std::string_view what, const json& committed, const json& found) {
  if (committed == found) return {};
  return fail("{} is {}, the log commits to {}", what, found.dump(), committed.dump());
}

// What somebody gives as the text must be the files that the manifest lists; others prove nothing.
Status same_text(const data::Manifest& packed, const data::Manifest& found) {
  for (size_t i = 0; i < std::min(packed.sources.size(), found.sources.size()); ++i) {
    const auto digests = [](const data::ManifestSource& source) {
      std::vector<std::string> out;
      for (const data::ManifestFile& file : source.files) out.push_back(file.sha256);
      return out;
    };
    if (digests(packed.sources[i]) != digests(found.sources[i]))
      return unable(
          "the files of source {} below --text are not those that the manifest lists: ask "
          "for these",
          packed.sources[i].name);
  }
  return {};
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

Status plain_text_file(const fs::path& path) {
  std::error_code code;
  const uintmax_t size = fs::file_size(path, code);
  if (code)
    return Error{fmt::format("{} is missing", path.string()), kind_of_system_error(code.value())};
  if (size > kTextFileMax) return fail("{} has {} bytes, too many", path.string(), size);
  return {};
}

bool Claims::check_log(Checklist& list) {
  return list.check("files", files()) && list.check("log", log(list.report()));
}

bool Claims::check_rest(Checklist& list) {
  return list.may_fail("signature", signature(list.report())) &&
         list.may_fail("publisher", publisher(list.report())) && list.check("recipe", recipe()) &&
         list.may_fail("plan", plan()) && list.may_fail("seed", seed()) &&
         list.check("data", data()) && list.may_fail("batches", batches()) &&
         (setting_.request.text.empty() || list.may_fail("text", text()));
}

// Links could lead out of the run, devices and pipes could stall whoever reads them.
Result<Finding> Claims::files() const {
  std::error_code code;
  int64_t count = 0;
  fs::recursive_directory_iterator it(setting_.run.path(), code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const fs::file_type type = it->symlink_status(code).type();
    if (type == fs::file_type::not_found) continue;  // of a run that goes on
    if (type != fs::file_type::directory && type != fs::file_type::regular)
      return fail("{} is a link or no plain file", it->path().string());
    if (++count > kFilesMax) return fail("more than {} files", kFilesMax);
  }
  if (code) return system_error(code.value(), "cannot list {}", setting_.run.path().string());
  // What has no recipe is no run; the log says so.
  if (fs::exists(setting_.run.recipe(), code)) NAITE_TRY(record::check_places(setting_.run));
  return Finding{fmt::format("{} plain files and folders, each in a place that a run has", count)};
}

// The entries as they stand, their parsed values, and the bounded rest of reading one.
Status Claims::log_with_room() const {
  constexpr uintmax_t kTileBytesMax = uintmax_t{256} * (2 + 65535);  // longer ones are none
  double bytes = 0;
  std::error_code code;
  fs::recursive_directory_iterator it(setting_.run.ledger() / "tile", code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code))
    if (it->is_regular_file(code))
      bytes += static_cast<double>(std::min(it->file_size(code), kTileBytesMax));
  return setting_.room_for(4 * bytes, "the log");
}

Result<Finding> Claims::log(Report& report) {
  NAITE_TRY(setting_.source.fetch_log());
  std::error_code code;
  if (!fs::exists(setting_.run.ledger() / ledger::kHeadFile, code))
    return unable(
        "{} has no ledger/checkpoint, so nothing is claimed here: give the folder of a run",
        setting_.run.path().string());
  NAITE_TRY(log_with_room());
  NAITE_ASSIGN(ledger::LogContent log, ledger::read_log(setting_.run.ledger()));
  if (!log.entries.empty() && log.entries[0].ends_with("\"type\":\"run\"}"))
    return unable("{} has a publisher's log of runs: give the folder of a run",
                  setting_.run.path().string());
  note_ = std::move(log.note);
  leaves_ = std::move(log.leaves);
  NAITE_ASSIGN(history_, record::RunHistory::parse(log.entries));
  if (history_.commitment_entry.empty())
    return unable("the log is empty, nothing is claimed yet: verify it when the run has begun");
  if (history_.commitment.origin != log.head.origin)
    return fail("the log is {}, its commitment was made for {}", log.head.origin,
                history_.commitment.origin);
  if (!history_.seed || !history_.initial_complete || history_.stored.empty())
    return unable(
        "the log has no state yet, there is nothing to verify: come back when the run has "
        "stored its first one");
  report.origin = log.head.origin;
  report.head = log.head;
  report.commitment = sha256_hex(history_.commitment_entry);
  return Finding{fmt::format("{} entries; every tile, the root and the order of entries recomputed",
                             log.head.size)};
}

Result<Finding> Claims::signature(Report& report) {
  NAITE_ASSIGN(const ledger::Verifier signer, ledger::Verifier::parse(history_.commitment.vkey));
  if (signer.name != report.origin || signer.type != ledger::KeyType::kEd25519)
    return fail("the key of the commitment is not the key of {}", report.origin);
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(note_, signer));
  if (!is_signed) return fail("the log's head carries no signature of {}", signer.vkey());
  NAITE_TRY(plain_text_file(setting_.run.ledger() / "vkey"));
  NAITE_ASSIGN(const std::string vkey, read_file(setting_.run.ledger() / "vkey"));
  if (vkey != signer.vkey() + "\n") return fail("the file vkey names another key");
  signer_ = signer;
  report.signer = signer.vkey();
  unsigned_ = history_.commitment.is_unsigned();
  if (!setting_.request.policy)
    return Finding{fmt::format("{}; times are the trainer's word{}",
                               unsigned_ ? "unsigned: signed by a key of this run alone"
                                         : "self-signed: no policy says whose key it is",
                               witnesses_named(note_, signer)),
                   Outcome::kOpen};
  NAITE_ASSIGN(
      const std::vector<Cosigner> cosigned,
      setting_.request.policy->accept(signer, note_, history_.commitment.time, unix_seconds()));
  return Finding{fmt::format("by {}, trusted by the policy; {} witnesses{}", signer.name,
                             cosigned.size(), cosigners_named(cosigned))};
}

// The publisher's log of runs: this one must have been listed in it.
Result<Finding> Claims::publisher(const Report& report) {
  if (unsigned_ || !signer_)
    return Finding{"no publisher: nothing says which other runs were made", Outcome::kOpen};
  NAITE_TRY(setting_.source.fetch_publisher());
  ledger::Verifier publisher = *signer_;
  publisher.name = publisher.name.substr(0, publisher.name.rfind('/'));
  NAITE_ASSIGN(const ledger::LogContent log, ledger::read_log(setting_.run.ledger() / "publisher"));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(log.note, publisher));
  if (!is_signed || log.head.origin != publisher.name)
    return fail("the log of runs is not that of {}", publisher.name);
  NAITE_ASSIGN(const record::RunList list, record::RunList::parse(log.entries, publisher.name));
  std::vector<Cosigner> cosigned;
  if (setting_.request.policy) {
    NAITE_ASSIGN(cosigned,
                 setting_.request.policy->cosigners(publisher, log.note, 1, unix_seconds()));
  }
  const auto run = list.runs.find(report.origin);
  if (run == list.runs.end() || run->second.commitment != sha256_hex(history_.commitment_entry) ||
      run->second.time != history_.commitment.time)
    return fail("the log of runs does not list the commitment of this run");
  return listed(run->second,
                fmt::format("{} lists {} runs, {} of them ended{}", publisher.name,
                            list.runs.size(), list.num_ended(), cosigners_named(cosigned)));
}

// What the log of runs says of the end of this one is what its log has.
Result<Finding> Claims::listed(const record::ListedRun& run, const std::string& detail) const {
  if (!run.end) return Finding{detail};
  const auto size = static_cast<int64_t>(leaves_.size());
  if (run.end->size > size) {
    const std::string cut =
        fmt::format("the log of runs says that this one ended with {} entries, its own log has {}",
                    run.end->size, size);
    // It may have ended between two answers of a server.
    if (setting_.source.is_whole()) return fail("{}: it was cut off", cut);
    return Finding{cut + ": fetch it again; if it stays so, its end is withheld", Outcome::kOpen};
  }
  if (!history_.ended || run.end->size != size || run.end->root != ledger::tree_root(leaves_))
    return fail("the log of runs says that this one ended otherwise than its own log");
  return Finding{detail};
}

// Values in memory take up to so many times the room of their text: of `[],[],` it is 54.
Status Claims::text_with_room(const char* file) const {
  constexpr double kBytesPerByte = 64;
  const fs::path path = setting_.run.path() / file;
  NAITE_TRY(plain_text_file(path));
  std::error_code code;
  return setting_.room_for(kBytesPerByte * static_cast<double>(fs::file_size(path, code)), file);
}

Result<Finding> Claims::recipe() {
  NAITE_TRY(setting_.source.fetch_claims(history_));
  for (const char* file :
       {"recipe.toml", "tokenizer.json", "tokenizer_config.json", "data/manifest.json"})
    NAITE_TRY(text_with_room(file));
  NAITE_ASSIGN(curriculum_, train::load_recipe(setting_.run.recipe(), {}));
  NAITE_TRY(check_size(curriculum_));
  const record::Commitment amended = history_.amended();
  NAITE_TRY(plan_of_recipe());
  NAITE_ASSIGN(curriculum_, with_plan(curriculum_, amended.plan, setting_.run.recipe().string()));
  for (train::Recipe& stage : curriculum_.stages)
    if (history_.seed->beacon) stage.seed = history_.seed->seed;
  NAITE_ASSIGN(manifest_, data::Manifest::load(setting_.run.path()));
  NAITE_ASSIGN(const std::string tokenizer, sha256_file(setting_.run.path() / "tokenizer.json"));
  NAITE_TRY(same("tokenizer.json", amended.tokenizer_sha256, tokenizer));
  NAITE_ASSIGN(tokenizer_, data::Tokenizer::load(setting_.run.path()));
  if (manifest_.vocab_size != tokenizer_->vocab_size())
    return fail("the manifest speaks of {} tokens, the tokenizer has {}", manifest_.vocab_size,
                tokenizer_->vocab_size());
  NAITE_TRY(compare_commitment(amended));
  NAITE_TRY(data::check_prepared(manifest_, *tokenizer_, curriculum_.first().tokenizer,
                                 curriculum_.first().data));
  stepper_.emplace(curriculum_, setting_.run, tokenizer_->vocab_size(), setting_.states,
                   setting_.kernels, setting_.pool);
  return Finding{fmt::format("{} of {} parameters, {} steps, {} tokens, as committed to first",
                             amended.architecture, amended.parameters, amended.steps,
                             amended.tokens)};
}

Status Claims::compare_commitment(const record::Commitment& amended) {
  NAITE_ASSIGN(const record::Commitment found,
               train::commitment_of(curriculum_, manifest_, amended.branch, setting_.run.path()));
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
  return same("number of tokens", amended.tokens, found.tokens);
}

// The recipe's own plan is one that the log has: committed to, or put in its place later.
Status Claims::plan_of_recipe() const {
  const json plan = curriculum_.plan();
  if (history_.commitment.plan == plan) return {};
  for (const record::Amendment& amendment : history_.amendments)
    if (amendment.changes.value("plan", json()) == plan) return {};
  return fail("recipe.toml plans other states than the log: {}", plan.dump());
}

// Every state of the log is where the plan puts it, and measures what there is to measure.
Result<Finding> Claims::plan() const {
  NAITE_TRY(check_planned(history_, curriculum_, setting_.run));
  for (const StoredState& state : history_.stored)
    for (const auto& [name, measured] : state.validation.value_or(formats::Validation()))
      if (std::none_of(manifest_.sources.begin(), manifest_.sources.end(),
                       [&source = name](const data::ManifestSource& known) {
                         return known.name == source && known.validation.tokens > 0;
                       }))
        return fail("{}: there is no held-out text of {}", state.directory, name);
  const size_t changes = history_.plans().size() - 1;
  std::string detail = fmt::format("{} states, all that were planned{}", history_.stored.size(),
                                   changes > 0 ? fmt::format(", in {} plans", changes + 1) : "");
  const int64_t stored = history_.stored.back().step, last = history_.last_step();
  if (stored == last) return Finding{detail};
  return Finding{fmt::format("{}; steps {} to {} are followed by no state: they cannot be trained "
                             "again from what is here",
                             detail, stored + 1, last),
                 Outcome::kOpen};
}

Result<Finding> Claims::seed() const {
  const record::SeedEntry& entry = *history_.seed;
  const train::Recipe& recipe = curriculum_.first();
  if (entry.beacon != !recipe.beacon.empty())
    return fail("the recipe and the log say different things about the origin of the seed");
  if (entry.beacon) return beacon();
  if (entry.seed != recipe.seed)
    return fail("the seed of the log is {}, of the recipe {}", entry.seed, recipe.seed);
  return Finding{fmt::format("{}, chosen by the trainer, who may have tried many", entry.seed)};
}

// Whom the policy names and who had signed the log as it stood before the seed was entered.
Result<std::vector<Cosigner>> Claims::witnesses_before_seed() const {
  const std::vector<std::string>& lines = history_.seed->cosignatures;
  if (lines.empty() || !signer_ || !setting_.request.policy) return std::vector<Cosigner>();
  const auto before = std::span(leaves_).first(static_cast<size_t>(history_.seed_index));
  const ledger::Head head{signer_->name, history_.seed_index, ledger::tree_root(before)};
  NAITE_ASSIGN(const ledger::Note note,
               ledger::Note::parse(head.text() + "\n" + fmt::format("{}", fmt::join(lines, "")),
                                   "the cosignatures of the seed"));
  return setting_.request.policy->cosigners(*signer_, note, history_.commitment.time,
                                            unix_seconds());
}

// A value that was known before the commitment was made proves nothing: commitments can be made
// until one gives a seed that is wanted. What shows when it was made is who signed it before the
// value was entered.
Result<Finding> Claims::beacon() const {
  const record::SeedEntry& entry = *history_.seed;
  if (entry.seed != record::beacon_seed(history_.commitment_entry, *ledger::from_hex(entry.value)))
    return fail("the seed does not follow from the commitment and the beacon's value");
  const std::string from = fmt::format("from the commitment and the value {} of {}", entry.value,
                                       curriculum_.first().beacon);
  NAITE_ASSIGN(const std::vector<Cosigner> cosigned, witnesses_before_seed());
  if (cosigned.empty())
    return Finding{from +
                       "; that the commitment was made before that value was known, no witness "
                       "whom a policy names shows: it counts as chosen by the trainer",
                   Outcome::kOpen};
  return Finding{
      fmt::format("{}; the commitment was there before{}: look up that the value came "
                  "later",
                  from, cosigners_named(cosigned))};
}

// Ids that no model has would make it read elsewhere; starts tell where documents begin.
Status Claims::tokens_of(const data::ManifestSplit& split) const {
  for (const data::ManifestShard& shard : split.shards)
    if (shard.tokens > kShardTokensMax || shard.documents > kShardTokensMax)
      return fail("data/{}: more tokens than this program verifies", shard.file);
  NAITE_ASSIGN(const data::SplitReader reader,
               data::SplitReader::open(setting_.run.path() / "data", split, manifest_.token_bytes));
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

Result<Finding> Claims::data() {
  NAITE_TRY(setting_.source.fetch_data(manifest_));
  setting_.progress("checking shards", 0, 0);
  NAITE_TRY(data::check_shards(setting_.run.path() / "data", manifest_, setting_.pool));
  int64_t tokens = 0;
  for (const data::ManifestSource& source : manifest_.sources)
    for (const data::ManifestSplit* split : {&source.train, &source.validation}) {
      const Status status = tokens_of(*split);
      if (!status)
        return rephrased(status.error(), "source {}: {}", source.name, status.error().message);
      tokens += split->tokens;
    }
  NAITE_TRY(stepper_->open(curriculum_.first()));
  return Finding{fmt::format("tokenizer and every shard as committed to, {} tokens", tokens)};
}

// What every step has read, made again from the shards.
Result<Finding> Claims::batches() {
  const int64_t first = history_.commitment.first_step(), last = history_.last_step();
  for (const train::Recipe& stage : curriculum_.stages) {
    if (stage.end_step() <= first || stage.first_step >= last) continue;
    NAITE_TRY(stepper_->open(stage));
    const std::vector<int64_t> read =
        stepper_->loader().tokens_by_source(std::max(first, stage.first_step) - stage.first_step,
                                            std::min(last, stage.end_step()) - stage.first_step);
    for (int source = 0; source < stepper_->loader().num_sources(); ++source)
      tokens_read_[stepper_->loader().source_name(source)] += read[static_cast<size_t>(source)];
    NAITE_TRY(setting_.room_for(kBytesPerToken * static_cast<double>(stage.train.batch_tokens),
                                "a step's text"));
    std::vector<Batch> batches = train::make_batches(stage);
    for (int64_t step = std::max(first, stage.first_step);
         step < std::min(last, stage.end_step()) && !setting_.stopped(); ++step) {
      if (step % 64 == 0) setting_.progress("checking batches", step, last);
      train::fill_batches(stage, stepper_->loader(), step, batches);
      if (digest_of(batches) != history_.step(step + 1).batch)
        return fail("step {} read other data than the recipe says", step + 1);
    }
  }
  return Finding{
      fmt::format("{} steps read what the recipe says, none skipped or repeated", last - first)};
}

// The stage whose last steps led to the state; for the first state of a run, the one it begins.
const train::Recipe& Claims::stage_that_stored(const StoredState& state) const {
  return verify::stage_that_stored(curriculum_, history_, state);
}

// A path of the recipe, below the verifier's folder; none if it leads out of it.
std::optional<fs::path> Claims::path_of_text(const std::string& named) const {
  const fs::path path = fs::path(named).lexically_normal().relative_path();
  if (path.empty() || *path.begin() == "..") return std::nullopt;
  return fs::absolute(setting_.request.text) / path;
}

// The tokenizer trained again, or compared with the file that the recipe names, and all shards
// packed again from the raw text.
Result<Finding> Claims::text() const {
  data::PrepareRequest prepare;
  prepare.tokenizer = curriculum_.first().tokenizer;
  prepare.data = curriculum_.first().data;
  const std::string declared = prepare.tokenizer.file;
  const std::optional<fs::path> given = path_of_text(declared);
  std::error_code code;
  const bool is_given = !declared.empty() && given && fs::exists(*given, code);
  if (!declared.empty())
    prepare.tokenizer.file =
        is_given ? given->string() : fs::absolute(setting_.run.path() / "tokenizer.json").string();
  for (data::SourceOptions& source : prepare.data.sources) {
    const std::optional<fs::path> path = path_of_text(source.path);
    if (!path)
      return fail("source {}: the path {} leaves the folder of --text", source.name, source.path);
    source.path = path->string();
  }
  prepare.num_threads = setting_.pool.num_threads();
  prepare.progress = [this](const data::PrepareProgress& p) {
    setting_.progress(p.phase, p.done, p.total);
  };
  prepare.run_directory = fs::temp_directory_path() / ("naite-verify-" + ledger::random_hex(8));
  NAITE_TRY(make_directories(prepare.run_directory));
  const Result<data::Manifest> again = data::prepare(prepare);
  const Result<std::string> config = sha256_file(prepare.run_directory / "tokenizer_config.json");
  NAITE_TRY(remove_tree(prepare.run_directory));
  if (!again)
    return unable(
        "the text below {} cannot be packed: {}; --text is the folder that the recipe's "
        "paths start from",
        setting_.request.text.string(), again.error().message);
  NAITE_TRY(same_text(manifest_, *again));
  if (again->tokenizer_sha256 != manifest_.tokenizer_sha256)
    return fail("the tokenizer that the text gives is another one");
  if ((declared.empty() || is_given) && *config != history_.commitment.tokenizer_config_sha256)
    return fail("tokenizer_config.json is not that of the tokenizer");
  NAITE_ASSIGN(const std::string digest, train::data_digest(*again));
  if (digest != history_.commitment.data_digest)
    return fail("the text gives other shards than those that were trained on");
  if (declared.empty())
    return Finding{"tokenizer and every shard made again from the raw text: the same"};
  return Finding{fmt::format(
      "every shard made again from the raw text: the same; the tokenizer {}",
      is_given ? "is the file that the recipe names"
               : "is the run's own: the file that the recipe names does not lie below --text")};
}

}  // namespace naite::verify
