// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "formats/checkpoint.h"
#include "formats/export.h"
#include "record/logged_states.h"
#include "train/grow.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;

struct ImportArguments {
  std::string model, out, dtype;
  bool as_json = false;
};

Status run_import(const ImportArguments& arguments) {
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const fs::path source,
               record::find_model(arguments.model, record::Use::kModel, pool));
  NAITE_ASSIGN(const formats::ModelFiles files, formats::ModelFiles::open(source));
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               model::make_model(files.config(), files.config_name() + ":", false));
  fs::path out = arguments.out;
  if (out.empty()) out = fs::absolute(source).lexically_normal().stem().string() + "-imported";
  formats::HuggingFaceOptions options;
  NAITE_ASSIGN(options.dtype, formats::dtype_of(arguments.dtype, files));
  NAITE_ASSIGN(options.origin, train::origin_of(source, pool));
  NAITE_TRY(formats::export_hugging_face(files, *model, out, options));
  NAITE_ASSIGN(const std::string weights, formats::weights_digest(out, pool));
  if (arguments.as_json) {
    put_json(
        {{"directory", out.string()}, {"weights", weights}, {"origin", options.origin->to_json()}});
    return {};
  }
  put("{}\nweights {}\n", out.string(), weights);
  return {};
}

}  // namespace

void add_import(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app.add_subcommand(
      "import", "Take over another program's model; record.json keeps where it comes from");
  command->add_option("model", arguments->model, "Hugging Face directory or .gguf file")
      ->required();
  command->add_option("--out", arguments->out, "Directory to write (default: NAME-imported)");
  command->add_option("--dtype", arguments->dtype,
                      "float32, float16 or bfloat16 (default: as it is)");
  command->add_flag("--json", arguments->as_json, "Print one JSON object");
  command->footer("Example: naite import qwen3-0.6b-q8_0.gguf --out models/qwen3");
  command->callback([arguments, &exit_code] {
    const Status status = run_import(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
