// SPDX-License-Identifier: Apache-2.0
#pragma once
// The beginning of a source file against what its name promises, so that nothing is trained on that
// is not text: pointers, pages of servers, archives, UTF-16.
#include <string_view>

#include "base/base.h"
#include "data/documents.h"
#include "data/inputs.h"

namespace naite::data {

// `head`: the first bytes, unpacked, kForeignBytes if the file has so many; `ended`: it is all.
// An error says what the file is. What is taken and still looks odd is noted in `counts`.
Status check_head(const InputFile& file, std::string_view head, bool ended, ReadCounts& counts);

}  // namespace naite::data
