// SPDX-License-Identifier: Apache-2.0
#pragma once
// The directory of a run, of a published run and of a follower's copy is a closed world: a table in
// run_files.cc says what may lie where and who answers for it. Whatever else lies there is named
// and refused by whoever verifies, since people and programs would take it for the run's. Only what
// processes that were killed leave under a temporary name (.tmp-*) is let be: nothing reads it.
#include "data/manifest.h"
#include "record/history.h"
#include "record/run_directory.h"

namespace naite::record {

// By names alone, before anything is read: every file and folder has a place in the table.
Status check_places(const RunDirectory& run);

// Those places that the log and the manifest fill: no other shards than the manifest names, no
// tiles that the log's tree does not have, branch.json as committed to. The log has been read.
Status check_exact_files(const RunDirectory& run, const data::Manifest& manifest,
                         const RunHistory& history);

}  // namespace naite::record
