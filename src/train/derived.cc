// SPDX-License-Identifier: Apache-2.0
#include "train/derived.h"

#include <algorithm>

#include "ledger/canonical_json.h"

namespace naite::train {

using nlohmann::json;
using record::Commitment;
using record::RunDirectory;

Result<Commitment> commitment_of(const Curriculum& curriculum, const data::Manifest& manifest,
                                 const json& branch, const std::filesystem::path& run_directory) {
  Commitment out;
  out.name = curriculum.first().name;
  NAITE_ASSIGN(out.data_digest, data_digest(manifest));
  NAITE_ASSIGN(out.manifest_sha256, sha256_file(run_directory / "data" / "manifest.json"));
  NAITE_ASSIGN(out.training, curriculum.training(manifest.vocab_size, out.data_digest));
  NAITE_ASSIGN(const std::string training, ledger::canonical_json(out.training));
  out.training_digest = sha256_hex(training);
  out.arithmetic = curriculum.first().arithmetic;
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               curriculum.first().make_model(manifest.vocab_size));
  out.architecture = model->config().value("model_type", "");
  out.parameters = model::count_parameters(*model);
  out.steps = curriculum.total_steps();
  out.tokens = curriculum.total_tokens();
  out.tokenizer_sha256 = manifest.tokenizer_sha256;
  NAITE_ASSIGN(out.tokenizer_config_sha256, sha256_file(run_directory / "tokenizer_config.json"));
  NAITE_ASSIGN(out.recipe_sha256, sha256_file(run_directory / "recipe.toml"));
  out.plan = curriculum.plan();
  for (const char* key : {"step", "state_digest", "recipe_digest"})
    if (branch.is_object()) out.branch[key] = branch.value(key, json());
  out.version = kVersion;
  out.source_commit = source_commit();
  return out;
}

json cursor_of(const Curriculum& curriculum, int64_t step) {
  return {{"format", 1},
          {"step", step},
          {"tokens", curriculum.stage_of(step).tokens_at(step)},
          {"seed", curriculum.first().seed},
          {"arithmetic", curriculum.first().arithmetic},
          {"recipe_digest", curriculum.digest()}};
}

formats::CheckpointContent content_of(const Recipe& recipe, const model::Model& model,
                                      const data::Tokenizer& tokenizer,
                                      const std::filesystem::path& run_directory) {
  formats::CheckpointContent content;
  content.config = model.config();
  content.generation_config = {{"do_sample", true}, {"temperature", 0.8}, {"top_p", 0.95}};
  if (const int32_t end = tokenizer.end_of_document(); end >= 0) {
    content.config["bos_token_id"] = end;
    content.config["eos_token_id"] = end;
    content.generation_config["bos_token_id"] = end;
    content.generation_config["eos_token_id"] = end;
  }
  content.dtype =
      recipe.train.precision == "bf16" ? formats::StoredType::kBf16 : formats::StoredType::kF32;
  content.tokenizer_directory = run_directory;
  return content;
}

bool is_averaged(const Recipe& recipe, int64_t step) {
  const std::vector<int64_t> steps = recipe.averaging_steps();
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

Status average_checkpoints(const Recipe& recipe, int64_t step, const RunDirectory& run,
                           formats::TrainingState& state) {
  const std::vector<int64_t> steps = recipe.averaging_steps();
  const auto here = std::find(steps.begin(), steps.end(), step);
  NAITE_CHECK(here != steps.end(), "step {} is no averaging step", step);
  const int64_t before = std::min<int64_t>(recipe.averaging.last - 1, here - steps.begin());
  if (before == 0) return {};
  std::vector<float> sum(state.masters.size(), 0.0f), masters;
  const auto add = [&](const std::vector<float>& values) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + values[i];
  };
  for (auto earlier = here - before; earlier != here; ++earlier) {
    NAITE_TRY(formats::read_masters(
        run.checkpoint(recipe.stage, *earlier, recipe.tokens_at(*earlier)), state.specs, masters));
    add(masters);
  }
  add(state.masters);
  const auto share = static_cast<float>(1.0 / static_cast<double>(before + 1));
  for (size_t i = 0; i < sum.size(); ++i) state.masters[i] = sum[i] * share;
  return {};
}

record::StepDigest digest_of(const StepResult& result) {
  return record::StepDigest::of(result.loss, result.grad_norm, result.batch);
}

Result<std::map<std::string, std::string>> tensor_digests(Engine& engine,
                                                          kernels::Kernels& kernels) {
  std::map<std::string, std::string> out;
  std::vector<float> values;
  for (int p = 0; p < engine.parameters().size(); ++p) {
    const tape::ParameterSpec& spec = engine.parameters().specs()[static_cast<size_t>(p)];
    const kernels::View master = engine.parameters().master(p);
    values.resize(static_cast<size_t>(spec.size()));
    NAITE_TRY(kernels.download(values.data(), master.data, master.bytes()));
    out[spec.name] =
        sha256_hex({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  return out;
}

}  // namespace naite::train
