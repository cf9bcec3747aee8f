// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which files a source's `path` means: one file, all files of a folder (and its folders) or those
// that a glob matches, in bytewise order of their paths.
#include <filesystem>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::data {

enum class TextKind { kPlain, kHtml, kJsonLines };

struct InputFile {
  std::filesystem::path path;
  TextKind kind = TextKind::kPlain;
  int64_t bytes = 0;  // on the disk
};

struct InputFiles {
  std::vector<InputFile> files;
  int64_t skipped = 0;  // in folders: files whose names end in nothing known
};

// A relative path is tried against the working directory, then against `base_directories`. Symbolic
// links are followed; a link to a folder that is being listed already is an error that names it.
Result<InputFiles> find_inputs(const std::string& path,
                               const std::vector<std::filesystem::path>& base_directories);

// The first of the candidates that exists.
Result<std::filesystem::path> find_path(const std::string& path,
                                        const std::vector<std::filesystem::path>& base_directories);

}  // namespace naite::data
