// SPDX-License-Identifier: Apache-2.0
#pragma once
// What came of a source, in one line for people: read, left out, and why. Nothing that was in the
// files is lost without a word.
#include <string>

#include "data/documents.h"
#include "data/inputs.h"
#include "data/manifest.h"

namespace naite::data {

// A source that lost more than this share of its lines or pages is warned of.
inline constexpr double kLossWarned = 0.01;

// "source ko: read 3 files ...", or "WARNING: source ko LOST ..." above kLossWarned.
std::string reading_report(const ManifestSource& source, const ReadCounts& counts,
                           const InputFiles& inputs);

// "40 of 100 lines (40 without the key `text`)"; empty if none was lost.
std::string losses(const ReadCounts& counts);

}  // namespace naite::data
