// SPDX-License-Identifier: Apache-2.0
#pragma once
// A larger model that computes the same function as a smaller, trained one: HyperCloning (Samragh
// et al., "Scaling smart", arXiv 2409.12903) for the widths, groups of differential attention that
// get more signal heads, and blocks that begin as the identity (Wu et al., "LLaMA Pro", 2024) for
// the depth.
//   width   every feature of the residual stream or of an MLP becomes r copies; a matrix that reads
//           copies divides by their number. Norms are means, so copies leave them alone.
//   heads   a query head may become several, in the same group or with copies of the whole group;
//           the output projection divides by their number
//   depth   copies of a layer whose two output projections are zero, evenly spread
//   noise   copies would receive the same gradient for ever; so a random number is added to the
//           weight of one copy and taken from that of its neighbour, which the sum does not see
#include <filesystem>

#include "formats/record.h"
#include "train/recipe.h"

namespace naite::train {

// Weights that a run begins with instead of random ones.
struct StartWeights {
  std::vector<float> masters;  // one parameter after another, in recording order
  int64_t vocab_size = 0;
  formats::Branch parent;  // where they come from, for branch.json and the log
};

// `checkpoint` is a directory or file of any format; recipe.growth_noise is the noise's size.
Result<StartWeights> grow(const std::filesystem::path& checkpoint, const Recipe& recipe,
                          ThreadPool& pool);

// What a model of ours or of others says of where it comes from: its path, the digests of its
// weights (a GGUF file: of the file), state and recipe, and in "origin" what an import wrote.
Result<formats::Branch> origin_of(const std::filesystem::path& model, ThreadPool& pool);

}  // namespace naite::train
