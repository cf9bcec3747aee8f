// SPDX-License-Identifier: Apache-2.0
// naite_logits MODEL: reads lines of token ids from standard input and writes, for every line, the
// fp32 logits of all its positions to standard output, one row of the vocabulary after another.
// naite_logits --gradients MODEL IDS OUT.safetensors: the gradient, in fp32, of the mean next-token
// cross entropy over the first line of the file IDS, under the names of the model's tensors.
#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>

#include "formats/model_files.h"
#include "formats/safetensors.h"
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
    NAITE_TRY(parameters.kernels().upload(view.data, values.data(), view.bytes()));
  }
  return {};
}

// One document that fills a tape.
Status write_inputs(tape::Program& program, const model::Inputs& in,
                    const std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<int32_t> positions, spans;
  for (int32_t t = 0; t < count; ++t) {
    positions.push_back(t);
    spans.insert(spans.end(), {0, t + 1});
  }
  NAITE_TRY(program.write(in.ids, ids.data(), 4 * count));
  NAITE_TRY(program.write(in.positions, positions.data(), 4 * count));
  return program.write(in.spans, spans.data(), 8 * count);
}

Status write_logits(const model::Model& model, const formats::ModelFiles& files,
                    kernels::Kernels& kernels, const std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  tape::Tape tape(kernels, DType::kF32, false);
  const model::Inputs in = model::Inputs::declare(tape, count, count);
  const model::Outputs out = model.forward(tape, in);
  const tape::Tensor logits = tape::logits(out.hidden, out.head);
  tape.keep(logits);
  tape::Parameters parameters(kernels, DType::kF32, tape.parameters());
  tape::Program program(tape, parameters);
  NAITE_TRY(load(files, parameters));
  NAITE_TRY(parameters.prepare_all());
  NAITE_TRY(write_inputs(program, in, ids));
  NAITE_TRY(program.forward());
  std::vector<float> values(static_cast<size_t>(count * model.vocab_size()));
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
  NAITE_TRY(program.read(logits, values.data(), bytes));
  std::fwrite(values.data(), 1, static_cast<size_t>(bytes), stdout);
  return {};
}

Status write_gradients(const model::Model& model, const formats::ModelFiles& files,
                       kernels::Kernels& kernels, const std::vector<int32_t>& ids,
                       const char* path) {
  const auto count = static_cast<int64_t>(ids.size());
  if (count < 2) return fail("gradients need two ids at least");
  tape::Tape tape(kernels, DType::kF32, true);
  const model::Inputs in = model::Inputs::declare(tape, count, count);
  const tape::Tensor targets = tape.data("targets", DType::kI32, count, 1);
  const tape::Tensor scale = tape.data("scale", DType::kF32, count, 1);
  const model::Outputs out = model.forward(tape, in);
  tape.keep(tape::linear_cross_entropy(out.hidden, out.head, targets, scale));
  tape::Parameters parameters(kernels, DType::kF32, tape.parameters());
  tape::Program program(tape, parameters);
  NAITE_TRY(load(files, parameters));
  NAITE_TRY(parameters.prepare_all());
  NAITE_TRY(write_inputs(program, in, ids));
  std::vector<int32_t> next(ids.begin() + 1, ids.end());
  next.push_back(-1);
  const std::vector<float> shares(ids.size(), 1.0f / static_cast<float>(count - 1));
  NAITE_TRY(program.write(targets, next.data(), 4 * count));
  NAITE_TRY(program.write(scale, shares.data(), 4 * count));
  const tape::Block slab(kernels, parameters.layout().bytes());
  NAITE_TRY(program.forward());
  NAITE_TRY(program.backward(slab, false));
  std::vector<formats::TensorSpec> specs;
  std::map<std::string, kernels::View> views;
  for (int p = 0; p < parameters.size(); ++p) {
    const tape::ParameterSpec& spec = parameters.specs()[p];
    const bool is_vector = spec.role == tape::Role::kVector;
    specs.push_back({spec.name, formats::StoredType::kF32,
                     is_vector ? formats::Shape{spec.cols} : formats::Shape{spec.rows, spec.cols}});
    views[spec.name] = parameters.layout().view(slab, p);
  }
  return formats::write_safetensors(
      path, std::move(specs), {},
      [&](const formats::TensorSpec& spec, const formats::ByteSink& sink) -> Status {
        const kernels::View& view = views.at(spec.name);
        std::string bytes(static_cast<size_t>(view.bytes()), '\0');
        NAITE_TRY(kernels.download(bytes.data(), view.data, view.bytes()));
        return sink(bytes.data(), bytes.size());
      });
}

Result<std::vector<int32_t>> ids_of(const std::string& line, const model::Model& model) {
  std::istringstream words(line);
  std::vector<int32_t> ids;
  for (int32_t id = 0; words >> id;) {
    if (id < 0 || id >= model.vocab_size())
      return fail("the token id {} is none of the model's {}", id, model.vocab_size());
    ids.push_back(id);
  }
  return ids;
}

}  // namespace

// Without files for gradients, logits for standard input.
Status interop_run(const char* path, const char* ids_path, const char* out_path) {
  NAITE_ASSIGN(const formats::ModelFiles files, formats::ModelFiles::open(path));
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               model::make_model(files.config(), files.config_name(), false));
  NAITE_TRY(files.check(model->tensors()));
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const std::unique_ptr<kernels::Kernels> kernels, kernels::make_cpu(pool, ""));
  if (ids_path != nullptr) {
    NAITE_ASSIGN(const std::string text, read_file(ids_path));
    NAITE_ASSIGN(const std::vector<int32_t> ids, ids_of(text.substr(0, text.find('\n')), *model));
    return write_gradients(*model, files, *kernels, ids, out_path);
  }
  for (std::string line; std::getline(std::cin, line);) {
    NAITE_ASSIGN(const std::vector<int32_t> ids, ids_of(line, *model));
    NAITE_TRY(write_logits(*model, files, *kernels, ids));
  }
  return {};
}

}  // namespace naite

int main(int argc, char** argv) {
  naite::set_float_mode();
  const bool gradients = argc == 5 && std::string_view(argv[1]) == "--gradients";
  naite::Status status = naite::fail(
      "usage: naite_logits MODEL < ids, or naite_logits --gradients MODEL IDS OUT.safetensors");
  if (gradients) status = naite::interop_run(argv[2], argv[3], argv[4]);
  if (argc == 2) status = naite::interop_run(argv[1], nullptr, nullptr);
  if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
  return status ? 0 : 1;
}
