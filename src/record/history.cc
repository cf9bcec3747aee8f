// SPDX-License-Identifier: Apache-2.0
#include "record/history.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/shown.h"
#include "ledger/ledger.h"
#include "record/run_directory.h"

namespace naite::record {

using nlohmann::json;

namespace {

constexpr size_t kStepsPerEntry = 400;  // 107 bytes each: below the 65,535 of an entry
constexpr int64_t kStagesMax = 10'000;
constexpr double kLargest = std::numeric_limits<double>::max();

std::string bits_text(uint64_t bits) { return fmt::format("{:016x}", bits); }

std::optional<uint64_t> bits_of(const json& value) {
  if (!value.is_string()) return std::nullopt;
  const std::optional<std::string> bytes = ledger::from_hex(value.get_ref<const std::string&>());
  if (!bytes || bytes->size() != 8) return std::nullopt;
  return ledger::from_big_endian(*bytes);
}

std::optional<Digest> digest_of(const json& value) {
  if (!value.is_string()) return std::nullopt;
  return ledger::digest_from_hex(value.get_ref<const std::string&>());
}

// The name that a state after `step` steps has. The number of its stage is the plan's to say.
bool is_directory_of(const StoredState& state) {
  const RunDirectory run("");
  if (!state.checkpoint) return state.directory == run.audit(state.step).generic_string();
  const std::string_view begin = "checkpoints/stage";
  if (!state.directory.starts_with(begin)) return false;
  const size_t end = state.directory.find('-');
  const auto stage = ledger::from_decimal(
      std::string_view(state.directory).substr(begin.size(), end - begin.size()));
  return stage && *stage >= 1 && *stage <= kStagesMax &&
         state.directory ==
             run.checkpoint(static_cast<int>(*stage), state.step, state.end_token).generic_string();
}

}  // namespace

StepDigest StepDigest::of(double loss, double grad_norm, const Digest& batch) {
  return {std::bit_cast<uint64_t>(loss), std::bit_cast<uint64_t>(grad_norm), batch};
}

json Commitment::to_json() const {
  return {{"type", "commitment"},
          {"format", kLogFormat},
          {"origin", origin},
          {"vkey", vkey},
          {"model_key", model_key},
          {"nonce", nonce},
          {"time", time},
          {"name", name},
          {"training", training},
          {"training_digest", training_digest},
          {"arithmetic", arithmetic},
          {"architecture", architecture},
          {"parameters", parameters},
          {"steps", steps},
          {"tokens", tokens},
          {"tokenizer_sha256", tokenizer_sha256},
          {"tokenizer_config_sha256", tokenizer_config_sha256},
          {"data_digest", data_digest},
          {"manifest_sha256", manifest_sha256},
          {"recipe_sha256", recipe_sha256},
          {"plan", plan},
          {"branch", branch},
          {"version", version},
          {"source_commit", source_commit}};
}

namespace {

// Whose log it is: one key under one name, and a key for checkpoints unless nobody signs.
Status check_keys(const Commitment& commitment, const std::string& where) {
  const Result<ledger::Verifier> key = ledger::Verifier::parse(commitment.vkey);
  if (!key || key->type != ledger::KeyType::kEd25519 || key->name != commitment.origin)
    return fail("{} `vkey` is no Ed25519 key under the name `origin`", where);
  const size_t slash = commitment.origin.rfind('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == commitment.origin.size())
    return fail("{} `origin` must be PUBLISHER/NAME", where);
  if (commitment.is_unsigned() != commitment.model_key.empty())
    return fail("{} `model_key` must be there if a publisher signs, and else empty", where);
  if (commitment.model_key.empty()) return {};
  const Result<ledger::ModelKey> model = ledger::ModelKey::parse_public(commitment.model_key);
  if (!model || model->public_pem() != commitment.model_key)
    return fail("{} `model_key` must be a P-256 key in PEM", where);
  return {};
}

size_t num_stages(const Commitment& commitment) {
  const auto stages = commitment.training.find("stages");
  return stages != commitment.training.end() && stages->is_array() ? stages->size() : 0;
}

// The whole of branch.json, or what older logs have of it.
Status check_branch(const json& branch, int64_t steps, const std::string& where) {
  if (branch.is_null()) return {};
  Table from(branch, where + " `branch`");
  from.integer("step", std::nullopt, 0, steps);
  const json* state = from.raw("state_digest");
  if (state == nullptr || !digest_of(*state)) from.reject("state_digest", "a SHA-256");
  if (const std::string recipe = from.string("recipe_digest");
      !recipe.empty() && !ledger::digest_from_hex(recipe))
    from.reject("recipe_digest", "a SHA-256, or empty");
  const bool is_whole = from.has("from");
  NAITE_TRY(from.finish(is_whole));
  if (!is_whole) return {};
  const auto parent = formats::Branch::parse(branch, where + " `branch`");
  return parent.ok() ? Status() : Status(parent.error());
}

}  // namespace

Result<Commitment> Commitment::from_json(const json& value, const std::string& where) {
  NAITE_ASSIGN([[maybe_unused]] const EntryRule* const rule,
               check_entry(value, run_rules(), where));
  if (value["type"] != "commitment") return fail("{} is no commitment", where);
  Commitment out;
  const std::pair<const char*, std::string*> texts[] = {
      {"origin", &out.origin},
      {"vkey", &out.vkey},
      {"model_key", &out.model_key},
      {"nonce", &out.nonce},
      {"name", &out.name},
      {"training_digest", &out.training_digest},
      {"arithmetic", &out.arithmetic},
      {"architecture", &out.architecture},
      {"tokenizer_sha256", &out.tokenizer_sha256},
      {"tokenizer_config_sha256", &out.tokenizer_config_sha256},
      {"data_digest", &out.data_digest},
      {"manifest_sha256", &out.manifest_sha256},
      {"recipe_sha256", &out.recipe_sha256},
      {"version", &out.version},
      {"source_commit", &out.source_commit}};
  for (const auto& [key, target] : texts) *target = value[key].get<std::string>();
  const std::pair<const char*, int64_t*> numbers[] = {{"time", &out.time},
                                                      {"parameters", &out.parameters},
                                                      {"steps", &out.steps},
                                                      {"tokens", &out.tokens}};
  for (const auto& [key, target] : numbers) *target = value[key].get<int64_t>();
  out.training = value["training"];
  out.plan = value["plan"];
  out.branch = value["branch"];
  NAITE_TRY(check_keys(out, where));
  NAITE_TRY(check_plan(out.plan, num_stages(out), where));
  NAITE_TRY(check_branch(out.branch, out.steps, where));
  NAITE_ASSIGN(const std::string training, ledger::canonical_json(out.training));
  if (sha256_hex(training) != out.training_digest)
    return fail("{} training_digest is not the SHA-256 of training", where);
  return out;
}

Result<RunHistory> RunHistory::parse(const std::vector<std::string>& entries) {
  RunHistory out;
  for (const std::string& entry : entries) NAITE_TRY(out.add(entry));
  return out;
}

Phase RunHistory::phase() const {
  if (commitment_entry.empty()) return Phase::kEmpty;
  if (ended || abandoned) return Phase::kOver;
  if (!seed) return Phase::kCommitted;
  if (!initial_complete) return Phase::kSeeded;
  return stored.empty() ? Phase::kInitialised : Phase::kUnderWay;
}

Status RunHistory::add(const std::string& text) {
  const std::string where = fmt::format("log entry {}:", num_entries);
  NAITE_ASSIGN(const json entry, ledger::parse_canonical_json(text, where));
  NAITE_ASSIGN(const EntryRule* const rule, check_entry(entry, run_rules(), where));
  NAITE_TRY(check_phase(*rule, phase(), where));
  if (phase() == Phase::kEmpty) {
    commitment_entry = text;
    NAITE_ASSIGN(commitment, Commitment::from_json(entry, where));
    time = commitment.time;
  } else {
    NAITE_TRY(adopt(entry, std::string(rule->type), where));
  }
  ++num_entries;
  return {};
}

Status RunHistory::adopt(const json& entry, const std::string& type, const std::string& where) {
  if (type == "seed") return adopt_seed(entry, where);
  if (type == "initial") return adopt_initial(entry, where);
  if (type == "steps") return adopt_steps(entry, where);
  if (type == "amendment") return adopt_amendment(entry, where);
  if (type == "end" || type == "abandoned") return adopt_end(entry, where);
  return adopt_stored(entry, where);
}

// A clock that was set back is not shown: whoever writes keeps the time of the entry before.
Status RunHistory::adopt_time(const json& entry, const std::string& where) {
  const auto now = entry["time"].get<int64_t>();
  if (now < time)
    return fail("{} `time` {} is before that of an earlier entry, {}", where, now, time);
  time = now;
  return {};
}

Status RunHistory::adopt_seed(const json& entry, const std::string& where) {
  seed.emplace();
  seed_index = num_entries;
  seed->beacon = entry["kind"] == "beacon";
  seed->seed = *ledger::from_decimal(entry["seed"].get_ref<const std::string&>());
  if (seed->beacon != entry.contains("value"))
    return fail("{} `value` is what a beacon has, and nothing else", where);
  if (seed->beacon) seed->value = entry["value"].get<std::string>();
  if (!entry.contains("cosignatures")) return {};
  if (!seed->beacon || entry["cosignatures"].size() > ledger::kSignaturesMax)
    return fail("{} `cosignatures` belong to a beacon, at most {}", where, ledger::kSignaturesMax);
  for (const json& line : entry["cosignatures"]) {
    if (!line.is_string()) return fail("{} `cosignatures` must be lines", where);
    seed->cosignatures.push_back(line.get<std::string>());
  }
  const std::string text = fmt::format("x\n\n{}", fmt::join(seed->cosignatures, ""));
  const Result<ledger::Note> note = ledger::Note::parse(text, where);
  if (!note || note->signatures.size() != seed->cosignatures.size())
    return fail("{} `cosignatures` must be lines of a signed note", where);
  return {};
}

// All entries but the last are full, so that there is one way to enter them.
Status RunHistory::adopt_initial(const json& entry, const std::string& where) {
  const auto known = static_cast<int64_t>(initial.size());
  const auto total = entry["total"].get<int64_t>();
  const json& tensors = entry["tensors"];
  const auto here = static_cast<int64_t>(tensors.size());
  if (known == 0) initial_total_ = total;
  if (entry["first"] != known || total != initial_total_)
    return fail("{} `first` must be {} and `total` {}", where, known, initial_total_);
  if (here != std::min(total - known, static_cast<int64_t>(kTensorsPerEntry)))
    return fail("{} `tensors` must have {} entries, or all that are left", where, kTensorsPerEntry);
  for (const auto& [name, digest] : tensors.items()) {
    if (!digest_of(digest) || !is_plain_line(name))
      return fail("{} `tensors` must have a SHA-256 in hexadecimal for each name", where);
    if (!initial.empty() && name <= initial.rbegin()->first)
      return fail("{} `tensors` must be in the order of their names, each once", where);
    initial.emplace_hint(initial.end(), name, digest.get<std::string>());
  }
  initial_complete = known + here == total;
  return {};
}

Status RunHistory::adopt_steps(const json& entry, const std::string& where) {
  const json& list = entry["steps"];
  const int64_t next = last_step() + 1;
  if (entry["first"] != next)
    return fail("{} `first` must be {}, the step after those before", where, next);
  if (list.size() > kStepsPerEntry)
    return fail("{} `steps` must be a list of at most {}", where, kStepsPerEntry);
  if (last_step() + static_cast<int64_t>(list.size()) > commitment.steps)
    return fail("{} `steps` has more than the {} steps of the commitment", where, commitment.steps);
  for (const json& item : list) {
    const bool fits = item.is_array() && item.size() == 3;
    const std::optional<uint64_t> loss = fits ? bits_of(item[0]) : std::nullopt;
    const std::optional<uint64_t> grad_norm = fits ? bits_of(item[1]) : std::nullopt;
    const std::optional<Digest> batch = fits ? digest_of(item[2]) : std::nullopt;
    if (!loss || !grad_norm || !batch)
      return fail("{} `steps` must have [loss bits, gradient norm bits, batch digest] for each",
                  where);
    steps.push_back({*loss, *grad_norm, *batch});
  }
  return {};
}

// Of each step at most one entry says what lies there: none is superseded.
Status RunHistory::adopt_stored(const json& entry, const std::string& where) {
  StoredState out;
  out.checkpoint = entry["type"] == "checkpoint";
  out.step = entry["step"].get<int64_t>();
  out.first_token = entry["first_token"].get<int64_t>();
  out.end_token = entry["end_token"].get<int64_t>();
  for (const auto& [key, target] :
       {std::pair("directory", &out.directory), std::pair("manifest", &out.manifest),
        std::pair("weights", &out.weights), std::pair("state", &out.state)})
    *target = entry[key].get<std::string>();
  if (find(out.step) != nullptr)
    return fail(
        "{} a second entry about step {}: versions up to commit faa8ee2 entered what was made "
        "again, and verify such a log",
        where, out.step);
  const int64_t low = stored.empty() ? commitment.first_step() : stored.back().step + 1;
  const int64_t high = stored.empty() ? commitment.first_step() : last_step();
  if (out.step < low || out.step > high)
    return fail(
        "{} `step` must be one after the states and within the steps before it, {} to {}, "
        "is {}",
        where, low, high, out.step);
  const StoredState* before = last_checkpoint();
  const int64_t first_token = out.checkpoint && before != nullptr ? before->end_token : 0;
  if (out.first_token != first_token || out.end_token < first_token)
    return fail("{} `first_token` must be {} and `end_token` not less", where, first_token);
  if (!is_directory_of(out))
    return fail("{} `directory` must be the plain name of the state after step {}", where,
                out.step);
  Table metrics(entry["metrics"], where + " `metrics`");
  for (const char* key : {"loss", "validation"})
    if (metrics.raw(key) == nullptr) metrics.reject(key, "there, if only as null");
  if (const json* loss = metrics.raw("loss"); loss != nullptr && !loss->is_null())
    out.loss = metrics.number("loss", std::nullopt, -kLargest, kLargest);
  out.validation = formats::validation_at(metrics, "validation");
  NAITE_TRY(metrics.finish());
  NAITE_TRY(check_metrics(out, where));
  out.amendments = amendments.size();
  stored.push_back(std::move(out));
  return {};
}

// The loss is that of the step, and an audit state measures nothing: older logs repeat the
// checkpoint before.
Status RunHistory::check_metrics(const StoredState& state, const std::string& where) const {
  const int64_t first = commitment.first_step();
  if (state.step == 0 && state.loss)
    return fail("{} before the first step there is no loss", where);
  if (state.step > first && state.loss != std::bit_cast<double>(step(state.step).loss))
    return fail("{} its loss is not that of step {}", where, state.step);
  if (state.checkpoint || !state.validation) return {};
  const StoredState* before = last_checkpoint();
  if (before != nullptr && state.validation == before->validation) return {};
  return fail("{} its validation is not that of the checkpoint before", where);
}

// Entered when the run goes on: from the newest state or, as a killed run does, from one that was
// not entered any more.
Status RunHistory::adopt_amendment(const json& entry, const std::string& where) {
  int64_t low = stored.empty() ? commitment.first_step() : stored.back().step;
  if (!amendments.empty()) low = std::max(low, amendments.back().step);
  const auto at = entry["step"].get<int64_t>();
  // Before the first state older logs have 0, also in a branch.
  const bool fits = (at >= low && at <= last_step()) || (stored.empty() && at == 0);
  if (!fits)
    return fail("{} `step` must be one that the run can go on from, {} to {}, is {}", where, low,
                last_step(), at);
  constexpr size_t kAmendmentsMax = 1000;
  if (amendments.size() >= kAmendmentsMax)
    return fail("{} more than {} amendments", where, kAmendmentsMax);
  const json& changes = entry["changes"];
  NAITE_TRY(check_changes(changes, num_stages(commitment), where));
  const json before = amended().to_json();
  for (const auto& [key, value] : changes.items())
    if (before[key] == value) return fail("{} `{}` was that before", where, key);
  NAITE_TRY(adopt_time(entry, where));
  amendments.push_back({at, time, changes});
  return {};
}

Status RunHistory::adopt_end(const json& entry, const std::string& where) {
  const int64_t last = last_step();
  if (entry["step"] != last) return fail("{} `step` must be {}, the last of the log", where, last);
  NAITE_TRY(adopt_time(entry, where));
  end_step = last;
  if (entry["type"] == "abandoned") {
    abandoned = true;
    return {};
  }
  end_state = entry["state"].get<std::string>();
  const StoredState& state = stored.back();
  if (last != commitment.steps)
    return fail("{} ended after {} of {} planned steps", where, last, commitment.steps);
  if (state.step != last || !state.checkpoint || state.state != end_state)
    return fail("{} the end is not the state of the last checkpoint", where);
  ended = true;
  return {};
}

int64_t Commitment::first_step() const {
  return branch.is_object() ? branch.value("step", int64_t{0}) : 0;
}

std::optional<formats::Branch> Commitment::parent() const {
  if (!branch.is_object() || !branch.contains("from")) return std::nullopt;
  const Result<formats::Branch> out = formats::Branch::parse(branch, "branch");
  return out.ok() ? std::optional(*out) : std::nullopt;
}

bool Commitment::is_unsigned() const { return origin.starts_with("unsigned.invalid/"); }

int64_t RunHistory::last_step() const {
  return commitment.first_step() + static_cast<int64_t>(steps.size());
}

const StepDigest& RunHistory::step(int64_t step) const {
  const int64_t index = step - commitment.first_step() - 1;
  NAITE_CHECK(index >= 0 && step <= last_step(), "step {} of {}", step, last_step());
  return steps[static_cast<size_t>(index)];
}

const StoredState* RunHistory::find(int64_t step) const {
  const auto at =
      std::lower_bound(stored.begin(), stored.end(), step,
                       [](const StoredState& state, int64_t s) { return state.step < s; });
  return at != stored.end() && at->step == step ? &*at : nullptr;
}

const StoredState* RunHistory::last_checkpoint() const {
  const auto at = std::find_if(stored.rbegin(), stored.rend(),
                               [](const StoredState& state) { return state.checkpoint; });
  return at == stored.rend() ? nullptr : &*at;
}

double RunHistory::percent_done(int64_t step) const {
  return 100.0 * static_cast<double>(step) / static_cast<double>(commitment.steps);
}

std::optional<double> StoredState::bits_per_byte() const {
  if (!validation || validation->empty()) return std::nullopt;
  double sum = 0;
  for (const auto& [source, measured] : *validation) sum += measured.bits_per_byte;
  return sum / static_cast<double>(validation->size());
}

const StoredState* RunHistory::checkpoint_before(int64_t step) const {
  for (size_t i = stored.size(); i-- > 0;)
    if (stored[i].checkpoint && stored[i].step < step) return &stored[i];
  return nullptr;
}

Commitment RunHistory::amended(std::optional<size_t> count) const {
  Commitment out = commitment;
  const std::pair<const char*, std::string*> keys[] = {{"name", &out.name},
                                                       {"manifest_sha256", &out.manifest_sha256},
                                                       {"recipe_sha256", &out.recipe_sha256},
                                                       {"version", &out.version},
                                                       {"source_commit", &out.source_commit}};
  for (size_t i = 0; i < std::min(count.value_or(amendments.size()), amendments.size()); ++i) {
    const Amendment& amendment = amendments[i];
    for (const auto& [key, target] : keys)
      if (amendment.changes.contains(key)) *target = amendment.changes[key].get<std::string>();
    if (amendment.changes.contains("plan")) out.plan = amendment.changes["plan"];
  }
  return out;
}

std::vector<PlanInForce> RunHistory::plans() const {
  std::vector<PlanInForce> out = {{commitment.first_step() - 1, commitment.plan}};
  for (const Amendment& amendment : amendments)
    if (amendment.changes.contains("plan"))
      out.push_back({amendment.step, amendment.changes["plan"]});
  return out;
}

Result<std::string> seed_entry(const SeedEntry& seed) {
  json out = {{"type", "seed"},
              {"kind", seed.beacon ? "beacon" : "trainer"},
              {"seed", fmt::format("{}", seed.seed)}};
  if (seed.beacon) out["value"] = seed.value;
  if (!seed.cosignatures.empty()) out["cosignatures"] = seed.cosignatures;
  return ledger::canonical_json(out);
}

Result<std::vector<std::string>> initial_entries(
    const std::map<std::string, std::string>& tensors) {
  std::vector<std::string> out;
  auto it = tensors.begin();
  for (size_t first = 0; it != tensors.end(); first += kTensorsPerEntry) {
    json part = json::object();
    for (size_t i = 0; i < kTensorsPerEntry && it != tensors.end(); ++i, ++it)
      part[it->first] = it->second;
    NAITE_ASSIGN(
        std::string entry,
        ledger::canonical_json(
            {{"type", "initial"}, {"first", first}, {"total", tensors.size()}, {"tensors", part}}));
    out.push_back(std::move(entry));
  }
  return out;
}

Result<std::vector<std::string>> step_entries(int64_t first_step,
                                              const std::vector<StepDigest>& steps) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < steps.size(); begin += kStepsPerEntry) {
    json list = json::array();
    for (size_t i = begin; i < std::min(steps.size(), begin + kStepsPerEntry); ++i)
      list.push_back({bits_text(steps[i].loss), bits_text(steps[i].grad_norm),
                      ledger::to_hex(steps[i].batch)});
    NAITE_ASSIGN(std::string entry,
                 ledger::canonical_json({{"type", "steps"},
                                         {"first", first_step + static_cast<int64_t>(begin)},
                                         {"steps", list}}));
    out.push_back(std::move(entry));
  }
  return out;
}

Result<std::string> stored_entry(const StoredState& state) {
  const json metrics = {
      {"loss", state.loss ? json(*state.loss) : json()},
      {"validation", state.validation ? formats::to_json(*state.validation) : json()}};
  return ledger::canonical_json({{"type", state.checkpoint ? "checkpoint" : "state"},
                                 {"step", state.step},
                                 {"first_token", state.first_token},
                                 {"end_token", state.end_token},
                                 {"directory", state.directory},
                                 {"manifest", state.manifest},
                                 {"weights", state.weights},
                                 {"state", state.state},
                                 {"metrics", metrics}});
}

Result<std::string> amendment_entry(int64_t step, const json& changes, int64_t time) {
  return ledger::canonical_json(
      {{"type", "amendment"}, {"step", step}, {"changes", changes}, {"time", time}});
}

Result<std::string> end_entry(int64_t step, const std::string& state, int64_t time) {
  return ledger::canonical_json(
      {{"type", "end"}, {"step", step}, {"state", state}, {"time", time}});
}

Result<std::string> abandoned_entry(int64_t step, const std::string& reason, int64_t time) {
  return ledger::canonical_json(
      {{"type", "abandoned"}, {"step", step}, {"reason", reason}, {"time", time}});
}

int64_t beacon_seed(std::string_view commitment_entry, std::string_view value) {
  const Digest commitment = sha256(commitment_entry);
  const Digest seed = sha256(std::string(ledger::as_bytes(commitment)).append(value));
  return static_cast<int64_t>(ledger::from_big_endian(ledger::as_bytes(seed).substr(0, 8)) >> 1);
}

}  // namespace naite::record
