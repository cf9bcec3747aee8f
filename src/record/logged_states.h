// SPDX-License-Identifier: Apache-2.0
#pragma once
// Nothing else is used: whoever names a run means what its signed log has. A state that lies in the
// run's folders and that the log does not have, an autosave among them, is never taken for the
// run's model, and one that it has is compared with it, file by file, before it is read.
#include <filesystem>
#include <vector>

#include "base/base.h"
#include "record/history.h"
#include "record/run_directory.h"

namespace naite::record {

// What of a state is going to be read, and is therefore compared.
enum class Use {
  kModel,  // all but state/, which only training reads
  kState,  // everything
};

// What a MODEL argument means. A file stands for itself. A run stands for the newest checkpoint of
// its log that lies there (copies may have fewer), and is an error where that one's files are not
// those of the log. Another directory stands for itself; if it has a record.json, its files are
// those that stand in it.
Result<std::filesystem::path> find_model(const std::filesystem::path& path, Use use,
                                         ThreadPool& pool);

// Of a run, all checkpoints of its log that lie there, compared whole; ascending by step.
Result<std::vector<std::filesystem::path>> logged_checkpoints(const std::filesystem::path& run,
                                                              ThreadPool& pool);

// Whether the directory is a run, which may be a copy, and which may have no log.
bool is_run(const std::filesystem::path& directory);

// The run's history by its signed log.
Result<RunHistory> logged_history(const RunDirectory& run);

// That the files of DIRECTORY are those of its record.json, and that those are the logged ones.
Status check_logged(const std::filesystem::path& directory, const StoredState& state, Use use,
                    ThreadPool& pool);

// That these files of a run ("tokenizer.json", "data/manifest.json") are those that its log commits
// to; true. False: there is no log.
Result<bool> check_claims(const std::filesystem::path& run, const std::vector<std::string>& files);

}  // namespace naite::record
