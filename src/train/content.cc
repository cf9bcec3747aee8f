// SPDX-License-Identifier: Apache-2.0
#include "train/content.h"

#include <set>

#include "train/optimizer.h"

namespace naite::train {

namespace {

// Configs of the model and the tokenizer.
formats::CheckpointContent configs_of(const StateSetting& setting) {
  formats::CheckpointContent content;
  content.config = setting.model.config();
  content.generation_config = {{"do_sample", true}, {"temperature", 0.8}, {"top_p", 0.95}};
  if (const int32_t end = setting.tokenizer.end_of_document(); end >= 0) {
    content.config["bos_token_id"] = end;
    content.config["eos_token_id"] = end;
    content.generation_config["bos_token_id"] = end;
    content.generation_config["eos_token_id"] = end;
  }
  content.dtype = setting.stage.weights_type();
  content.tokenizer_directory = setting.run_directory;
  return content;
}

Status same_sources(const data::Manifest& manifest, const data::Loader& loader) {
  const size_t count = manifest.sources.size();
  for (size_t i = 0; i < count; ++i)
    if (static_cast<int>(i) >= loader.num_sources() ||
        loader.source_name(static_cast<int>(i)) != manifest.sources[i].name)
      return fail("data/manifest.json has the source {}, which is not that of the recipe there",
                  manifest.sources[i].name);
  if (static_cast<int>(count) == loader.num_sources()) return {};
  return fail("data/manifest.json has {} sources, the recipe {}", count, loader.num_sources());
}

formats::Record record_of(const StateSetting& setting, const StateFacts& facts) {
  const Recipe& stage = setting.stage;
  formats::Record out;
  out.cursor = setting.curriculum.cursor(facts.step);
  out.stage = stage.stage;
  out.total_steps = setting.curriculum.total_steps();
  out.planned_tokens = setting.curriculum.total_tokens();
  out.name = facts.name;
  out.precision = stage.train.precision;
  out.loss = facts.loss;
  out.validation = facts.validation;
  out.branch = facts.branch;
  // What this stage really read so far: the schedule of the weights in whole rows.
  const int64_t steps = facts.step - stage.first_step;
  const std::vector<int64_t> tokens = setting.loader.tokens_by_source(0, steps);
  const std::vector<double> epochs = setting.loader.epochs_by_source(steps);
  for (size_t i = 0; i < setting.manifest.sources.size(); ++i) {
    const data::ManifestSource& source = setting.manifest.sources[i];
    out.data.push_back({source.name, source.license, source.origin, tokens[i], epochs[i]});
  }
  return out;
}

// README.md: what it is, how far it has come, what it was fed.
std::string model_card(const StateSetting& setting, const formats::Record& record) {
  const Recipe& recipe = setting.stage;
  std::string origin = "Trained from random weights";
  if (record.branch && record.branch->grown)
    origin = fmt::format("Grown from the model with the weights digest {} and trained",
                         record.branch->weights_digest);
  const int64_t step = record.cursor->step;
  std::string text = fmt::format(
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# {}\n\n"
      "{} by Naite, with {} parameters.\n"
      "This is the state after step {} of {} ({:.1f}%), {} of {} planned tokens.\n\n",
      record.name, origin, setting.model.num_parameters(), step, record.total_steps,
      100.0 * static_cast<double>(step) / static_cast<double>(record.total_steps),
      record.cursor->tokens, record.planned_tokens);
  text += fmt::format(
      "## Data\n\n| source | licence | origin | documents | tokens | read in stage {} | epochs |\n"
      "|---|---|---|---|---|---|---|\n",
      recipe.stage);
  for (size_t i = 0; i < record.data.size(); ++i) {
    const formats::SourceRead& source = record.data[i];
    const data::ManifestSplit& split = setting.manifest.sources[i].train;
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} |\n", source.name,
                        source.license.empty() ? "not stated" : source.license,
                        source.origin.empty() ? "not stated" : source.origin, split.documents,
                        split.tokens, source.stage_tokens, source.stage_epochs);
  }
  if (record.validation && !record.validation->empty()) {
    text +=
        "\n## Held-out text\n\n| source | loss (nats per token) | bits per byte |\n|---|---|---|\n";
    for (const auto& [source, measured] : *record.validation)
      text +=
          fmt::format("| {} | {:.4f} | {:.4f} |\n", source, measured.loss, measured.bits_per_byte);
  }
  text += fmt::format(
      "\n## Reproduce\n\n`recipe.toml` beside the checkpoints decides every bit of these weights: "
      "seed {}, arithmetic {}, precision {}.\n`naite digest` prints the SHA-256 of the weights and "
      "of the whole training state.\n",
      recipe.seed, recipe.arithmetic->name, recipe.train.precision);
  return text;
}

}  // namespace

Result<formats::CheckpointContent> content_of(const StateSetting& setting,
                                              const StateFacts& facts) {
  NAITE_TRY(same_sources(setting.manifest, setting.loader));
  formats::CheckpointContent out = configs_of(setting);
  out.record = record_of(setting, facts);
  out.model_card = model_card(setting, out.record);
  return out;
}

formats::TrainingState shape_of(const StateSetting& setting, int64_t step) {
  formats::TrainingState out;
  out.specs = setting.model.tensors();
  Optimizer::shapes(setting.stage.optimizer, setting.model.parameters(), out);
  out.cursor = setting.curriculum.cursor(step);
  return out;
}

Result<bool> takes_all_of(const std::filesystem::path& state, const Recipe& stage,
                          int64_t vocab_size) {
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model, stage.make_model(vocab_size));
  const std::vector<tape::ParameterSpec>& specs = model->tensors();
  formats::TrainingState shape;
  Optimizer::shapes(stage.optimizer, model->parameters(), shape);
  std::set<std::string> taken;
  for (const formats::TrainingState::Moments& moments : shape.moments)
    for (const int member : moments.members)
      taken.insert(moments.name + "." + specs[static_cast<size_t>(member)].name);
  NAITE_ASSIGN(const auto optimizer,
               formats::Safetensors::open(state / "state/optimizer.safetensors"));
  for (const formats::StoredTensor& tensor : optimizer.tensors())
    if (!tensor.name.starts_with("master.") && !taken.contains(tensor.name)) return false;
  NAITE_ASSIGN(const auto weights, formats::Safetensors::open(state));
  return weights.tensors().size() == specs.size();
}

}  // namespace naite::train
