// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this program was built from: reports and logs name it, so that others can build the same.
#include <string>
#include <string_view>

namespace naite {

inline constexpr std::string_view kVersion = "0.1.0";

// The git commit, with "-dirty" if files differed from it; "unknown" outside a repository.
std::string_view source_commit();
std::string_view compiler_name();  // "g++ 12.2.0"

}  // namespace naite
