// SPDX-License-Identifier: Apache-2.0
#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/model.h"

namespace naite::model {

namespace {

using nlohmann::json;

constexpr double kPi = 3.14159265358979323846;
constexpr double kFactorMax = 1e6;

void scale_llama3(Table& table, Rotary& rotary, int64_t max_positions) {
  const double factor = table.number("factor", std::nullopt, 1, kFactorMax);
  const double low = table.number("low_freq_factor", std::nullopt, 1e-3, 1e3);
  const double high = table.number("high_freq_factor", std::nullopt, 1e-3, 1e3);
  if (!(high > low)) table.reject("high_freq_factor", "above low_freq_factor");
  const auto original = static_cast<double>(
      table.integer("original_max_position_embeddings", max_positions, 1, INT32_MAX));
  for (double& frequency : rotary.frequencies) {
    const double turns = original * frequency / (2 * kPi);  // in the original context
    if (turns > high) continue;
    const double kept = turns < low ? 0.0 : (turns - low) / (high - low);
    frequency = (1 - kept) * frequency / factor + kept * frequency;
  }
}

// The factor on scores' square root, 0.1 m ln s + 1 (equation 22 of the paper).
double yarn_magnitude(double factor, double scale) {
  return factor > 1 ? 0.1 * scale * exact_ln(factor) + 1 : 1.0;
}

void scale_yarn(Table& table, Rotary& rotary, int64_t max_positions) {
  const double factor = table.number("factor", std::nullopt, 1, kFactorMax);
  const double fast = table.number("beta_fast", 32.0, 1e-3, 1e6);
  const double slow = table.number("beta_slow", 1.0, 1e-3, 1e6);
  const auto original = static_cast<double>(
      table.integer("original_max_position_embeddings", max_positions, 1, INT32_MAX));
  const double scale = table.number("mscale", 0.0, 0, 1e3);
  const double scale_all = table.number("mscale_all_dim", 0.0, 0, 1e3);
  double magnitude = yarn_magnitude(factor, 1);
  if (scale != 0 && scale_all != 0)
    magnitude = yarn_magnitude(factor, scale) / yarn_magnitude(factor, scale_all);
  rotary.magnitude = table.number("attention_factor", magnitude, 1e-3, 1e3);
  const bool truncate = table.boolean("truncate", true);

  const auto half = static_cast<double>(rotary.frequencies.size());
  // The (fractional) index of the frequency that turns `turns` times in the original context.
  const auto index_of = [&](double turns) {
    return half * exact_ln(original / (turns * 2 * kPi)) / exact_ln(rotary.theta);
  };
  double first = index_of(fast), last = index_of(slow);
  if (truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, 2 * half - 1);
  if (first == last) last = last + 0.001;
  for (size_t i = 0; i < rotary.frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    double& frequency = rotary.frequencies[i];
    frequency = frequency / factor * ramp + frequency * (1 - ramp);
  }
}

void read_scaling(Table table, Table& owner, Rotary& rotary, int64_t max_positions) {
  const char* key = table.has("rope_type") ? "rope_type" : "type";
  const std::string type = table.choice(key, "default", {"default", "linear", "llama3", "yarn"});
  if (table.number("partial_rotary_factor", 1.0, 0, 1) != 1.0)
    table.reject("partial_rotary_factor", "1");
  if (type == "llama3") scale_llama3(table, rotary, max_positions);
  if (type == "yarn") scale_yarn(table, rotary, max_positions);
  if (type == "linear") {
    const double factor = table.number("factor", std::nullopt, 1, kFactorMax);
    for (double& frequency : rotary.frequencies) frequency = frequency / factor;
  }
  owner.adopt(table.finish(true));
}

bool is_table(const json* value) { return value != nullptr && !value->is_null(); }

}  // namespace

Rotary read_rotary(Table& table, int64_t head_dim, int64_t max_positions) {
  Rotary out;
  const json* parameters = table.raw("rope_parameters");
  const json* scaling = table.raw("rope_scaling");
  out.theta = table.number("rope_theta", 10000.0, 1.001, 1e12);
  if (is_table(parameters)) {
    Table inner = table.table("rope_parameters");
    out.theta = inner.number("rope_theta", out.theta, 1.001, 1e12);
    table.adopt(inner.finish(true));
  }
  out.frequencies = inverse_frequencies(out.theta, head_dim);
  const char* key = is_table(scaling) ? "rope_scaling" : "rope_parameters";
  const json* chosen = is_table(scaling) ? scaling : parameters;
  if (!is_table(chosen)) return out;
  read_scaling(table.table(key), table, out, max_positions);
  if (!chosen->is_object()) return out;
  json kept = *chosen;
  if (kept.contains("type") && !kept.contains("rope_type")) kept["rope_type"] = kept["type"];
  kept.erase("type");
  kept.erase("rope_theta");
  if (kept.contains("rope_type") && kept["rope_type"] != "default")
    out.scaling = std::make_shared<const json>(std::move(kept));
  return out;
}

std::vector<float> Rotary::table(int64_t positions) const {
  std::vector<float> out = rotary_table(positions, frequencies);
  if (magnitude != 1)
    for (float& value : out) value = static_cast<float>(double{value} * magnitude);
  return out;
}

void Rotary::put(json& config) const {
  config["rope_theta"] = theta;
  config["rope_scaling"] = nullptr;
  config["rope_parameters"] = {{"rope_type", "default"}};
  if (scaling != nullptr) config["rope_scaling"] = config["rope_parameters"] = *scaling;
  config["rope_parameters"]["rope_theta"] = theta;
}

}  // namespace naite::model
