// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rotary position frequencies from a config, with the ways of stretching them to longer contexts:
//   linear   every frequency divided by `factor`
//   llama3   frequencies whose wavelength exceeds the original context divided by `factor`, a
//   smooth
//            passage between (Llama 3.1; keys low_freq_factor, high_freq_factor,
//            original_max_position_embeddings)
//   yarn     Peng et al., "YaRN", 2023: interpolation below, extrapolation above a range of
//            dimensions, and scores scaled by a factor that is folded into cosines and sines
// Both spellings of configs are read: rope_theta with rope_scaling, and rope_parameters.
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "base/base.h"

namespace naite::model {

struct Rotary {
  double theta = 10000;
  std::vector<double> frequencies;                // radians per position, one for each pair
  double magnitude = 1;                           // factor on cosines and sines
  std::shared_ptr<const nlohmann::json> scaling;  // rope_scaling as a table; nullptr: none

  // Cosines and sines for rope(): [positions, 2 half], angle(p, i) = p frequencies[i].
  std::vector<float> table(int64_t positions) const;
  // Writes rope_theta, rope_scaling and rope_parameters.
  void put(nlohmann::json& config) const;
};

// Errors are kept in `table`.
Rotary read_rotary(Table& table, int64_t head_dim, int64_t max_positions, double theta = 10000);

}  // namespace naite::model
