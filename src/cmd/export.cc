// SPDX-License-Identifier: Apache-2.0
#include "formats/export.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "record/logged_states.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;

struct ExportArguments {
  std::string model, to, out, quantize = "f16", dtype, shard_size;
};

// "5GB", "300MB", "4096": decimal units, as in transformers.
Result<int64_t> parse_size(const std::string& text) {
  if (text.empty()) return int64_t{0};
  int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, text.data() + text.size());
  const int64_t scale = unit.empty()   ? 1
                        : unit == "KB" ? 1'000
                        : unit == "MB" ? 1'000'000
                        : unit == "GB" ? 1'000'000'000
                                       : 0;
  if (failed != std::errc() || number < 1 || scale == 0 || number > (int64_t{1} << 62) / scale)
    return fail("--shard-size {}: a number with KB, MB or GB is expected, such as 5GB", text);
  return number * scale;
}

Status run_export(const ExportArguments& arguments) {
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const fs::path source,
               record::find_model(arguments.model, record::Use::kModel, pool));
  NAITE_ASSIGN(const formats::ModelFiles files, formats::ModelFiles::open(source));
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               model::make_model(files.config(), files.config_name() + ":", false));
  const bool to_gguf = arguments.to == "gguf";
  fs::path out = arguments.out;
  if (out.empty()) {
    const std::string name = fs::absolute(source).lexically_normal().stem().string();
    out = to_gguf ? fmt::format("{}-{}.gguf", name, arguments.quantize) : name + "-hf";
  }
  if (to_gguf) {
    NAITE_TRY(formats::export_gguf(files, *model, out, arguments.quantize));
  } else {
    formats::HuggingFaceOptions options;
    NAITE_ASSIGN(options.dtype, formats::dtype_of(arguments.dtype, files));
    NAITE_ASSIGN(options.shard_bytes, parse_size(arguments.shard_size));
    NAITE_TRY(formats::export_hugging_face(files, *model, out, options));
  }
  put("{}\n", out.string());
  return {};
}

}  // namespace

void add_export(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* command = app.add_subcommand("export", "Write a model anew for other programs");
  command
      ->add_option("model", arguments->model,
                   "Model directory, .gguf file, or a run: its newest checkpoint")
      ->required();
  command->add_option("--to", arguments->to, "hf: a Hugging Face directory; gguf: for llama.cpp")
      ->required()
      ->check(CLI::IsMember({"hf", "gguf"}));
  command->add_option("--out", arguments->out, "Directory or file to write (default: by the name)");
  command->add_option("--quantize", arguments->quantize, "GGUF: type of the matrices")
      ->capture_default_str()
      ->check(CLI::IsMember(formats::gguf_quantizations()));
  command->add_option("--dtype", arguments->dtype,
                      "Hugging Face: float32, float16 or bfloat16 (default: as it is)");
  command->add_option("--shard-size", arguments->shard_size,
                      "Hugging Face: split weights above this size, such as 5GB");
  command->footer("Example: naite export runs/first-rings --to gguf --quantize q8_0");
  command->callback([arguments, &exit_code] {
    const Status status = run_export(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
