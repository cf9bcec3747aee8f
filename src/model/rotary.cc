// SPDX-License-Identifier: Apache-2.0
#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

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

// A table under either of its names, in one spelling: without nulls, its type as `rope_type`.
// Nothing if there is none, or if it is wrong.
std::optional<json> rope_table(Table& table, const char* key) {
  const json* value = table.raw(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_object()) {
    table.reject(key, "a table");
    return std::nullopt;
  }
  json out = json::object();
  for (const auto& [name, item] : value->items()) {
    // transformers 5 may give every type of layer a table of its own.
    if (item.is_object()) table.reject(key, "one table for all layers, which all turn alike");
    if (!item.is_null()) out[name] = item;
  }
  if (out.contains("type")) {
    if (out.contains("rope_type") && out["rope_type"] != out["type"])
      table.reject(key, "of one type, the same under `type` and `rope_type`");
    out["rope_type"] = out["type"];
    out.erase("type");
  }
  out.erase("finetuned");  // how the weights came to be
  return out;
}

// What is said twice must agree, as readers differ in which they believe.
void read_theta(Table& table, const char* key, const std::optional<json>& value, double& theta) {
  if (!value || !value->contains("rope_theta")) return;
  Table inner(*value, fmt::format("{} [{}]", table.where(), key));
  const double given = inner.number("rope_theta", theta, 1.001, 1e12);
  if (table.has("rope_theta") && !table.raw("rope_theta")->is_null() && given != theta)
    inner.reject("rope_theta", fmt::format("the {} that stands outside the table", theta));
  theta = given;
  table.adopt(inner.finish(true));
}

json without_theta(json value) {
  value.erase("rope_theta");
  if (!value.contains("rope_type")) value["rope_type"] = "default";
  return value;
}

// Every key is read or refused: what a table says and the type does not use would be lost.
Status read_scaling(Table table, Rotary& rotary, int64_t max_positions) {
  const std::string type =
      table.choice("rope_type", "default", {"default", "linear", "llama3", "yarn"});
  table.ignore({"rope_theta", "original_max_position_embeddings"});
  for (const char* key : {"partial_rotary_factor", "attn_factor", "extrapolation_factor"})
    if (table.number(key, 1.0, 0, kFactorMax) != 1.0) table.reject(key, "1");
  if (type == "default" && table.number("factor", 1.0, 0, kFactorMax) != 1.0)
    table.reject("factor", "1, or `rope_type` must say how it stretches");
  if (type == "llama3") scale_llama3(table, rotary, max_positions);
  if (type == "yarn") scale_yarn(table, rotary, max_positions);
  if (type == "linear") {
    const double factor = table.number("factor", std::nullopt, 1, kFactorMax);
    for (double& frequency : rotary.frequencies) frequency = frequency / factor;
  }
  return table.finish();
}

}  // namespace

Rotary read_rotary(Table& table, int64_t head_dim, int64_t max_positions, double theta) {
  Rotary out;
  if (const json* share = table.raw("partial_rotary_factor");
      share != nullptr && !share->is_null() && *share != json(1.0))
    table.reject("partial_rotary_factor", "1: heads turn as a whole");
  out.theta = theta;
  if (const json* given = table.raw("rope_theta"); given == nullptr || !given->is_null())
    out.theta = table.number("rope_theta", theta, 1.001, 1e12);
  const std::optional<json> parameters = rope_table(table, "rope_parameters");
  const std::optional<json> scaling = rope_table(table, "rope_scaling");
  read_theta(table, "rope_parameters", parameters, out.theta);
  read_theta(table, "rope_scaling", scaling, out.theta);
  out.frequencies = inverse_frequencies(out.theta, head_dim);
  if (!scaling && !parameters) return out;
  if (scaling && parameters && without_theta(*scaling) != without_theta(*parameters))
    table.reject("rope_scaling", "what `rope_parameters` says, or absent");
  const json chosen = without_theta(scaling ? *scaling : *parameters);
  const char* key = scaling ? "rope_scaling" : "rope_parameters";
  table.adopt(
      read_scaling(Table(chosen, fmt::format("{} [{}]", table.where(), key)), out, max_positions));
  if (chosen["rope_type"] != "default") out.scaling = std::make_shared<const json>(chosen);
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
