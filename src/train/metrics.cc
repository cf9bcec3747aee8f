// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

namespace naite::train {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char *kCurves = "log.jsonl", *kSamples = "samples.jsonl";

}  // namespace

Result<Metrics> Metrics::open(fs::path run) {
  NAITE_ASSIGN(formats::EventWriter events, formats::EventWriter::open(run));
  return Metrics(std::move(run), std::move(events));
}

Status Metrics::rewind(int64_t step) {
  for (const char* file : {kCurves, kSamples}) {
    const fs::path path = run_ / file;
    if (!fs::exists(path)) continue;
    NAITE_ASSIGN(const std::string text, read_file(path));
    std::string kept;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      if (end == std::string::npos) break;  // torn by a kill
      const json line = json::parse(text.begin() + static_cast<int64_t>(begin),
                                    text.begin() + static_cast<int64_t>(end), nullptr, false);
      const bool keeps = line.is_object() && line.contains("step") &&
                         line["step"].is_number_integer() && line["step"].get<int64_t>() <= step;
      if (keeps) kept.append(text, begin, end - begin + 1);
      begin = end + 1;
    }
    if (kept != text) NAITE_TRY(write_file(path, kept));
  }
  return events_.rewind(step);
}

Result<std::deque<double>> Metrics::recent_losses(size_t count) const {
  std::deque<double> losses;
  if (!fs::exists(run_ / kCurves)) return losses;
  NAITE_ASSIGN(const std::string text, read_file(run_ / kCurves));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const json value = json::parse(line, nullptr, false);
    if (!value.is_object() || !value.contains("loss") || !value["loss"].is_number()) continue;
    losses.push_back(value["loss"].get<double>());
    if (losses.size() > count) losses.pop_front();
  }
  return losses;
}

Status Metrics::append(const char* file, const json& line) const {
  const fs::path path = run_ / file;
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
  const std::string text = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const ssize_t written = ::write(descriptor, text.data(), text.size());
  const int error = errno;
  ::close(descriptor);
  if (written != static_cast<ssize_t>(text.size()))
    return fail("cannot write {}: {}", path.string(),
                written < 0 ? std::strerror(error) : "the disk is full");
  return {};
}

Status Metrics::step(const StepReport& report) {
  NAITE_TRY(append(kCurves, {{"step", report.step},
                             {"tokens", report.tokens},
                             {"loss", report.loss},
                             {"learning_rate", report.learning_rate},
                             {"grad_norm", report.grad_norm},
                             {"tokens_per_second", report.tokens_per_second},
                             {"mfu", report.mfu}}));
  NAITE_TRY(events_.scalar(report.step, "train/loss", report.loss));
  NAITE_TRY(events_.scalar(report.step, "train/learning_rate", report.learning_rate));
  NAITE_TRY(events_.scalar(report.step, "train/grad_norm", report.grad_norm));
  return events_.scalar(report.step, "train/tokens_per_second", report.tokens_per_second);
}

Status Metrics::validation(const ValidationReport& report) {
  json line = {{"step", report.step}, {"tokens", report.tokens}};
  double loss = 0, bits = 0;
  for (const auto& [source, measured] : report.sources) {
    loss += measured.loss / static_cast<double>(report.sources.size());
    bits += measured.bits_per_byte / static_cast<double>(report.sources.size());
    NAITE_TRY(
        events_.scalar(report.step, "validation/bits_per_byte/" + source, measured.bits_per_byte));
  }
  if (!report.sources.empty()) {
    line["val_loss"] = loss;
    line["val_bpb"] = bits;
    line["validation"] =
        formats::to_json(formats::Validation(report.sources.begin(), report.sources.end()));
    NAITE_TRY(append(kCurves, line));
  }
  for (size_t i = 0; i < report.samples.size(); ++i) {
    const auto& [prompt, text] = report.samples[i];
    NAITE_TRY(append(kSamples, {{"step", report.step}, {"prompt", prompt}, {"text", text}}));
    NAITE_TRY(events_.text(report.step, fmt::format("samples/{}", i), text));
  }
  return events_.flush();
}

}  // namespace naite::train
