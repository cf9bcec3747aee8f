// SPDX-License-Identifier: Apache-2.0
#include "train/content.h"

namespace naite::train {

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
  content.dtype = recipe.weights_type();
  content.tokenizer_directory = run_directory;
  return content;
}

std::string model_card(const Recipe& recipe, const model::Model& model,
                       const data::Manifest& manifest, const formats::Record& record) {
  std::string origin = "Trained from random weights";
  if (record.branch && record.branch->grown)
    origin = fmt::format("Grown from the model with the weights digest {} and trained",
                         record.branch->weights_digest);
  const int64_t step = record.cursor->step;
  std::string text = fmt::format(
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# {}\n\n"
      "{} by Naite, with {} parameters.\n"
      "This is the state after step {} of {} ({:.1f}%), {} of {} planned tokens.\n\n",
      recipe.name, origin, model.num_parameters(), step, record.total_steps,
      100.0 * static_cast<double>(step) / static_cast<double>(record.total_steps),
      record.cursor->tokens, record.planned_tokens);
  text += fmt::format(
      "## Data\n\n| source | licence | origin | documents | tokens | read in stage {} | epochs |\n"
      "|---|---|---|---|---|---|---|\n",
      recipe.stage);
  for (size_t i = 0; i < manifest.sources.size(); ++i) {
    const data::ManifestSource& source = manifest.sources[i];
    text +=
        fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} |\n", source.name,
                    source.license.empty() ? "not stated" : source.license,
                    source.origin.empty() ? "not stated" : source.origin, source.train.documents,
                    source.train.tokens, record.data[i].stage_tokens, record.data[i].stage_epochs);
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

}  // namespace naite::train
