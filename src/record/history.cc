// SPDX-License-Identifier: Apache-2.0
#include "record/history.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "ledger/ledger.h"

namespace naite::record {

using nlohmann::json;

namespace {

constexpr size_t kStepsPerEntry = 400;    // 107 bytes each: below the 65,535 of an entry
constexpr size_t kTensorsPerEntry = 300;  // a name of up to 140 bytes each
constexpr int64_t kMax = int64_t{1} << 53;
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

// A key that holds 64 hexadecimal digits.
std::string digest_text(Table& table, std::string_view key) {
  std::string text = table.string(key);
  if (!ledger::digest_from_hex(text)) table.reject(key, "a SHA-256 in hexadecimal");
  return text;
}

const json& object_at(Table& table, std::string_view key) {
  static const json kEmpty = json::object();
  const json* value = table.raw(key);
  if (value != nullptr && value->is_object()) return *value;
  table.reject(key, "an object");
  return kEmpty;
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

Result<Commitment> Commitment::from_json(const json& value, const std::string& where) {
  Table table(value, where);
  Commitment out;
  table.choice("type", std::nullopt, {"commitment"});
  table.integer("format", std::nullopt, kLogFormat, kLogFormat);
  out.origin = table.string("origin");
  out.vkey = table.string("vkey");
  out.model_key = table.string("model_key");
  out.nonce = table.string("nonce");
  out.time = table.integer("time", std::nullopt, -kMax, kMax);
  out.name = table.string("name");
  out.training = object_at(table, "training");
  out.training_digest = digest_text(table, "training_digest");
  out.arithmetic = table.string("arithmetic");
  out.architecture = table.string("architecture");
  out.parameters = table.integer("parameters", std::nullopt, 1, kMax);
  out.steps = table.integer("steps", std::nullopt, 1, kMax);
  out.tokens = table.integer("tokens", std::nullopt, 1, kMax);
  out.tokenizer_sha256 = digest_text(table, "tokenizer_sha256");
  out.tokenizer_config_sha256 = digest_text(table, "tokenizer_config_sha256");
  out.data_digest = digest_text(table, "data_digest");
  out.manifest_sha256 = digest_text(table, "manifest_sha256");
  out.recipe_sha256 = digest_text(table, "recipe_sha256");
  if (const json* plan = table.raw("plan")) out.plan = *plan;
  if (const json* branch = table.raw("branch")) out.branch = *branch;
  if (!out.branch.is_null()) {
    Table from = table.table("branch");
    from.integer("step", std::nullopt, 0, out.steps);
    digest_text(from, "state_digest");
    from.string("recipe_digest");
    table.adopt(from.finish());
  }
  out.version = table.string("version");
  out.source_commit = table.string("source_commit");
  NAITE_TRY(table.finish());
  NAITE_ASSIGN(const std::string training, ledger::canonical_json(out.training));
  if (sha256_hex(training) != out.training_digest)
    return fail("{} training_digest is not the SHA-256 of training", where);
  return out;
}

Result<RunHistory> RunHistory::parse(const std::vector<std::string>& entries) {
  RunHistory out;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string where = fmt::format("log entry {}:", i);
    NAITE_ASSIGN(const json entry, ledger::parse_canonical_json(entries[i], where));
    if (i == 0) {
      out.commitment_entry = entries[0];
      NAITE_ASSIGN(out.commitment, Commitment::from_json(entry, where));
    } else {
      NAITE_TRY(out.read(entry, where));
    }
  }
  return out;
}

Status RunHistory::read(const json& entry, const std::string& where) {
  Table table(entry, where);
  const std::string type = table.choice(
      "type", std::nullopt,
      {"seed", "initial", "steps", "state", "checkpoint", "amendment", "end", "abandoned"});
  NAITE_TRY(table.finish(true));
  if (ended || abandoned) return fail("{} an entry after the end of the run", where);
  if (type == "amendment") {
    table.integer("step", std::nullopt, 0, kMax);
    table.integer("time", std::nullopt, -kMax, kMax);
    object_at(table, "changes");
    amendments.push_back(entry);
    return table.finish();
  }
  if (type == "abandoned") return read_end(table, true);
  if (type == "seed") return read_seed(table);
  if (!seed) return fail("{} `{}` before the seed", where, type);
  if (type == "initial") return read_initial(table);
  if (!initial_complete) return fail("{} `{}` before the initial tensors", where, type);
  if (type == "steps") return read_steps(table);
  if (type == "end") return read_end(table, false);
  return read_stored(table, type == "checkpoint");
}

Status RunHistory::read_seed(Table& table) {
  if (seed) return fail("{} a second seed", table.where());
  seed.emplace();
  seed->beacon = table.choice("kind", std::nullopt, {"trainer", "beacon"}) == "beacon";
  if (seed->beacon) seed->value = table.string("value");
  if (seed->beacon && !ledger::from_hex(seed->value)) table.reject("value", "hexadecimal digits");
  const std::optional<int64_t> number = ledger::from_decimal(table.string("seed"));
  if (!number) table.reject("seed", "a number below 2^63 in decimal digits");
  seed->seed = number.value_or(0);
  return table.finish();
}

Status RunHistory::read_initial(Table& table) {
  const auto known = static_cast<int64_t>(initial.size());
  const int64_t first = table.integer("first", std::nullopt, 0, kMax);
  const int64_t total = table.integer("total", std::nullopt, 1, kMax);
  const json& tensors = object_at(table, "tensors");
  for (const auto& [name, digest] : tensors.items()) {
    if (!digest_of(digest))
      table.reject("tensors", "SHA-256 digests in hexadecimal");
    else
      initial[name] = digest.get<std::string>();
  }
  const auto now = static_cast<int64_t>(initial.size());
  if (first != known || now != known + static_cast<int64_t>(tensors.size()) || now > total)
    table.reject("first", fmt::format("{}, the tensors so far, and no name twice", known));
  if (initial_complete) table.reject("total", "reached once");
  initial_complete = now == total;
  return table.finish();
}

Status RunHistory::read_steps(Table& table) {
  const int64_t next = last_step() + 1;
  table.integer("first", std::nullopt, next, next);
  const json* list = table.raw("steps");
  if (list == nullptr || !list->is_array() || list->empty()) {
    table.reject("steps", "a list of steps");
    return table.finish();
  }
  for (const json& item : *list) {
    const bool fits = item.is_array() && item.size() == 3;
    const std::optional<uint64_t> loss = fits ? bits_of(item[0]) : std::nullopt;
    const std::optional<uint64_t> grad_norm = fits ? bits_of(item[1]) : std::nullopt;
    const std::optional<Digest> batch = fits ? digest_of(item[2]) : std::nullopt;
    if (!loss || !grad_norm || !batch) {
      table.reject("steps", "[loss bits, gradient norm bits, batch digest] for each step");
      break;
    }
    steps.push_back({*loss, *grad_norm, *batch});
  }
  if (last_step() > commitment.steps)
    table.reject("steps",
                 fmt::format("no more than the {} steps of the commitment", commitment.steps));
  return table.finish();
}

Status RunHistory::read_stored(Table& table, bool checkpoint) {
  StoredState out;
  out.checkpoint = checkpoint;
  const int64_t first = stored.empty() ? commitment.first_step() : stored.back().step;
  out.step = table.integer("step", std::nullopt, first, last_step());
  out.first_token = table.integer("first_token", std::nullopt, 0, kMax);
  out.end_token = table.integer("end_token", std::nullopt, out.first_token, kMax);
  out.directory = table.string("directory");
  const size_t slash = out.directory.find('/');
  const std::string name = out.directory.substr(slash == std::string::npos ? 0 : slash + 1);
  if (out.directory.substr(0, slash) != (checkpoint ? "checkpoints" : "audit") || name.empty() ||
      name[0] == '.' ||
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
    table.reject("directory", "a plain name below checkpoints/ or audit/");
  out.manifest = digest_text(table, "manifest");
  out.weights = digest_text(table, "weights");
  out.state = digest_text(table, "state");
  Table metrics = table.table("metrics");
  if (const json* loss = metrics.raw("loss"); loss != nullptr && !loss->is_null())
    out.loss = metrics.number("loss", std::nullopt, -kLargest, kLargest);
  out.validation = formats::validation_at(metrics, "validation");
  table.adopt(metrics.finish());
  if (const StoredState* other = find(out.step); other != nullptr && other->state != out.state)
    table.reject("state", "that of the earlier entry about this step");
  stored.push_back(std::move(out));
  return table.finish();
}

Status RunHistory::read_end(Table& table, bool was_abandoned) {
  const int64_t last = last_step();
  end_step = table.integer("step", std::nullopt, last, last);
  table.integer("time", std::nullopt, -kMax, kMax);
  if (was_abandoned)
    table.string("reason");
  else
    end_state = digest_text(table, "state");
  (was_abandoned ? abandoned : ended) = true;
  return table.finish();
}

int64_t Commitment::first_step() const {
  return branch.is_object() ? branch.value("step", int64_t{0}) : 0;
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
  for (size_t i = stored.size(); i-- > 0;)
    if (stored[i].step == step) return &stored[i];
  return nullptr;
}

std::vector<const StoredState*> RunHistory::newest_states() const {
  std::map<std::string, const StoredState*> newest;
  for (const StoredState& state : stored) newest[state.directory] = &state;
  std::vector<const StoredState*> out;
  for (const auto& [directory, state] : newest) out.push_back(state);
  std::stable_sort(out.begin(), out.end(),
                   [](const StoredState* a, const StoredState* b) { return a->step < b->step; });
  return out;
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

Commitment RunHistory::amended() const {
  Commitment out = commitment;
  const std::pair<const char*, std::string*> keys[] = {{"name", &out.name},
                                                       {"manifest_sha256", &out.manifest_sha256},
                                                       {"recipe_sha256", &out.recipe_sha256},
                                                       {"version", &out.version},
                                                       {"source_commit", &out.source_commit}};
  for (const json& amendment : amendments) {
    for (const auto& [key, target] : keys) {
      const json value = amendment["changes"].value(key, json());
      if (value.is_string()) *target = value.get<std::string>();
    }
    if (amendment["changes"].contains("plan")) out.plan = amendment["changes"]["plan"];
  }
  return out;
}

Result<std::string> seed_entry(const SeedEntry& seed) {
  json out = {{"type", "seed"},
              {"kind", seed.beacon ? "beacon" : "trainer"},
              {"seed", fmt::format("{}", seed.seed)}};
  if (seed.beacon) out["value"] = seed.value;
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
