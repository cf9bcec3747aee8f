// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a checkpoint comes from, for programs: two files in its directory, each a function of the
// log and of what the log answers for.
//
//   provenance.json   an in-toto statement with SLSA provenance v1: what was made, from what, by
//                     which program. Beside record.json, which it speaks of; model.sig covers both.
//   bom.cdx.json      a CycloneDX 1.6 bill of materials: every source of the text with its licence,
//                     origin and shards, the tokenizer, the program. The same in every checkpoint
//                     of a run, as long as the same program goes on. Licences and origins are what
//                     the trainer declares; nothing checks them.
#include <map>
#include <string>

#include "data/manifest.h"
#include "record/history.h"

namespace naite::record {

inline constexpr const char* kProvenanceFile = "provenance.json";
inline constexpr const char* kBillFile = "bom.cdx.json";

// `claims` as they were when the state after `step` was stored; `parent` is the checkpoint that was
// entered before it, if there is one; `files` are those of its record.json.
std::string provenance_text(const Commitment& claims, const StoredState* parent, int64_t step,
                            const std::map<std::string, std::string>& files);

std::string bill_of_materials(const Commitment& claims, const data::Manifest& manifest);

}  // namespace naite::record
