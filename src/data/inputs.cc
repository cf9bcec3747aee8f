// SPDX-License-Identifier: Apache-2.0
#include "data/inputs.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace naite::data {

namespace fs = std::filesystem;

namespace {

constexpr int kFoldersDeepMax = 200;

std::optional<TextKind> kind_of(const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".txt" || extension == ".md") return TextKind::kPlain;
  if (extension == ".html" || extension == ".htm") return TextKind::kHtml;
  if (extension == ".jsonl") return TextKind::kJsonLines;
  return std::nullopt;
}

class Finder {
 public:
  InputFiles found;

  // `named`: the user wrote this very path, so a name with an unknown ending is taken as plain
  // text.
  Status add(const fs::path& path, bool named) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      if (errno == ELOOP) return fail("{} is a symbolic link that leads to itself", path.string());
      return fail("cannot read {}: {}", path.string(), std::strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) return add_folder(path, {info.st_dev, info.st_ino});
    const std::optional<TextKind> kind = kind_of(path);
    if (path.extension() == ".parquet" && named)
      return fail("{}: Parquet is not read; write the text as .jsonl, a line per document",
                  path.string());
    if (!S_ISREG(info.st_mode) || (!kind && !named)) {
      if (named) return fail("cannot read {}: it is not a regular file", path.string());
      ++found.skipped;
      return {};
    }
    found.files.push_back({path, kind.value_or(TextKind::kPlain), info.st_size});
    return {};
  }

 private:
  using Folder = std::pair<dev_t, ino_t>;

  Status add_folder(const fs::path& path, Folder folder) {
    if (std::find(open_.begin(), open_.end(), folder) != open_.end())
      return fail("{} leads back to a folder that contains it: remove this symbolic link",
                  path.string());
    if (open_.size() >= kFoldersDeepMax)
      return fail("{}: folders nested deeper than {}", path.string(), kFoldersDeepMax);
    open_.push_back(folder);
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(path));
    for (const std::string& name : names)
      if (!name.starts_with('.')) NAITE_TRY(add(path / name, false));
    open_.pop_back();
    return {};
  }

  std::vector<Folder> open_;
};

Result<std::vector<fs::path>> expand(const fs::path& pattern) {
  glob_t matches{};
  const int code = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches);
  std::vector<fs::path> paths;
  for (size_t i = 0; i < matches.gl_pathc; ++i) paths.emplace_back(matches.gl_pathv[i]);
  ::globfree(&matches);
  if (code != 0 && code != GLOB_NOMATCH) return fail("cannot list {}", pattern.string());
  std::sort(paths.begin(), paths.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return paths;
}

std::vector<fs::path> candidates_of(const std::string& path,
                                    const std::vector<fs::path>& base_directories) {
  std::vector<fs::path> candidates = {path};
  if (fs::path(path).is_relative())
    for (const fs::path& base : base_directories) candidates.push_back(base / path);
  return candidates;
}

bool is_there(const fs::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

Error nothing_there(const std::vector<fs::path>& candidates) {
  std::vector<std::string> names;
  for (const fs::path& candidate : candidates) names.push_back(candidate.string());
  return fail("nothing is at {}: check the path in the recipe", fmt::join(names, " or "));
}

}  // namespace

Result<fs::path> find_path(const std::string& path, const std::vector<fs::path>& base_directories) {
  const std::vector<fs::path> candidates = candidates_of(path, base_directories);
  for (const fs::path& candidate : candidates)
    if (is_there(candidate)) return candidate;
  return nothing_there(candidates);
}

Result<InputFiles> find_inputs(const std::string& path,
                               const std::vector<fs::path>& base_directories) {
  const std::vector<fs::path> candidates = candidates_of(path, base_directories);
  Finder finder;
  for (const fs::path& candidate : candidates) {
    if (is_there(candidate)) {
      NAITE_TRY(finder.add(candidate, true));
      return std::move(finder.found);
    }
    if (path.find_first_of("*?[") == std::string::npos) continue;
    NAITE_ASSIGN(const std::vector<fs::path> matches, expand(candidate));
    if (matches.empty()) continue;
    for (const fs::path& match : matches) NAITE_TRY(finder.add(match, false));
    return std::move(finder.found);
  }
  return nothing_there(candidates);
}

}  // namespace naite::data
