// SPDX-License-Identifier: Apache-2.0
#include "verify/rebuild.h"

#include <algorithm>

#include "ledger/ledger.h"
#include "record/logged_states.h"
#include "record/provenance.h"
#include "record/published.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::RunHistory;
using record::StoredState;

namespace {

constexpr size_t kCandidatesMax = 4;

// Where the run comes from, if not from random weights.
Result<std::optional<formats::Branch>> branch_of(const RunHistory& history,
                                                 const formats::Record& claimed) {
  const record::Commitment& claims = history.commitment;
  if (claims.branch.is_null()) return std::optional<formats::Branch>();
  if (std::optional<formats::Branch> parent = claims.parent()) return parent;
  // An older log has three keys of it.
  if (claimed.branch && claimed.branch->step == claims.branch.value("step", int64_t{0}) &&
      claimed.branch->state_digest == claims.branch.value("state_digest", "") &&
      claimed.branch->recipe_digest == claims.branch.value("recipe_digest", ""))
    return claimed.branch;
  return fail("record.json names another origin of the run than the log");
}

bool same_program(const record::Commitment& a, const record::Commitment& b) {
  return a.name == b.name && a.version == b.version && a.source_commit == b.source_commit;
}

// What the log claimed when the state was entered, and before; the newest first.
std::vector<record::Commitment> claims_of(const RunHistory& history, const StoredState& state) {
  std::vector<record::Commitment> out;
  for (size_t count = state.amendments + 1; count-- > 0 && out.size() < kCandidatesMax;) {
    record::Commitment claims = history.amended(count);
    const bool known = std::any_of(out.begin(), out.end(), [&](const record::Commitment& other) {
      return same_program(other, claims);
    });
    if (!known) out.push_back(std::move(claims));
  }
  return out;
}

std::string sha256_of(const ledger::ModelManifest& manifest, const std::string& file) {
  for (const auto& [name, digest] : manifest.files)
    if (name == file) return ledger::to_hex(digest);
  return "";
}

// The one file of which the directory has too many, or too few.
Status same_names(const fs::path& directory, const ledger::ModelManifest& found,
                  const std::map<std::string, std::string>& texts,
                  const std::map<std::string, std::string>& tensor_files) {
  for (const auto& [name, digest] : found.files)
    if (!texts.contains(name) && !tensor_files.contains(name))
      return fail("{} is no file of this state", (directory / name).string());
  for (const auto* files : {&texts, &tensor_files})
    for (const auto& [name, content] : *files)
      if (sha256_of(found, name).empty()) return fail("{} is missing", (directory / name).string());
  return {};
}

// The header says which tensors lie where, so with it and the size, every byte is of a tensor.
Status same_head(const fs::path& file, const formats::SafetensorsLayout& layout) {
  NAITE_ASSIGN(const MappedFile found, MappedFile::open(file));
  if (static_cast<int64_t>(found.bytes().size()) != layout.bytes)
    return fail("{} has {} bytes, the recipe's tensors make {}", file.string(),
                found.bytes().size(), layout.bytes);
  if (found.bytes().starts_with(layout.head)) return {};
  return fail("{}: its header is not the one of the recipe's tensors", file.string());
}

// The first key in which a JSON file differs from what it must be.
std::string difference(const fs::path& file, const std::string& expected) {
  const Result<std::string> text = read_file(file);
  const Result<nlohmann::json> found =
      text.ok() ? parse_json(*text, "") : Result<nlohmann::json>(text.error());
  const Result<nlohmann::json> wanted = parse_json(expected, "");
  if (!found || !wanted) return "";
  const std::vector<std::string> all = train::recipe_differences(*wanted, *found);
  return all.empty() ? ": spelled otherwise" : ": " + all.front();
}

// record.json lists the others, so the file that is the cause is named before it.
Status same_texts(const fs::path& directory, const ledger::ModelManifest& found,
                  const std::map<std::string, std::string>& texts) {
  for (const bool lists_others : {false, true})
    for (const auto& [name, text] : texts)
      if ((name == "record.json") == lists_others && sha256_of(found, name) != sha256_hex(text))
        return fail("{} is not what the recipe and the log make of it{}",
                    (directory / name).string(),
                    name.ends_with(".json") ? difference(directory / name, text) : "");
  return {};
}

}  // namespace

std::map<std::string, std::string> ExpectedState::texts(
    const std::map<std::string, std::string>& tensor_files) const {
  const formats::Record record = layout.record_of({state->weights, state->state}, tensor_files);
  std::map<std::string, std::string> out = layout.texts;
  out["record.json"] = formats::record_text(record);
  if (state->checkpoint)
    out[record::kProvenanceFile] =
        record::provenance_text(claims, parent, state->step, record.files);
  return out;
}

std::string ExpectedState::manifest(const std::map<std::string, std::string>& tensor_files) const {
  ledger::ModelManifest out;
  for (const auto& [name, text] : texts(tensor_files)) out.files.emplace_back(name, sha256(text));
  for (const auto& [name, digest] : tensor_files)
    if (const std::optional<Digest> bytes = ledger::digest_from_hex(digest))
      out.files.emplace_back(name, *bytes);
  std::sort(out.files.begin(), out.files.end());
  return ledger::to_hex(out.digest());
}

Result<ExpectedStates> expected_states(const RunHistory& history, const StoredState& state,
                                       const train::StateSetting& setting,
                                       const formats::Record& claimed) {
  train::StateFacts facts;
  facts.step = state.step;
  facts.loss = state.loss;
  facts.validation = state.validation;
  NAITE_ASSIGN(facts.branch, branch_of(history, claimed));
  const formats::TrainingState shape = train::shape_of(setting, state.step);
  ExpectedStates out;
  for (record::Commitment& claims : claims_of(history, state)) {
    facts.name = claims.name;
    NAITE_ASSIGN(formats::CheckpointContent content, train::content_of(setting, facts));
    content.state = &shape;
    if (state.checkpoint && claimed.files.contains(record::kBillFile))
      content.bill_of_materials = record::bill_of_materials(claims, setting.manifest);
    NAITE_ASSIGN(formats::CheckpointLayout layout, formats::layout_of(content));
    out.push_back(
        {&state, history.checkpoint_before(state.step), std::move(claims), std::move(layout)});
  }
  return out;
}

Status check_state_files(record::StoredCheckpoint& stored, const ExpectedStates& expected) {
  const fs::path& directory = stored.directory();
  NAITE_TRY(record::check_state_names(directory, expected.front().state->checkpoint,
                                      expected.front().claims.parameters));
  NAITE_ASSIGN(const ledger::ModelManifest found, stored.manifest());
  std::optional<Error> first;
  for (const ExpectedState& one : expected) {
    std::map<std::string, std::string> tensor_files;
    for (const auto& [name, layout] : one.layout.tensors)
      tensor_files[name] = sha256_of(found, name);
    const std::map<std::string, std::string> texts = one.texts(tensor_files);
    NAITE_TRY(same_names(directory, found, texts, tensor_files));
    for (const auto& [name, layout] : one.layout.tensors)
      NAITE_TRY(same_head(directory / name, layout));
    const Status status = same_texts(directory, found, texts);
    if (status.ok()) return {};
    if (!first) first = status.error();
  }
  return *first;
}

Status check_model_signature(const fs::path& directory, const RunHistory& history,
                             const StoredState& state) {
  const fs::path file = directory / ledger::kModelSignatureFile;
  const std::string& pem = history.commitment.model_key;
  std::error_code code;
  if (pem.empty()) {
    if (!fs::exists(file, code)) return {};
    return fail("{} is there, but the log names no key for it", file.string());
  }
  if (const uintmax_t size = fs::file_size(file, code);
      code || size > static_cast<uintmax_t>(record::kSignatureBytesMax))
    return fail("{} is missing or has more than {} bytes", file.string(),
                record::kSignatureBytesMax);
  NAITE_ASSIGN(const std::string text, read_file(file));
  return record::check_model_signature(history, state, text, file.string());
}

bool goes_on_from_known_state(const record::Commitment& claims) {
  const std::optional<formats::Branch> parent = claims.parent();
  return parent && parent->cursor() && !parent->grown;
}

const train::Recipe& stage_that_stored(const train::Curriculum& curriculum,
                                       const RunHistory& history, const StoredState& state) {
  const bool first = state.step == history.commitment.first_step();
  return curriculum.stage_of(first ? state.step : state.step - 1);
}

Result<RunContents> RunContents::open(const RunHistory& history, const record::RunDirectory& run) {
  RunContents out(run);
  NAITE_ASSIGN(out.curriculum_, train::load_recipe(run.recipe(), {}));
  if (history.seed && history.seed->beacon)
    for (train::Recipe& stage : out.curriculum_.stages) stage.seed = history.seed->seed;
  NAITE_ASSIGN(out.manifest_, data::Manifest::load(run.path()));
  NAITE_ASSIGN(out.tokenizer_, data::Tokenizer::load(run.path()));
  return out;
}

Status RunContents::enter(const train::Recipe& stage) {
  if (stage_ == stage.stage) return {};
  NAITE_ASSIGN(model_, stage.make_model(tokenizer_->vocab_size()));
  NAITE_ASSIGN(data::Loader loader,
               data::Loader::open({run_.path(), stage.data, stage.loader_seed(),
                                   stage.rows_per_step(), stage.total_steps()}));
  loader_.emplace(std::move(loader));
  stage_ = stage.stage;
  return {};
}

Result<ExpectedStates> RunContents::expected(const RunHistory& history, const StoredState& state,
                                             const formats::Record& claimed) {
  const train::Recipe& stage = stage_that_stored(curriculum_, history, state);
  NAITE_TRY(enter(stage));
  return expected_states(
      history, state, {curriculum_, stage, *model_, *loader_, manifest_, *tokenizer_, run_.path()},
      claimed);
}

Status check_logged_checkpoint(const fs::path& directory, ThreadPool& pool) {
  const fs::path absolute = fs::absolute(directory / "").lexically_normal().parent_path();
  const record::RunDirectory run(absolute.parent_path().parent_path());
  std::error_code code;
  if (absolute.parent_path() != run.checkpoints() || !fs::exists(run.ledger(), code))
    return fail(
        "{} does not lie in a run with a log, so nothing says what its files must be: take the "
        "run, or a copy of it by naite follow",
        directory.string());
  NAITE_ASSIGN(const RunHistory history, record::logged_history(run));
  std::vector<std::string> claims;
  for (const record::PublishedFile& file : record::published_claims(history))
    claims.push_back(file.path);
  NAITE_TRY(record::check_claims(run.path(), claims));
  const std::string name = "checkpoints/" + absolute.filename().string();
  const auto state = std::find_if(history.stored.begin(), history.stored.end(),
                                  [&](const StoredState& one) { return one.directory == name; });
  if (state == history.stored.end()) return fail("{} is not in the log", directory.string());
  NAITE_ASSIGN(record::StoredCheckpoint stored, record::StoredCheckpoint::open(absolute, pool));
  NAITE_ASSIGN(RunContents contents, RunContents::open(history, run));
  NAITE_ASSIGN(const ExpectedStates expected, contents.expected(history, *state, stored.record()));
  NAITE_TRY(check_state_files(stored, expected));
  NAITE_ASSIGN(const ledger::ModelManifest manifest, stored.manifest());
  NAITE_ASSIGN(const formats::CheckpointDigests digests, stored.digests());
  if (ledger::to_hex(manifest.digest()) != state->manifest || digests.state != state->state ||
      digests.weights != state->weights)
    return fail("{} is not the state that the log has", directory.string());
  return check_model_signature(absolute, history, *state);
}

}  // namespace naite::verify
