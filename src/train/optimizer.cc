// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace naite::train {

namespace {

using kernels::DType;
using kernels::View;
using tape::ParameterSpec;
using tape::Role;

// Muon's step on an r x c matrix, times this and the square root of the larger of r and c, is as
// large as AdamW's (Liu et al., "Muon is scalable for LLM training", 2025).
constexpr double kMuonScale = 0.2;

bool takes_muon(const OptimizerOptions& options, const ParameterSpec& spec) {
  return options.name == "muon" && spec.role == Role::kMatrix;
}

std::vector<int> all_of(const std::vector<ParameterSpec>& specs) {
  std::vector<int> out(specs.size());
  for (size_t p = 0; p < specs.size(); ++p) out[p] = static_cast<int>(p);
  return out;
}

std::vector<int> adamw_members(const OptimizerOptions& options,
                               const std::vector<ParameterSpec>& specs) {
  std::vector<int> out = all_of(specs);
  std::erase_if(out, [&](int p) { return takes_muon(options, specs[p]); });
  return out;
}

std::vector<ParameterSpec> some_of(const std::vector<ParameterSpec>& specs,
                                   const std::vector<int>& members) {
  std::vector<ParameterSpec> out;
  for (const int p : members) out.push_back(specs[p]);
  return out;
}

// Parameters as files have them: indices into tensors_of().
std::vector<int> tensors_of_some(const std::vector<ParameterSpec>& specs,
                                 const std::vector<int>& members) {
  std::vector<int> out;
  int first = 0;
  size_t member = 0;
  for (int p = 0; p < static_cast<int>(specs.size()); ++p) {
    const int count = static_cast<int>(specs[p].count);
    if (member < members.size() && members[member] == p) {
      for (int i = 0; i < count; ++i) out.push_back(first + i);
      ++member;
    }
    first += count;
  }
  return out;
}

int64_t workspace_bytes(const OptimizerOptions& options, const kernels::Kernels& kernels,
                        const std::vector<ParameterSpec>& specs) {
  int64_t bytes = 0;
  for (const ParameterSpec& spec : specs)
    if (takes_muon(options, spec))
      bytes = std::max(bytes, kernels.workspace_bytes(kernels::Muon{
                                  {}, View{nullptr, DType::kF32, spec.rows, spec.cols}, {}, {}}));
  return bytes;
}

}  // namespace

Optimizer::Group::Group(std::string name, std::vector<int> members, kernels::Kernels& kernels,
                        const std::vector<ParameterSpec>& specs, std::vector<tape::Block>& moments)
    : name(std::move(name)),
      members(std::move(members)),
      layout(some_of(specs, this->members), DType::kF32) {
  if (moments.empty()) {
    slab = tape::Block(kernels, layout.bytes());
    return;
  }
  slab = std::move(moments.front());
  moments.erase(moments.begin());
  NAITE_CHECK(slab.bytes() == layout.bytes(), "{} bytes of {}, not {}", slab.bytes(), this->name,
              layout.bytes());
}

View Optimizer::Group::view(int parameter) const {
  const auto it = std::lower_bound(members.begin(), members.end(), parameter);
  NAITE_CHECK(it != members.end() && *it == parameter, "{} keeps nothing of parameter {}", name,
              parameter);
  return layout.view(slab, static_cast<int>(it - members.begin()));
}

int64_t Optimizer::Group::num_values(const tape::Parameters& parameters) const {
  int64_t total = 0;
  for (const int p : members) total += parameters.specs()[p].size();
  return total;
}

Optimizer::Optimizer(const Recipe& recipe, kernels::Kernels& kernels, tape::Parameters& parameters,
                     std::vector<tape::Block> moments)
    : recipe_(recipe),
      kernels_(kernels),
      parameters_(parameters),
      m_("m", all_of(parameters.specs()), kernels, parameters.specs(), moments),
      v_("v", adamw_members(recipe.optimizer, parameters.specs()), kernels, parameters.specs(),
         moments),
      workspace_(kernels, workspace_bytes(recipe.optimizer, kernels, parameters.specs())) {
  for (const ParameterSpec& spec : parameters.specs())
    trained_.push_back(recipe.trains(spec.tensor(0).name));
}

Status Optimizer::update(int64_t step, float gradient_scale, const tape::Block& gradient) {
  const OptimizerOptions& o = recipe_.optimizer;
  const double rate = recipe_.learning_rate(step);
  const double other_rate = recipe_.other_learning_rate(step);
  kernels::AdamWArguments a;
  a.gradient_scale = gradient_scale;
  a.beta1 = static_cast<float>(o.beta1);
  a.one_minus_beta1 = static_cast<float>(1 - o.beta1);
  a.beta2 = static_cast<float>(o.beta2);
  a.one_minus_beta2 = static_cast<float>(1 - o.beta2);
  a.inverse_correction1 = static_cast<float>(1 / (1 - integer_power(o.beta1, step + 1)));
  a.inverse_correction2 = static_cast<float>(1 / (1 - integer_power(o.beta2, step + 1)));
  a.epsilon = static_cast<float>(o.epsilon);
  a.learning_rate = static_cast<float>(other_rate);
  const kernels::Workspace workspace{static_cast<std::byte*>(workspace_.data()),
                                     static_cast<size_t>(workspace_.bytes())};
  for (int p = 0; p < parameters_.size(); ++p) {
    if (!trained_[p]) continue;
    const ParameterSpec& spec = parameters_.specs()[p];
    const View dp = parameters_.layout().view(gradient, p);
    if (takes_muon(o, spec)) {
      const double larger = std::sqrt(static_cast<double>(std::max(spec.rows, spec.cols)));
      const kernels::MuonArguments muon{
          .gradient_scale = gradient_scale,
          .momentum = static_cast<float>(o.muon.momentum),
          .learning_rate = static_cast<float>(rate * kMuonScale * larger),
          .decay = static_cast<float>(1 - rate * o.muon.weight_decay)};
      for (int64_t i = 0; i < spec.count; ++i)
        NAITE_TRY(
            kernels_.submit(kernels::Muon{parameters_.tensor(p, i), tape::matrix_of(dp, spec, i),
                                          tape::matrix_of(m_.view(p), spec, i), muon, workspace}));
      continue;
    }
    // Norm weights and biases are not pulled towards zero.
    const bool decays = spec.role != Role::kVector;
    a.decay = decays ? static_cast<float>(1 - other_rate * o.weight_decay) : 1.0f;
    NAITE_TRY(
        kernels_.submit(kernels::AdamW{parameters_.master(p), dp, m_.view(p), v_.view(p), a}));
  }
  return {};
}

// With gamma = limit / peak < 1 and G queries to a key, r = 1 / (1 + sqrt(G)): the key takes the
// smallest gamma of its queries to the power r, each query its own to the power 1 - r.
Status Optimizer::clip(const model::ScoredHeads& heads, std::span<const float> peaks) {
  std::map<int64_t, std::vector<double>> gammas;  // by key
  for (size_t h = 0; h < peaks.size(); ++h) {
    const double peak = static_cast<double>(peaks[h]) * kLn2;
    const double limit = recipe_.optimizer.muon.qk_clip;
    gammas[heads.key_heads[h]].push_back(peak > limit ? limit / peak : 1.0);
  }
  for (const auto& [key, of_key] : gammas) {
    const double smallest = *std::min_element(of_key.begin(), of_key.end());
    if (smallest == 1.0) continue;
    const double share = 1 / (1 + std::sqrt(static_cast<double>(of_key.size())));
    NAITE_TRY(scale_head(heads.keys, key, heads.head_dim, exact_power(smallest, share)));
    size_t member = 0;
    for (size_t h = 0; h < peaks.size(); ++h)
      if (heads.key_heads[h] == key)
        NAITE_TRY(scale_head(heads.queries, heads.query_heads[h], heads.head_dim,
                             exact_power(of_key[member++], 1 - share)));
  }
  return {};
}

Status Optimizer::scale_head(const std::string& weight, int64_t head, int64_t head_dim,
                             double factor) {
  const auto& specs = parameters_.specs();
  const auto it = std::find_if(specs.begin(), specs.end(),
                               [&](const ParameterSpec& spec) { return spec.name == weight; });
  NAITE_CHECK(it != specs.end(), "no parameter {}", weight);
  const auto p = static_cast<int>(it - specs.begin());
  if (!trained_[p] || factor == 1.0) return {};
  const View master = parameters_.master(p);
  const View rows{master.as<float>() + head * head_dim * master.cols, DType::kF32, head_dim,
                  master.cols};
  return kernels_.submit(kernels::Scale{rows, rows, static_cast<float>(factor)});
}

std::vector<tape::Block> Optimizer::release() {
  std::vector<tape::Block> out;
  for (Group* group : {&m_, &v_}) out.push_back(std::move(group->slab));
  return out;
}

void Optimizer::shapes(const OptimizerOptions& options, const std::vector<ParameterSpec>& specs,
                       formats::TrainingState& state) {
  state.moments.resize(2);
  state.moments[0].name = "m";
  state.moments[0].members = tensors_of_some(specs, all_of(specs));
  state.moments[1].name = "v";
  state.moments[1].members = tensors_of_some(specs, adamw_members(options, specs));
}

Status Optimizer::save(formats::TrainingState& state) const {
  shapes(recipe_.optimizer, parameters_.specs(), state);
  size_t index = 0;
  for (const Group* group : {&m_, &v_}) {
    formats::TrainingState::Moments& moments = state.moments[index++];
    moments.values.resize(static_cast<size_t>(group->num_values(parameters_)));
    int64_t offset = 0;
    for (const int p : group->members) {
      const View view = group->view(p);
      NAITE_TRY(kernels_.download(moments.values.data() + offset, view.data, view.bytes()));
      offset += view.size();
    }
  }
  return {};
}

Status Optimizer::load(const formats::TrainingState& state) {
  size_t index = 0;
  for (const Group* group : {&m_, &v_}) {
    const formats::TrainingState::Moments& moments = state.moments[index++];
    int64_t offset = 0;
    for (const int p : group->members) {
      const View view = group->view(p);
      NAITE_TRY(kernels_.upload(view.data, moments.values.data() + offset, view.bytes()));
      offset += view.size();
    }
  }
  return {};
}

// Five iterations of Z'Z, A'A and Z B, Z being long x wide.
double Optimizer::flops(const OptimizerOptions& options, const std::vector<ParameterSpec>& specs) {
  double out = 0;
  for (const ParameterSpec& spec : specs) {
    if (!takes_muon(options, spec)) continue;
    const auto wide = static_cast<double>(std::min(spec.rows, spec.cols));
    const auto length = static_cast<double>(std::max(spec.rows, spec.cols));
    out +=
        static_cast<double>(spec.count) * 5 * (4 * length * wide * wide + 2 * wide * wide * wide);
  }
  return out;
}

}  // namespace naite::train
