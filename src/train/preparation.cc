// SPDX-License-Identifier: Apache-2.0
#include "train/preparation.h"

namespace naite::train {

namespace fs = std::filesystem;

namespace {

// What decides no bit may change on the way; but what is measured stands in the log, and whoever
// checks it measures as recipe.toml says.
Status same_measurements(const Curriculum& curriculum, const Curriculum& stored,
                         const record::RunDirectory& run) {
  for (size_t i = 0; i < stored.stages.size(); ++i) {
    const int64_t before = stored.stages[i].train.validation_tokens;
    const int64_t now = curriculum.stages[i].train.validation_tokens;
    if (before != now)
      return fail(
          "{} was begun with train.validation_tokens = {}, not {}: a run measures itself the same "
          "way from end to end; give {} again, or another --run directory",
          run.path().string(), before, now, before);
  }
  return {};
}

Status adopt_recipe(const Curriculum& curriculum, const record::RunDirectory& run) {
  const nlohmann::json resolved = curriculum.resolved();
  if (!fs::exists(run.recipe())) return write_file(run.recipe(), to_toml(resolved));
  NAITE_ASSIGN(const Curriculum stored, load_recipe(run.recipe(), {}));
  if (stored.digest() == curriculum.digest()) return same_measurements(curriculum, stored, run);
  std::vector<std::string> differences = recipe_differences(stored.resolved(), resolved);
  if (differences.size() > 4) {
    const size_t more = differences.size() - 4;
    differences.resize(4);
    differences.push_back(fmt::format("and {} more", more));
  }
  return fail("{} belongs to another recipe ({}); choose another --run directory",
              run.path().string(), fmt::join(differences, "; "));
}

}  // namespace

Result<Prepared> prepare_run(const Curriculum& curriculum, const record::RunDirectory& run,
                             int num_threads, const std::atomic<bool>* stop,
                             std::function<void(const data::PrepareProgress&)> progress,
                             std::function<void(const std::string&)> note) {
  NAITE_TRY(adopt_recipe(curriculum, run));
  NAITE_TRY(run.clean());
  data::PrepareRequest request;
  request.tokenizer = curriculum.first().tokenizer;
  request.data = curriculum.first().data;
  request.run_directory = run.path();
  request.base_directories = {curriculum.first().directory};
  request.num_threads = num_threads;
  request.stop = stop;
  request.progress = std::move(progress);
  request.note = std::move(note);
  NAITE_ASSIGN(data::Manifest manifest, data::prepare(request));
  NAITE_ASSIGN(data::Tokenizer tokenizer, data::Tokenizer::load(run.path()));
  NAITE_TRY(make_directories(run.checkpoints()));
  NAITE_TRY(make_directories(run.autosaves()));
  return Prepared{std::move(manifest), std::move(tokenizer)};
}

}  // namespace naite::train
