// SPDX-License-Identifier: Apache-2.0
// naite_logits MODEL: reads lines of token ids from standard input and writes, for every line, the
// fp32 logits of all its positions to standard output, one row of the vocabulary after another.
#include <cstdio>
#include <iostream>
#include <sstream>

#include "formats/model_files.h"
#include "model/model.h"
#include "tape/tape.h"

namespace naite {
namespace {

using kernels::DType;

Status load(const formats::ModelFiles& files, tape::Parameters& parameters) {
  for (int i = 0; i < parameters.size(); ++i) {
    const tape::ParameterSpec& spec = parameters.specs()[i];
    std::vector<float> values(static_cast<size_t>(spec.size()));
    NAITE_TRY(files.read(spec, values));
    const kernels::View view = parameters.master(i);
    parameters.kernels().upload(view.data, values.data(), view.bytes());
  }
  return {};
}

// One uncached pass over a document that fills the tape.
Status run(const model::Model& model, const formats::ModelFiles& files, kernels::Kernels& kernels,
           const std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  tape::Tape tape(kernels, DType::kF32, false);
  const model::Inputs in{tape.data("ids", DType::kI32, count, 1),
                         tape.data("positions", DType::kI32, count, 1),
                         tape.data("spans", DType::kI32, count, 2), count};
  const model::Outputs out = model.forward(tape, in);
  const tape::Tensor logits = tape::logits(out.hidden, out.head);
  tape.keep(logits);
  tape::Parameters parameters(kernels, DType::kF32, tape.parameters());
  tape::Program program(tape, parameters);
  NAITE_TRY(load(files, parameters));
  parameters.prepare_all();
  std::vector<int32_t> positions, spans;
  for (int32_t t = 0; t < count; ++t) {
    positions.push_back(t);
    spans.insert(spans.end(), {0, t + 1});
  }
  program.write(in.ids, ids.data(), 4 * count);
  program.write(in.positions, positions.data(), 4 * count);
  program.write(in.spans, spans.data(), 8 * count);
  program.forward();
  std::vector<float> values(static_cast<size_t>(count * model.vocab_size()));
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
  program.read(logits, values.data(), bytes);
  std::fwrite(values.data(), 1, static_cast<size_t>(bytes), stdout);
  return {};
}

}  // namespace

Status interop_run_all(const char* path) {
  NAITE_ASSIGN(const formats::ModelFiles files, formats::ModelFiles::open(path));
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               model::make_model(files.config(), files.config_name(), false));
  NAITE_TRY(files.check(model::parameters_of(*model)));
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const std::unique_ptr<kernels::Kernels> kernels, kernels::make_cpu(pool, ""));
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::vector<int32_t> ids;
    for (int32_t id = 0; words >> id;) ids.push_back(id);
    NAITE_TRY(run(*model, files, *kernels, ids));
  }
  return {};
}

}  // namespace naite

int main(int argc, char** argv) {
  naite::set_float_mode();
  const naite::Status status =
      argc == 2 ? naite::interop_run_all(argv[1]) : naite::fail("usage: naite_logits MODEL < ids");
  if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
  return status ? 0 : 1;
}
