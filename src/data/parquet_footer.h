// SPDX-License-Identifier: Apache-2.0
#pragma once
// A look over the footer of a Parquet file before Arrow unpacks it. The footer is a tree of structs
// and lists in Thrift's compact protocol, where three bytes may stand for a column of a row group,
// of which Arrow makes 700 bytes: a file of 50 MB can ask for 12 GB.
#include <string_view>

#include "base/base.h"

namespace naite::data {

// Fails if the footer does not hold together, or would take more than kParquetFooterMemory.
Status check_parquet_footer(std::string_view footer);

inline constexpr int64_t kParquetFooterMemory = int64_t{3} << 29;  // 1.5 GiB

}  // namespace naite::data
