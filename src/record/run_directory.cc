// SPDX-License-Identifier: Apache-2.0
#include "record/run_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

namespace naite::record {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// What only runs have.
constexpr std::array<const char*, 4> kMarks = {".lock", "data/manifest.json", "checkpoints",
                                               "ledger"};

// The number after "step" in a directory's name; -1 if there is none.
int64_t step_of(const std::string& name) {
  const size_t at = name.find("step");
  if (at == std::string::npos) return -1;
  const size_t begin = at + 4;
  size_t end = begin;
  while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
  if (end == begin || end - begin > 18) return -1;
  return std::stoll(name.substr(begin, end - begin));
}

}  // namespace

fs::path RunDirectory::checkpoint(int stage, int64_t step, int64_t tokens) const {
  return checkpoints() / fmt::format("stage{}-step{:010}-tokens{:016}", stage, step, tokens);
}

fs::path RunDirectory::autosave(int64_t step) const {
  return autosaves() / fmt::format("step{:010}", step);
}

fs::path RunDirectory::audit(int64_t step) const {
  return audits() / fmt::format("step{:010}", step);
}

Status RunDirectory::check_place() const {
  std::error_code code;
  const fs::file_status status = fs::status(path_, code);
  if (!fs::exists(status)) return {};
  if (!fs::is_directory(status))
    return fail("{} is no folder: a run needs one of its own; give another --run", path_.string());
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(path_));
  // Begun as a run: the lock comes first, the recipe next. Copies of runs may lack the lock.
  const bool of_a_run = std::any_of(kMarks.begin(), kMarks.end(), [&](const char* mark) {
    return fs::exists(path_ / mark, code);
  });
  if (fs::exists(recipe(), code) && of_a_run) return {};
  for (const std::string& name : names)
    if (name != kMarks[0] && !name.starts_with(".tmp-"))
      return fail(
          "{} is not empty and is no run (it has {}): a run needs a folder of its own; give "
          "another --run",
          path_.string(), name);
  return {};
}

Status RunDirectory::clean() const {
  for (const fs::path& path : {path_, checkpoints(), audits(), autosaves()})
    NAITE_TRY(remove_unfinished(path));
  return {};
}

Status RunDirectory::remove_autosaves_except(int64_t keep) const {
  if (!fs::exists(autosaves())) return {};
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(autosaves()));
  for (const std::string& name : names)
    if (step_of(name) != keep) NAITE_TRY(remove_tree(autosaves() / name));
  return {};
}

Status RunDirectory::rewind_logs(int64_t step) const {
  for (const char* file : {"log.jsonl", "samples.jsonl"}) {
    const fs::path path = path_ / file;
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
  return {};
}

Result<std::deque<double>> RunDirectory::recent_losses(size_t count) const {
  std::deque<double> losses;
  if (!fs::exists(path_ / "log.jsonl")) return losses;
  NAITE_ASSIGN(const std::string text, read_file(path_ / "log.jsonl"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const json value = json::parse(line, nullptr, false);
    if (!value.is_object() || !value.contains("loss") || !value["loss"].is_number()) continue;
    losses.push_back(value["loss"].get<double>());
    if (losses.size() > count) losses.pop_front();
  }
  return losses;
}

Status RunDirectory::append(const char* file, const json& line) const {
  const fs::path path = path_ / file;
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

Result<std::vector<RunDirectory::State>> RunDirectory::states() const {
  std::vector<State> out;
  for (const fs::path& parent : {autosaves(), audits(), checkpoints()}) {
    if (!fs::exists(parent)) continue;
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(parent));
    for (const std::string& name : names)
      if (!name.starts_with('.') && step_of(name) >= 0)
        out.push_back({step_of(name), parent / name});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const State& a, const State& b) { return a.step < b.step; });
  return out;
}

std::string public_name(const fs::path& model) {
  const fs::path path = fs::absolute(model / "").lexically_normal().parent_path();
  fs::path name = path.filename();
  const fs::path folder = path.parent_path();
  const RunDirectory run(folder.parent_path());
  if (folder == run.checkpoints() || folder == run.autosaves() || folder == run.audits())
    name = run.path().filename() / folder.filename() / name;
  return name.generic_string();
}

}  // namespace naite::record
