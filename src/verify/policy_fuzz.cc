// SPDX-License-Identifier: Apache-2.0
// Any policy: refused with one short line, or keys of the right kind and a quorum they can reach.
#include <cstdint>
#include <cstdlib>

#include "base/fuzz.h"
#include "verify/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using naite::verify::Policy;
  const auto policy = Policy::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!policy) {
    naite::expect_short_line(policy.error());
    return 0;
  }
  const auto witnesses = static_cast<int64_t>(policy->witnesses.size());
  if (policy->publishers.empty() || policy->quorum < 0 || policy->quorum > witnesses) std::abort();
  return 0;
}
