// SPDX-License-Identifier: Apache-2.0
#include "train/model_card.h"

namespace naite::train {

std::string model_card(const Recipe& recipe, const model::Model& model,
                       const data::Manifest& manifest, const nlohmann::json& record) {
  const auto step = record["step"].get<int64_t>(), total = record["total_steps"].get<int64_t>();
  std::string origin = "Trained from random weights";
  if (record.contains("branch") && record["branch"].contains("grown"))
    origin = fmt::format("Grown from the model with the weights digest {} and trained",
                         record["branch"].value("weights_digest", std::string("unknown")));
  std::string text = fmt::format(
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# {}\n\n"
      "{} by Naite, with {} parameters.\n"
      "This is the state after step {} of {} ({:.1f}%), {} of {} planned tokens.\n\n",
      recipe.name, origin, model::count_parameters(model), step, total,
      100.0 * static_cast<double>(step) / static_cast<double>(total),
      record["tokens"].get<int64_t>(), record["planned_tokens"].get<int64_t>());
  text += fmt::format(
      "## Data\n\n| source | licence | origin | documents | tokens | read in stage {} | epochs |\n"
      "|---|---|---|---|---|---|---|\n",
      recipe.stage);
  for (size_t i = 0; i < manifest.sources.size(); ++i) {
    const data::ManifestSource& source = manifest.sources[i];
    const nlohmann::json& read = record["data"][i];
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} |\n", source.name,
                        source.license.empty() ? "not stated" : source.license,
                        source.origin.empty() ? "not stated" : source.origin,
                        source.train.documents, source.train.tokens,
                        read["stage_tokens"].get<int64_t>(), read["stage_epochs"].get<double>());
  }
  if (!record["validation"].empty()) {
    text +=
        "\n## Held-out text\n\n| source | loss (nats per token) | bits per byte |\n|---|---|---|\n";
    for (const auto& [name, value] : record["validation"].items())
      text += fmt::format("| {} | {:.4f} | {:.4f} |\n", name, value["loss"].get<double>(),
                          value["bits_per_byte"].get<double>());
  }
  text += fmt::format(
      "\n## Reproduce\n\n`recipe.toml` beside the checkpoints decides every bit of these weights: "
      "seed {}, arithmetic {}, precision {}.\n`naite digest` prints the SHA-256 of the weights and "
      "of the whole training state.\n",
      recipe.seed, recipe.arithmetic, recipe.train.precision);
  return text;
}

}  // namespace naite::train
