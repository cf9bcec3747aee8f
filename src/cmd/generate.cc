// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cmd/cmd.h"
#include "data/tokenizer.h"
#include "formats/load_model.h"
#include "infer/infer.h"
#include "kernels/counting.h"
#include "record/logged_states.h"

namespace naite::cmd {

namespace {

struct GenerateArguments {
  std::string model, prompt;
  int threads = 0;
  int64_t max_tokens = 200;
  double temperature = 0.8, top_p = 0.95;
  uint64_t seed = 1;
};

// Before any weight is read.
Status check_memory(const formats::OpenedModel& opened, int64_t capacity,
                    kernels::Kernels& kernels) {
  const std::unique_ptr<kernels::CountingKernels> counting = kernels::make_counting(kernels);
  tape::Parameters parameters(*counting, opened.compute, opened.model->parameters());
  const infer::Generator generator(*opened.model, parameters, capacity);
  const int64_t bytes = counting->live_bytes() + kernels.fixed_bytes() + kProgramBytes;
  NAITE_ASSIGN(const MachineSettings settings, MachineSettings::load({}));
  if (bytes <= settings.memory_bytes()) return {};
  return fail(
      "{} takes {} of memory for {} tokens and there are {}; lower --max-tokens, or take a "
      "smaller model",
      opened.files.name(), human_bytes(bytes), capacity, human_bytes(settings.memory_bytes()));
}

Status generate(const GenerateArguments& arguments) {
  NAITE_ASSIGN(Machine machine, make_machine(arguments.threads));
  NAITE_ASSIGN(const std::filesystem::path source,
               record::find_model(arguments.model, record::Use::kModel, *machine.pool));
  NAITE_ASSIGN(const formats::OpenedModel opened, formats::open_model(source));
  NAITE_ASSIGN(const data::Tokenizer tokenizer,
               data::Tokenizer::from_json(opened.tokenizer_json, opened.tokenizer_name));
  std::vector<int32_t> ids = tokenizer.encode(arguments.prompt);
  ids.insert(ids.begin(), opened.begin_tokens.begin(), opened.begin_tokens.end());
  if (ids.empty()) return fail("--prompt is empty and the model has no token to begin with");
  const auto length = static_cast<int64_t>(ids.size());
  const int64_t longest = opened.model->max_position_embeddings();
  if (length >= longest) return fail("--prompt has {} tokens, the model takes {}", length, longest);
  const int64_t capacity = std::min(longest, length + arguments.max_tokens);
  NAITE_TRY(check_memory(opened, capacity, *machine.kernels));
  NAITE_ASSIGN(const std::unique_ptr<tape::Parameters> parameters,
               formats::load_weights(opened, *machine.kernels));
  infer::Generator generator(*opened.model, *parameters, capacity);
  if (!opened.not_done.empty())
    tell("naite: generation_config.json asks for {}, which is not done\n",
         fmt::format("{}", fmt::join(opened.not_done, ", ")));
  std::vector<int32_t> stops = opened.stop_tokens;
  if (const int32_t end = tokenizer.end_of_document(); end >= 0) stops.push_back(end);
  const infer::SamplingOptions options{arguments.max_tokens, arguments.temperature, arguments.top_p,
                                       arguments.seed, std::move(stops)};
  data::StreamDecoder decoder(tokenizer, true);
  put_text(arguments.prompt);
  const Result<int64_t> count = generator.generate(ids, options, [&](int32_t token) {
    put_text(decoder.add(token));
    flush_output();
    return true;
  });
  put_text(decoder.finish());
  put("\n");
  return count.ok() ? Status() : Status(count.error());
}

}  // namespace

void add_generate(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a model");
  command
      ->add_option("model", arguments->model,
                   "Model directory, .gguf file, or a run: its newest checkpoint")
      ->required();
  command->add_option("--prompt", arguments->prompt, "Text to continue")->required();
  command->add_option("--max-tokens", arguments->max_tokens, "At most so many new tokens")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("--temperature", arguments->temperature, "0: always the most likely token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--top-p", arguments->top_p, "Sample from the likeliest tokens of this total")
      ->capture_default_str()
      ->check(CLI::Range(1e-6, 1.0));
  command->add_option("--seed", arguments->seed, "Another seed, another text")
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  command->footer("Example: naite generate runs/tinyshakespeare --prompt 'ROMEO:' --seed 7");
  command->callback([arguments, &exit_code] {
    const Status status = generate(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
