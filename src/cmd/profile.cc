// SPDX-License-Identifier: Apache-2.0
#include "cmd/profile.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cmd/output.h"

namespace naite::cmd {

namespace {
constexpr size_t kTraceCalls = 200'000;  // enough for a hundred steps; a trace of 30 MB
}

Profile::Profile(kernels::Kernels& inner)
    : observed_(inner, [this](const kernels::OperationCall& call) {
        Total& total = totals_[call.name];
        ++total.calls;
        total.seconds += call.end_seconds - call.begin_seconds;
        total.flops += call.flops;
        if (calls_.size() < kTraceCalls) calls_.push_back(call);
      }) {}

std::string Profile::table(double peak_flops) const {
  std::vector<std::pair<std::string_view, Total>> rows(totals_.begin(), totals_.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double all = 0;
  for (const auto& [name, total] : rows) all += total.seconds;
  std::string text = fmt::format("{:<30} {:>9} {:>10} {:>7} {:>9} {:>8}\n", "operation", "calls",
                                 "seconds", "share", "GFLOP/s", "of peak");
  for (const auto& [name, total] : rows) {
    text += fmt::format("{:<30} {:>9} {:>10.3f} {:>6.1f}%", name, total.calls, total.seconds,
                        100 * total.seconds / all);
    if (total.flops > 0) text += fmt::format(" {:>9.1f}", total.flops / total.seconds / 1e9);
    if (total.flops > 0 && peak_flops > 0)
      text += fmt::format(" {:>7.1f}%", 100 * total.flops / total.seconds / peak_flops);
    text += "\n";
  }
  return text;
}

Status Profile::write_trace(const std::filesystem::path& path) const {
  NAITE_ASSIGN(FileWriter file, FileWriter::create(path));
  NAITE_TRY(file.write("[\n"));
  for (size_t i = 0; i < calls_.size(); ++i) {
    const kernels::OperationCall& call = calls_[i];
    const nlohmann::json event = {{"name", call.name},
                                  {"ph", "X"},
                                  {"pid", 1},
                                  {"tid", 1},
                                  {"ts", (call.begin_seconds - calls_.front().begin_seconds) * 1e6},
                                  {"dur", (call.end_seconds - call.begin_seconds) * 1e6},
                                  {"args", {{"gflop", call.flops / 1e9}}}};
    NAITE_TRY(file.write(json_text(event) + (i + 1 < calls_.size() ? ",\n" : "\n")));
  }
  NAITE_TRY(file.write("]\n"));
  return file.commit();
}

}  // namespace naite::cmd
