// SPDX-License-Identifier: Apache-2.0
#include "record/run_directory.h"

#include <algorithm>
#include <array>

namespace naite::record {

namespace fs = std::filesystem;

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
