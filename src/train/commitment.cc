// SPDX-License-Identifier: Apache-2.0
#include "train/commitment.h"

#include "ledger/canonical_json.h"

namespace naite::train {

using nlohmann::json;
using record::Commitment;

Result<Commitment> commitment_of(const Curriculum& curriculum, const data::Manifest& manifest,
                                 const json& branch, const std::filesystem::path& run_directory) {
  Commitment out;
  out.name = curriculum.first().name;
  NAITE_ASSIGN(out.data_digest, data_digest(manifest));
  NAITE_ASSIGN(out.manifest_sha256, sha256_file(run_directory / "data" / "manifest.json"));
  NAITE_ASSIGN(out.training, curriculum.training(manifest.vocab_size, out.data_digest));
  NAITE_ASSIGN(const std::string training, ledger::canonical_json(out.training));
  out.training_digest = sha256_hex(training);
  out.arithmetic = curriculum.first().arithmetic->name;
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               curriculum.first().make_model(manifest.vocab_size));
  out.architecture = model->config().value("model_type", "");
  out.parameters = model->num_parameters();
  out.steps = curriculum.total_steps();
  out.tokens = curriculum.total_tokens();
  out.tokenizer_sha256 = manifest.tokenizer_sha256;
  NAITE_ASSIGN(out.tokenizer_config_sha256, sha256_file(run_directory / "tokenizer_config.json"));
  NAITE_ASSIGN(out.recipe_sha256, sha256_file(run_directory / "recipe.toml"));
  out.plan = curriculum.plan();
  out.branch = branch;
  out.version = kVersion;
  out.source_commit = source_commit();
  return out;
}

}  // namespace naite::train
