// SPDX-License-Identifier: Apache-2.0
#include "train/grow.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "formats/checkpoint.h"
#include "formats/model_files.h"
#include "model/motif.h"
#include "record/run_directory.h"
#include "train/initial.h"

namespace naite::train {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using tape::ParameterSpec;

// What the rows and columns of a tensor count.
enum class Axis : uint8_t {
  kSame,      // nothing that grows: vocabulary, head width, coefficients
  kResidual,  // features of the residual stream
  kInner,     // features of the MLP
  kQueries,   // rows of all query heads
  kKeys,      // rows of all key (or value) heads
  kAttended,  // columns of what the query heads deliver
};

struct TensorAxes {
  std::string_view suffix;  // of the name
  Axis rows, cols;          // of a vector: kSame and its elements
};
constexpr TensorAxes kTensors[] = {
    {"embed_tokens.weight", Axis::kSame, Axis::kResidual},
    {"lm_head.weight", Axis::kSame, Axis::kResidual},
    {"model.norm.weight", Axis::kSame, Axis::kResidual},
    {"layernorm.weight", Axis::kSame, Axis::kResidual},
    {"q_proj.weight", Axis::kQueries, Axis::kResidual},
    {"k_proj.weight", Axis::kKeys, Axis::kResidual},
    {"v_proj.weight", Axis::kKeys, Axis::kResidual},
    {"o_proj.weight", Axis::kResidual, Axis::kAttended},
    {"q_proj.bias", Axis::kSame, Axis::kQueries},
    {"k_proj.bias", Axis::kSame, Axis::kKeys},
    {"v_proj.bias", Axis::kSame, Axis::kKeys},
    {"o_proj.bias", Axis::kSame, Axis::kResidual},
    {"gate_proj.weight", Axis::kInner, Axis::kResidual},
    {"up_proj.weight", Axis::kInner, Axis::kResidual},
    {"down_proj.weight", Axis::kResidual, Axis::kInner},
};

TensorAxes axes_of(std::string_view name) {
  for (const TensorAxes& axes : kTensors)
    if (name.ends_with(axes.suffix)) return axes;
  return {name, Axis::kSame, Axis::kSame};
}

// The sizes of a model that growth changes. Query heads stand in groups: those that share a key, or
// in Motif the signal heads that share a noise head, which is the group's last.
struct Sizes {
  int64_t hidden, inner, layers, groups, per_group, extra, keys, head_dim, value_dim;
  bool tied;

  explicit Sizes(const json& config)
      : hidden(config["hidden_size"]),
        inner(config["intermediate_size"]),
        layers(config["num_hidden_layers"]),
        keys(config["num_key_value_heads"]),
        head_dim(config["head_dim"]),
        tied(config["tie_word_embeddings"]) {
    const int64_t heads = config["num_attention_heads"];
    const bool is_motif = config.contains("num_noise_heads");
    groups = is_motif ? config["num_noise_heads"].get<int64_t>() : keys;
    extra = is_motif ? 1 : 0;
    per_group = heads / groups - extra;
    value_dim = is_motif ? 2 * head_dim : head_dim;
  }
};

// For each index of the grown axis the one that it copies.
using Source = std::vector<int64_t>;

Source tiled(int64_t count, int64_t from) {
  Source out(count);
  for (int64_t i = 0; i < count; ++i) out[i] = i % from;
  return out;
}

// Heads of `per_group + extra` in each group; the extra one copies the extra one.
Source grouped(const Sizes& a, const Sizes& b, int64_t extra, int64_t width) {
  Source out;
  for (int64_t group = 0; group < b.groups; ++group)
    for (int64_t slot = 0; slot < b.per_group + extra; ++slot) {
      const int64_t from = slot == b.per_group ? a.per_group : slot % a.per_group;
      const int64_t head = group % a.groups * (a.per_group + extra) + from;
      for (int64_t i = 0; i < width; ++i) out.push_back(head * width + i);
    }
  return out;
}

Source source_of(Axis axis, int64_t size, const Sizes& a, const Sizes& b) {
  switch (axis) {
    case Axis::kResidual:
      return tiled(size, a.hidden);
    case Axis::kInner:
      return tiled(size, a.inner);
    case Axis::kKeys:
      return tiled(size, a.keys * a.head_dim);
    case Axis::kQueries:
      return grouped(a, b, b.extra, b.head_dim);
    case Axis::kAttended:
      return grouped(a, b, 0, b.value_dim);
    case Axis::kSame:
      break;
  }
  return tiled(size, size);
}

// The layer that each grown layer copies, and whether it is one that begins as the identity.
struct LayerSource {
  int64_t from;
  bool inserted;
};
std::vector<LayerSource> layer_sources(int64_t from, int64_t to) {
  std::vector<LayerSource> out;
  int64_t inserted = 0;
  for (int64_t layer = 0; layer < from; ++layer) {
    out.push_back({layer, false});
    // The q-th insertion follows the layer that ends the q-th share of the depth.
    while (inserted < to - from && (inserted + 1) * from / (to - from) <= layer + 1) {
      out.push_back({layer, true});
      ++inserted;
    }
  }
  return out;
}

Status multiple(const char* key, int64_t from, int64_t to) {
  if (to >= from && to % from == 0) return {};
  return fail("[model] `{}` must be a multiple of the parent's {}, is {}", key, from, to);
}

// Keys that growth changes; every other one must be the parent's.
constexpr std::array<std::string_view, 8> kGrowing = {
    "hidden_size",         "intermediate_size",       "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "num_noise_heads",   "initializer_range"};

Status check_growth(const json& from, const json& to) {
  for (const auto& [key, value] : from.items()) {
    const bool grows = std::find(kGrowing.begin(), kGrowing.end(), key) != kGrowing.end();
    if (grows || (to.contains(key) && to[key] == value)) continue;
    return fail("[model] `{}` must be the parent's {}, is {}", key, value.dump(),
                to.contains(key) ? to[key].dump() : "missing");
  }
  const Sizes a(from), b(to);
  NAITE_TRY(multiple("hidden_size", a.hidden, b.hidden));
  NAITE_TRY(multiple("intermediate_size", a.inner, b.inner));
  NAITE_TRY(multiple("num_key_value_heads", a.keys, b.keys));
  if (b.layers < a.layers)
    return fail("[model] `num_hidden_layers` must be at least the parent's {}, is {}", a.layers,
                b.layers);
  if (b.groups % a.groups != 0 || b.groups / a.groups != b.keys / a.keys)
    return fail(
        "[model] `num_noise_heads` must grow with num_key_value_heads, {} times the parent's {}, "
        "is {}",
        b.keys / a.keys, a.groups, b.groups);
  if (b.per_group % a.per_group != 0)
    return fail(
        "[model] `num_attention_heads` must give every group a multiple of the parent's {} heads "
        "that it attends with, gives {}",
        a.per_group, b.per_group);
  return {};
}

// Everything about one growth.
class Growth {
 public:
  Growth(const formats::ModelFiles& files, const model::Model& parent, const model::Model& child,
         const Recipe& recipe, ThreadPool& pool)
      : files_(files),
        a_(parent.config()),
        b_(child.config()),
        recipe_(recipe),
        pool_(pool),
        layers_(layer_sources(a_.layers, b_.layers)) {
    for (const ParameterSpec& spec : parent.tensors()) parents_[spec.name] = spec;
  }

  Result<std::vector<float>> weights(const std::vector<ParameterSpec>& specs) {
    int64_t total = 0;
    for (const ParameterSpec& spec : specs) total += spec.size();
    std::vector<float> out(static_cast<size_t>(total));
    int64_t offset = 0;
    for (const ParameterSpec& spec : specs) {
      NAITE_TRY(fill(spec, std::span(out).subspan(offset, spec.size())));
      offset += spec.size();
    }
    return out;
  }

 private:
  struct Place {
    std::string parent;  // the tensor's name there
    int64_t layer = -1, parent_layer = -1;
    bool inserted = false;
  };
  Place place_of(const std::string& name) const {
    constexpr std::string_view kLayers = "model.layers.";
    if (!name.starts_with(kLayers)) return {name};
    const size_t dot = name.find('.', kLayers.size());
    const int64_t layer = std::stoll(name.substr(kLayers.size(), dot - kLayers.size()));
    const LayerSource source = layers_[layer];
    return {fmt::format("{}{}{}", kLayers, source.from, name.substr(dot)), layer, source.from,
            source.inserted};
  }

  Result<std::vector<float>> read(const std::string& name) const {
    const ParameterSpec& spec = parents_.at(name);
    std::vector<float> values(static_cast<size_t>(spec.size()));
    NAITE_TRY(files_.read(spec, values));
    return values;
  }

  Status fill(const ParameterSpec& spec, std::span<float> out) {
    const Place place = place_of(spec.name);
    const bool closes = spec.name.ends_with("o_proj.weight") ||
                        spec.name.ends_with("o_proj.bias") ||
                        spec.name.ends_with("down_proj.weight");
    if (place.inserted && closes) {
      std::fill(out.begin(), out.end(), 0.0f);
      return {};
    }
    NAITE_ASSIGN(const std::vector<float> from, read(place.parent));
    const TensorAxes axes = axes_of(spec.name);
    const Source rows = source_of(axes.rows, spec.rows, a_, b_);
    const Source cols = source_of(axes.cols, spec.cols, a_, b_);
    const int64_t width = parents_.at(place.parent).cols, copies = spec.cols / width;
    const bool divides = spec.role == tape::Role::kMatrix || spec.role == tape::Role::kHead;
    // The head of tied embeddings cannot divide; the norm before it does.
    const bool is_last_norm = b_.tied && spec.name == "model.norm.weight";
    const auto factor = static_cast<float>(divides || is_last_norm ? copies : 1);
    for (int64_t r = 0; r < spec.rows; ++r)
      for (int64_t c = 0; c < spec.cols; ++c)
        out[r * spec.cols + c] = from[rows[r] * width + cols[c]] / factor;
    if (divides && copies > 1) add_noise(spec, cols, out);
    if (place.layer != place.parent_layer) return correct_lambda(spec, place, out);
    return {};
  }

  // Neighbouring copies of a column, plus to one and minus to the other; an odd one out stays.
  void add_noise(const ParameterSpec& spec, const Source& cols, std::span<float> out) {
    if (recipe_.growth_noise == 0) return;
    double squares = 0;
    for (const float value : out) squares += static_cast<double>(value) * value;
    ParameterSpec noise = spec;
    noise.name += " growth";
    noise.initial_value = 0;
    noise.initial_std = recipe_.growth_noise * std::sqrt(squares / static_cast<double>(out.size()));
    std::vector<float> random(out.size());
    fill_initial(noise, static_cast<uint64_t>(recipe_.seed), pool_, random);
    std::map<int64_t, int64_t> waiting;  // the first copy of each column that has no partner yet
    for (int64_t c = 0; c < spec.cols; ++c) {
      const auto [it, first] = waiting.emplace(cols[c], c);
      if (first) continue;
      for (int64_t r = 0; r < spec.rows; ++r) {
        const float value = random[r * spec.cols + c];
        out[r * spec.cols + it->second] += value;
        out[r * spec.cols + c] -= value;
      }
      waiting.erase(it);
    }
  }

  // A layer that moves gets another constant in lambda (motif.h); the sub-norm and the second
  // exponential take the change back.
  Status correct_lambda(const ParameterSpec& spec, const Place& place, std::span<float> out) {
    if (b_.extra == 0) return {};
    const double before = model::motif_lambda_initial(place.parent_layer);
    const double after = model::motif_lambda_initial(place.layer);
    if (spec.name.ends_with("subln.weight"))
      for (float& value : out)
        value = static_cast<float>(static_cast<double>(value) * (1 - before) / (1 - after));
    if (!spec.name.ends_with("lambda_q2")) return {};
    std::string key = place.parent;
    key.replace(key.size() - 2, 2, "k2");
    NAITE_ASSIGN(const std::vector<float> k, read(key));
    double dot = 0, squares = 0;
    for (size_t i = 0; i < k.size(); ++i) {
      dot += static_cast<double>(out[i]) * k[i];
      squares += static_cast<double>(k[i]) * k[i];
    }
    if (squares == 0)
      return fail("{}: the tensor {} is zero, so lambda cannot keep its value in another layer",
                  files_.name(), key);
    // exp(dot') = exp(dot) + after - before; the shortest way there is along k. Layers only move
    // down, so the constant only grows and the logarithm exists.
    const double wanted = exact_log2(exact_exp2(dot / kLn2) + after - before) * kLn2;
    for (size_t i = 0; i < k.size(); ++i)
      out[i] = static_cast<float>(out[i] + (wanted - dot) / squares * k[i]);
    return {};
  }

  const formats::ModelFiles& files_;
  const Sizes a_, b_;
  const Recipe& recipe_;
  ThreadPool& pool_;
  const std::vector<LayerSource> layers_;
  std::map<std::string, ParameterSpec> parents_;
};

}  // namespace

Result<formats::Branch> origin_of(const fs::path& model, ThreadPool& pool) {
  formats::Branch out;
  out.from = record::public_name(model);
  NAITE_ASSIGN(out.weights_digest,
               fs::is_directory(model) ? formats::weights_digest(model, pool) : sha256_file(model));
  out.state_digest = out.weights_digest;
  if (!fs::exists(model / "record.json")) return out;
  NAITE_ASSIGN(const formats::Record record, formats::Record::read(model));
  if (!record.state_digest.empty()) out.state_digest = record.state_digest;
  if (record.cursor) out.recipe_digest = record.cursor->recipe_digest;
  if (record.origin) out.origin = record.origin->to_json();
  return out;
}

Result<StartWeights> grow(const fs::path& checkpoint, const Recipe& recipe, ThreadPool& pool) {
  NAITE_ASSIGN(const formats::ModelFiles files, formats::ModelFiles::open(checkpoint));
  NAITE_ASSIGN(const std::unique_ptr<model::Model> parent,
               model::make_model(files.config(), files.config_name() + ":", false));
  NAITE_TRY(files.check(parent->tensors()));
  std::error_code ignored;
  if (files.is_gguf() || fs::exists(checkpoint / "tokenizer.json", ignored))
    if (const Result<formats::TokenUse> use = files.tokens(parent->vocab_size()); !use)
      return use.error();
  NAITE_ASSIGN(const std::unique_ptr<model::Model> child, recipe.make_model(parent->vocab_size()));
  if (const Status status = check_growth(parent->config(), child->config()); !status)
    return fail("{} cannot grow from {}: {}", recipe.name, files.name(), status.error().message);
  StartWeights out;
  out.vocab_size = parent->vocab_size();
  NAITE_ASSIGN(out.masters, Growth(files, *parent, *child, recipe, pool).weights(child->tensors()));
  NAITE_ASSIGN(out.parent, origin_of(checkpoint, pool));
  out.parent.grown = true;
  out.parent.step = 0;
  return out;
}

}  // namespace naite::train
