// SPDX-License-Identifier: Apache-2.0
#include "cmd/cost.h"

#include <algorithm>
#include <functional>

#include "cmd/cmd.h"
#include "data/tokenizer.h"

namespace naite::cmd {

namespace {

using nlohmann::json;

// Model flops over the peak in training: 60% for the quickstart's small matrices, 80% for larger
// ones (docs/PERFORMANCE.md).
constexpr double kShareOfPeak = 0.65;
constexpr double kWattsPerThread = 10;
constexpr double kH100Flops = 989e12, kH100Share = 0.4;  // bf16, dense; a usual share in training

train::EngineOptions engine_options(const MachineSettings& settings) {
  return {settings.virtual_ranks, settings.recompute};
}

// --- advice -------------------------------------------------------------------------------------

// A change that takes less memory, tried from mild to strong until the run fits.
struct Remedy {
  std::string text;
  std::function<void(json& recipe, train::EngineOptions& options)> apply;
};

std::vector<Remedy> micro_batches(const train::Recipe& r) {
  std::vector<Remedy> out;
  for (int64_t tokens = r.train.micro_batch_tokens / 2; tokens >= r.data.sequence_length;
       tokens /= 2) {
    if (r.train.batch_tokens % tokens != 0 || tokens % r.data.sequence_length != 0) continue;
    out.push_back(
        {fmt::format("--set train.micro_batch_tokens={}", tokens), [=](json& recipe, auto&) {
           recipe["train"]["micro_batch_tokens"] = tokens;
           recipe["train"].erase("gradient_groups");
         }});
  }
  return out;
}

// Smaller by halves: layers, or the width with everything that goes with it.
std::vector<Remedy> smaller(const train::Recipe& r, const std::vector<std::string>& keys) {
  std::vector<Remedy> out;
  for (int64_t divisor = 2; divisor <= r.model.value(keys[0], int64_t{1}); divisor *= 2) {
    json changed = json::object();
    for (const std::string& key : keys)
      if (r.model.contains(key) && r.model[key].is_number_integer())
        changed[key] = std::max<int64_t>(1, r.model[key].get<int64_t>() / divisor);
    std::vector<std::string> words;
    for (const auto& [key, value] : changed.items())
      words.push_back(fmt::format("--set model.{}={}", key, json_text(value)));
    out.push_back({fmt::format("{}", fmt::join(words, " ")),
                   [changed](json& recipe, auto&) { recipe["model"].update(changed); }});
  }
  return out;
}

// The mildest of `remedies` after which the run fits; empty if none does.
std::string first_that_fits(const train::Recipe& recipe, const MachineSettings& settings,
                            const kernels::Kernels& kernels, const std::vector<Remedy>& remedies,
                            bool with_recompute) {
  for (const Remedy& remedy : remedies) {
    json tables = recipe.resolved();
    train::EngineOptions options = engine_options(settings);
    options.recompute |= with_recompute;
    remedy.apply(tables, options);
    const Result<train::Curriculum> changed = train::parse_recipe(tables, recipe.name);
    if (!changed) continue;
    const Result<Cost> cost = cost_of(*changed, options, kernels);
    if (cost.ok() && cost->memory_total() <= settings.memory_bytes()) return remedy.text;
  }
  return {};
}

// Two ways to make the stage fit, the mildest first.
std::vector<std::string> advice(const train::Recipe& recipe, const MachineSettings& settings,
                                const kernels::Kernels& kernels) {
  const std::vector<std::vector<Remedy>> families = {
      {{"--recompute", [](json&, train::EngineOptions& o) { o.recompute = true; }}},
      micro_batches(recipe),
      smaller(recipe, {"num_hidden_layers"}),
      smaller(recipe,
              {"hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"}),
  };
  std::vector<std::string> out;
  for (const bool with_recompute : {false, true})
    for (const std::vector<Remedy>& family : families) {
      if (out.size() == 2) return out;
      const std::string text = first_that_fits(recipe, settings, kernels, family, with_recompute);
      if (!text.empty()) out.push_back((with_recompute ? "--recompute " : "") + text);
    }
  return out;
}

std::string advice_text(const train::Curriculum& curriculum, const MachineSettings& settings,
                        const kernels::Kernels& kernels) {
  const std::vector<std::string> ways = advice(curriculum.first(), settings, kernels);
  if (ways.empty()) return "no smaller setting of this recipe fits either";
  return fmt::format("it would fit with {}", fmt::join(ways, ", or with "));
}

}  // namespace

int64_t Cost::memory_total() const { return memory.total() + kProgramBytes; }

Result<Cost> cost_of(const train::Curriculum& curriculum, const train::EngineOptions& options,
                     const kernels::Kernels& kernels) {
  Cost cost;
  for (const train::Recipe& stage : curriculum.stages) {
    const int64_t vocab_size = stage.tokenizer.vocab_size;
    NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
                 stage.make_model(vocab_size == 256 ? 256 + data::kNumSpecialTokens : vocab_size));
    const model::Cost of_model = model->cost(stage.data.sequence_length);
    cost.parameters = of_model.parameters;
    cost.active_parameters = of_model.active_parameters;
    NAITE_ASSIGN(const train::MemoryPlan plan, train::plan_memory(*model, kernels, stage, options));
    if (plan.total() > cost.memory.total()) cost.memory = plan;
    cost.checkpoints += static_cast<int64_t>(stage.checkpoint_steps().size()) - (stage.stage > 1);
    cost.flops += of_model.training_flops *
                  static_cast<double>(stage.total_steps() * stage.train.batch_tokens);
    cost.update_flops += static_cast<double>(stage.total_steps()) *
                         train::Optimizer::flops(stage.optimizer, model->parameters());
  }
  cost.steps = curriculum.total_steps();
  cost.tokens = curriculum.total_tokens();
  return cost;
}

Status print_cost(const train::Curriculum& curriculum, const MachineSettings& settings,
                  Machine& machine) {
  NAITE_ASSIGN(const Cost cost, cost_of(curriculum, engine_options(settings), *machine.kernels));
  put("parameters         {} ({})\n", cost.parameters, human_count(cost.parameters));
  if (cost.active_parameters != cost.parameters)
    put("active             {} ({}) for each token\n", cost.active_parameters,
        human_count(cost.active_parameters));
  for (const train::Recipe& stage : curriculum.stages)
    put("{:<18} {} in {} steps of {}\n",
        curriculum.stages.size() > 1 ? fmt::format("tokens, stage {}", stage.stage) : "tokens",
        stage.total_steps() * stage.train.batch_tokens, stage.total_steps(),
        stage.train.batch_tokens);
  put("checkpoints        {}\n", cost.checkpoints);
  put("training FLOPs     {:.3g}{}\n", cost.flops,
      cost.update_flops > 0 ? fmt::format(", and {:.2g} in updates", cost.update_flops)
                            : std::string());
  const double peak = machine.kernels->measure_peak_flops(curriculum.first().compute());
  if (peak > 0) {
    const int threads = machine.pool->num_threads();
    const double seconds = (cost.flops + cost.update_flops) / (kShareOfPeak * peak);
    const double watts = settings.watts > 0 ? settings.watts : kWattsPerThread * threads;
    put("time               about {} here, at {:.0f}% of the {:.0f} GFLOP/s measured now\n",
        human_seconds(seconds), 100 * kShareOfPeak, peak / 1e9);
    put("energy             about {:.3g} kWh at {:g} W{}\n", seconds * watts / 3.6e6, watts,
        settings.watts > 0 ? "" : " (10 W a thread assumed; `watts` in machine.toml)");
    if (seconds > 30 * 86400)
      put("elsewhere          about {:.3g} hours of one H100 at {:.0f}% of its peak\n",
          cost.flops / (kH100Flops * kH100Share) / 3600, 100 * kH100Share);
  }
  auto line = [](const char* name, int64_t bytes) {
    put("{:<18} {:>16} bytes  {}\n", name, bytes, human_bytes(bytes));
  };
  put("memory\n");
  line("  parameters", cost.memory.parameters);
  line("  gradients", cost.memory.gradients);
  line("  optimizer", cost.memory.optimizer);
  line("  activations", cost.memory.activations);
  line("  validation", cost.memory.validation);
  line("  checkpointing", cost.memory.checkpoint);
  line("  batches", cost.memory.batches);
  if (cost.memory.samples > 0) line("  samples", cost.memory.samples);
  if (cost.memory.averaging > 0) line("  averaging", cost.memory.averaging);
  line("  backend", cost.memory.backend);
  line("  program", kProgramBytes);
  line("  total", cost.memory_total());
  if (cost.memory_total() > settings.memory_bytes())
    put("does not fit into {} here; {}\n", human_bytes(settings.memory_bytes()),
        advice_text(curriculum, settings, *machine.kernels));
  return {};
}

Status check_memory(const train::Curriculum& curriculum, const MachineSettings& settings,
                    const kernels::Kernels& kernels) {
  NAITE_ASSIGN(const Cost cost, cost_of(curriculum, engine_options(settings), kernels));
  if (cost.memory_total() <= settings.memory_bytes()) return {};
  return fail("the run needs {} of memory and there are {}; {}", human_bytes(cost.memory_total()),
              human_bytes(settings.memory_bytes()), advice_text(curriculum, settings, kernels));
}

}  // namespace naite::cmd
