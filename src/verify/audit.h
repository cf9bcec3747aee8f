// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the parts of one verification share: what it works with, and the report that it fills check
// after check. The parts, in the order in which they rest on each other:
//
//   claims.h     log, signatures, recipe, data: what was committed to, compared without computing
//   states.h     every stored state is what the log, the plan and the recipe say
//   replays.h    what is computed again: initial tensors, and intervals of the training
//   vouchers.h   what other organisations and verifiers say
//   verdict.h    from checks to verdicts
#include <string_view>

#include "record/run_directory.h"
#include "record/stored_checkpoint.h"
#include "verify/run_source.h"
#include "verify/verify.h"

namespace naite::verify {

struct Setting {
  const VerifyRequest& request;
  RunSource& source;
  const record::RunDirectory run;
  kernels::Kernels& kernels;
  ThreadPool& pool;
  record::StoredStates states;  // opened and hashed once, whichever check asks

  bool stopped() const { return request.stop != nullptr && request.stop->load(); }
  void progress(std::string_view phase, int64_t done, int64_t total) const {
    if (request.progress) request.progress({phase, done, total});
  }
};

// What a check says when it does not fail.
struct Finding {
  std::string detail;
  Outcome outcome = Outcome::kHolds;
};

class Checklist {
 public:
  Checklist(Report& report, bool fail_fast) : report_(report), fail_fast_(fail_fast) {}

  // A check that others rest on: false if it fails.
  bool check(std::string_view name, const Result<Finding>& finding);
  // One that others do not rest on: false only if the first failure is to end all.
  bool may_fail(std::string_view name, const Result<Finding>& finding) {
    return check(name, finding) || !fail_fast_;
  }
  bool failed(std::string_view name) const;
  Report& report() { return report_; }

 private:
  Report& report_;
  const bool fail_fast_;
};

}  // namespace naite::verify
