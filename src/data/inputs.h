// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which files a source's `path` means: one file, all files of a folder (and its folders) or those
// that a glob matches, in bytewise order of their paths. Endings count in any case. A name is found
// in any Unicode normal form: macOS writes Korean names decomposed, keyboards write them composed.
#include <atomic>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::data {

enum class TextKind { kPlain, kHtml, kJsonLines, kParquet };

// By the ending of the name; nothing for an ending that is not read in folders. A .json is not
// known by its name: find_inputs() looks inside.
std::optional<TextKind> kind_of(const std::filesystem::path& path);

struct InputFile {
  std::filesystem::path path;
  TextKind kind = TextKind::kPlain;
  int64_t bytes = 0;  // on the disk
};

struct InputFiles {
  std::vector<InputFile> files;
  int64_t skipped = 0;  // in folders and globs: files whose names end in nothing known
  // What is not read, for people: ".csv" -> files. Hidden names and pipes are here too.
  std::map<std::string, int64_t> left_out;

  std::string left_out_line() const;  // "3 .csv, 1 hidden"; empty if there is nothing
};

// A relative path is tried against the working directory, then against `base_directories`; "~/" is
// the home directory. Symbolic links are followed; a link to a folder that is being listed already
// is an error that names it.
Result<InputFiles> find_inputs(const std::string& path,
                               const std::vector<std::filesystem::path>& base_directories,
                               const std::atomic<bool>* stop = nullptr);

// The error of whoever ends early because `stop` is set; success otherwise.
Status check_stop(const std::atomic<bool>* stop);

// That nothing of `inputs` is read, and what was there instead.
Error no_text_file(const std::string& path, const InputFiles& inputs);

// The first of the candidates that exists, a file or a folder.
Result<std::filesystem::path> find_path(const std::string& path,
                                        const std::vector<std::filesystem::path>& base_directories);

}  // namespace naite::data
