// SPDX-License-Identifier: Apache-2.0
#include "data/inputs.h"

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "data/input_stream.h"
#include "data/json_lines.h"
#include "data/nfc.h"

namespace naite::data {

namespace fs = std::filesystem;

namespace {

constexpr int kFoldersDeepMax = 200;
constexpr size_t kJsonHeadBytes = size_t{1} << 18;

// What else a name can lead to, or nullptr for a file.
const char* name_of_special(mode_t mode) {
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return nullptr;
}

Error cannot_read(const fs::path& path, int reason) {
  std::error_code code;
  if (reason == ELOOP) return fail("{} is a symbolic link that leads to itself", path.string());
  if (reason == ENOENT && fs::is_symlink(path, code))
    return fail("{} is a symbolic link to {}, which is not there", path.string(),
                fs::read_symlink(path, code).string());
  if (reason == EACCES)
    return fail("cannot read {}: {}: ask its owner for the right to (chmod a+rX)", path.string(),
                std::strerror(reason));
  return fail("cannot read {}: {}", path.string(), std::strerror(reason));
}

Result<JsonShape> shape_inside(const fs::path& path) {
  NAITE_ASSIGN(InputStream stream, InputStream::open(path));
  std::string head;
  std::vector<char> chunk(kJsonHeadBytes);
  bool ended = false;
  while (!ended && head.size() < kJsonHeadBytes) {
    NAITE_ASSIGN(const size_t size, stream.read(chunk));
    head.append(chunk.data(), size);
    ended = size == 0;
  }
  if (what_is(head)) return JsonShape::kLines;  // the reader says what it is
  return json_shape(head, ended);
}

Error not_lines(const fs::path& path, JsonShape shape) {
  const char* const unpack = packing_of(path) == Packing::kGzip   ? "gzip -dc FILE | "
                             : packing_of(path) == Packing::kZstd ? "zstd -dc FILE | "
                                                                  : "";
  const char* const file = unpack[0] == '\0' ? " FILE" : "";
  if (shape == JsonShape::kArray)
    return fail(
        "{} is one JSON array, and JSON lines are read: `{}jq -c '.[]'{} > NEW.jsonl` "
        "makes them",
        path.string(), unpack, file);
  if (shape == JsonShape::kObject)
    return fail(
        "{} is JSON with an object over several lines, and JSON lines are read: `{}jq -c "
        ".{} > NEW.jsonl` makes them",
        path.string(), unpack, file);
  return fail("{} is not JSON lines: its first line is no object; name it .txt if it is text",
              path.string());
}

class Finder {
 public:
  explicit Finder(const std::atomic<bool>* stop) : stop_(stop) {}

  InputFiles found;

  // `named`: the user wrote this very path, so a name with an unknown ending is taken as plain
  // text.
  Status add(const fs::path& path, bool named) {
    NAITE_TRY(check_stop(stop_));
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return cannot_read(path, errno);
    if (S_ISDIR(info.st_mode)) return add_folder(path, {info.st_dev, info.st_ino});
    if (!S_ISREG(info.st_mode)) {
      const char* const special = name_of_special(info.st_mode);
      if (named)
        return fail("cannot read {}: it is {}; text is read more than once, so write it to a file",
                    path.string(), special == nullptr ? "no regular file" : special);
      leave_out(special == nullptr ? "other" : special + 2);  // without "a "
      return {};
    }
    std::optional<TextKind> kind = kind_of(path);
    if (!kind && ending_of(path) == ".json") {
      NAITE_ASSIGN(const JsonShape shape, shape_inside(path));
      if (shape == JsonShape::kLines) kind = TextKind::kJsonLines;
      if (!kind && named) return not_lines(path, shape);
    }
    if (!kind && !named) {
      const std::string ending = ending_of(path);
      leave_out(ending.empty() ? "without an ending"
                               : ending + (ending == ".json" ? " (not JSON lines)" : ""));
      return {};
    }
    found.files.push_back({path, kind.value_or(TextKind::kPlain), info.st_size});
    return {};
  }

 private:
  using Folder = std::pair<dev_t, ino_t>;

  void leave_out(const std::string& what) {
    ++found.skipped;
    ++found.left_out[what];
  }

  Status add_folder(const fs::path& path, Folder folder) {
    if (std::find(open_.begin(), open_.end(), folder) != open_.end())
      return fail("{} leads back to a folder that contains it: remove this symbolic link",
                  path.string());
    if (open_.size() >= kFoldersDeepMax)
      return fail("{}: folders nested deeper than {}", path.string(), kFoldersDeepMax);
    open_.push_back(folder);
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(path));
    for (const std::string& name : names) {
      if (name.starts_with('.'))
        ++found.left_out["hidden"];
      else
        NAITE_TRY(add(path / name, false));
    }
    open_.pop_back();
    return {};
  }

  const std::atomic<bool>* stop_;
  std::vector<Folder> open_;
};

bool is_there(const fs::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

// How far a path leads, trying other normal forms of names that are not there.
struct Walk {
  fs::path there;                   // as it is spelled on the disk
  std::string missing;              // the first name that is not there; empty: all are
  std::vector<std::string> beside;  // what is there instead
};

Walk walk(const fs::path& path) {
  Walk result;
  for (const fs::path& part : path) {
    if (part.empty()) continue;  // behind a slash at the end
    const fs::path next = result.there / part;
    if (is_there(next)) {
      result.there = next;
      continue;
    }
    const std::string form = to_nfc(part.string());
    const Result<std::vector<std::string>> names =
        list_directory(result.there.empty() ? fs::path(".") : result.there);
    if (names.ok()) result.beside = *names;
    const auto same = std::find_if(result.beside.begin(), result.beside.end(),
                                   [&](const std::string& name) { return to_nfc(name) == form; });
    if (same == result.beside.end()) {
      result.missing = part.string();
      return result;
    }
    result.there /= *same;
  }
  return result;
}

// The path as it is on the disk, if something is there.
std::optional<fs::path> find_in_any_form(const fs::path& path) {
  if (is_there(path)) return path;
  const Walk found = walk(path);
  if (!found.missing.empty() || found.there.empty()) return std::nullopt;
  return found.there;
}

thread_local std::string unlisted;  // glob() gives its callback no other way to tell

int on_glob_error(const char* path, int reason) {
  if (reason != EACCES && reason != EIO) return 0;
  unlisted = fmt::format("cannot list {}: {}", path, std::strerror(reason));
  return 1;
}

Result<std::vector<fs::path>> expand(const fs::path& pattern) {
  glob_t matches{};
  const int code = ::glob(pattern.c_str(), GLOB_NOSORT, on_glob_error, &matches);
  std::vector<fs::path> paths;
  for (size_t i = 0; i < matches.gl_pathc; ++i) paths.emplace_back(matches.gl_pathv[i]);
  ::globfree(&matches);
  if (code != 0 && code != GLOB_NOMATCH)
    return fail("{}",
                code == GLOB_ABORTED ? unlisted : fmt::format("cannot list {}", pattern.string()));
  return paths;
}

// All matches of the pattern in either normal form. What stands before the first wildcard is found
// like any other path.
Result<std::vector<fs::path>> expand_in_any_form(const std::string& pattern) {
  const size_t slash = pattern.rfind('/', pattern.find_first_of("*?["));
  fs::path folder;
  std::string rest = pattern;
  if (slash != std::string::npos) {
    const fs::path written = pattern.substr(0, std::max<size_t>(slash, 1));
    folder = find_in_any_form(written).value_or(written);
    rest = pattern.substr(slash + 1);
  }
  std::vector<fs::path> paths;
  for (const std::string& form : {rest, to_nfc(rest), to_nfd(rest)}) {
    NAITE_ASSIGN(const std::vector<fs::path> matches, expand(folder / form));
    paths.insert(paths.end(), matches.begin(), matches.end());
  }
  std::sort(paths.begin(), paths.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

std::vector<fs::path> candidates_of(const std::string& written,
                                    const std::vector<fs::path>& base_directories) {
  const char* const home = std::getenv("HOME");
  const bool at_home = written == "~" || written.starts_with("~/");
  const fs::path path =
      at_home && home != nullptr ? fs::path(home + written.substr(1)) : fs::path(written);
  std::vector<fs::path> candidates = {path};
  if (path.is_absolute()) return candidates;
  const auto plainly = [](const fs::path& one) {
    std::error_code code;
    return fs::absolute(one, code).lexically_normal();
  };
  for (const fs::path& base : base_directories) {
    const auto is_same = [&](const fs::path& one) { return plainly(one) == plainly(base / path); };
    if (std::none_of(candidates.begin(), candidates.end(), is_same))
      candidates.push_back(base / path);
  }
  return candidates;
}

Error nothing_there(const std::vector<fs::path>& candidates) {
  std::vector<std::string> names;
  std::string hint;
  for (const fs::path& candidate : candidates) {
    names.push_back(candidate.string());
    if (!hint.empty()) continue;
    const Walk found = walk(candidate);
    std::error_code code;
    const bool pattern = found.missing.find_first_of("*?[") != std::string::npos;
    const std::string near = pattern ? std::string() : nearest_name(found.missing, found.beside);
    if (!found.there.empty() && fs::is_regular_file(found.there, code))
      hint = fmt::format("; {} is a file, not a folder", found.there.string());
    else if (!near.empty())
      hint = fmt::format("; did you mean {}?", (found.there / near).string());
    else if (!found.there.empty() && found.there != candidate.parent_path())
      hint = fmt::format("; {} holds no `{}`", found.there.string(), found.missing);
    else if (pattern)
      hint = "; no name fits the pattern";
  }
  if (candidates[0].native().starts_with('~'))
    hint = "; other people's `~` is not expanded here: write the whole path";
  return fail("nothing is at {}: check the path in the recipe{}", fmt::join(names, " or "), hint);
}

}  // namespace

std::optional<TextKind> kind_of(const fs::path& path) {
  struct Ending {
    std::string_view name;
    TextKind kind;
  };
  constexpr std::array<Ending, 8> kEndings = {{{".txt", TextKind::kPlain},
                                               {".md", TextKind::kPlain},
                                               {".html", TextKind::kHtml},
                                               {".htm", TextKind::kHtml},
                                               {".jsonl", TextKind::kJsonLines},
                                               {".ndjson", TextKind::kJsonLines},
                                               {".jsonlines", TextKind::kJsonLines},
                                               {".parquet", TextKind::kParquet}}};
  const std::string ending = ending_of(path);
  for (const Ending& known : kEndings)
    if (ending == known.name) return known.kind;
  return std::nullopt;
}

Status check_stop(const std::atomic<bool>* stop) {
  if (stop == nullptr || !stop->load()) return {};
  return fail("interrupted while the text was prepared; the same command does it again");
}

std::string InputFiles::left_out_line() const {
  constexpr size_t kShownMax = 8;
  std::vector<std::string> parts;
  int64_t others = 0;
  for (const auto& [what, count] : left_out) {
    if (parts.size() < kShownMax)
      parts.push_back(fmt::format("{} {}", count, what));
    else
      others += count;
  }
  if (others > 0) parts.push_back(fmt::format("{} others", others));
  return fmt::format("{}", fmt::join(parts, ", "));
}

Error no_text_file(const std::string& path, const InputFiles& inputs) {
  const std::string there = inputs.left_out_line();
  return fail(
      "{} holds no text file (.txt .md .html .jsonl .ndjson .json, also .gz and .zst; .parquet): "
      "{}",
      path,
      there.empty() ? "it is empty"
                    : "there is " + there +
                          "; a file of another ending is read as plain "
                          "text if `path` names it alone");
}

Result<fs::path> find_path(const std::string& path, const std::vector<fs::path>& base_directories) {
  const std::vector<fs::path> candidates = candidates_of(path, base_directories);
  for (const fs::path& candidate : candidates) {
    const std::optional<fs::path> found = find_in_any_form(candidate);
    if (!found) continue;
    struct stat info {};
    if (::stat(found->c_str(), &info) != 0) return cannot_read(*found, errno);
    if (const char* const special = name_of_special(info.st_mode))
      return fail("cannot read {}: it is {}, not a file", found->string(), special);
    return *found;
  }
  return nothing_there(candidates);
}

Result<InputFiles> find_inputs(const std::string& path,
                               const std::vector<fs::path>& base_directories,
                               const std::atomic<bool>* stop) {
  const std::vector<fs::path> candidates = candidates_of(path, base_directories);
  Finder finder(stop);
  for (const fs::path& candidate : candidates) {
    if (const std::optional<fs::path> found = find_in_any_form(candidate)) {
      NAITE_TRY(finder.add(*found, true));
      return std::move(finder.found);
    }
    if (path.find_first_of("*?[") == std::string::npos) continue;
    NAITE_ASSIGN(const std::vector<fs::path> matches, expand_in_any_form(candidate.string()));
    if (matches.empty()) continue;
    for (const fs::path& match : matches) NAITE_TRY(finder.add(match, false));
    return std::move(finder.found);
  }
  return nothing_there(candidates);
}

}  // namespace naite::data
