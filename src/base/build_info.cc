// SPDX-License-Identifier: Apache-2.0
#include "base/build_info.h"

#include "source_commit.inc"

namespace naite {

std::string_view source_commit() { return NAITE_SOURCE_COMMIT; }

std::string_view compiler_name() {
#ifdef __clang__
  return "clang++ " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace naite
