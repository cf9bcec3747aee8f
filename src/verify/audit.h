// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the parts of one verification share: what it works with, and the report that it fills check
// after check. The parts, in the order in which they rest on each other:
//
//   claims.h     log, signatures, recipe, data: what was committed to, compared without computing
//   planned.h    which states the log must have
//   states.h     every stored state is what the log, the plan and the recipe say
//   replays.h    what is computed again: initial tensors, and intervals of the training
//   vouchers.h   what other organisations and verifiers say
//   verdict.h    from checks to verdicts
#include <optional>
#include <string>
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

  int64_t memory() const;
  // Before something of that size is allocated: an error if there is no room, so that no kernel has
  // to end the process.
  Status room_for(double bytes, std::string_view what) const;
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

// How an error becomes an answer is decided here alone, by what kind of error it is: what is wrong
// contradicts the run; what this machine or a server could not do says nothing about it; what is
// missing contradicts a run that lies here, and not a copy that another one is still to bring; and
// whom a policy refuses may be honest.
class Checklist {
 public:
  // `if_missing`: RunSource::if_missing().
  Checklist(Report& report, bool fail_fast, std::optional<std::string> if_missing = std::nullopt)
      : report_(report), fail_fast_(fail_fast), if_missing_(std::move(if_missing)) {}

  // A check that others rest on: false unless it holds or is open.
  bool check(std::string_view name, const Result<Finding>& finding);
  // One that others do not rest on: false only if the first failure is to end all.
  bool may_fail(std::string_view name, const Result<Finding>& finding) {
    return check(name, finding) || !fail_fast_;
  }
  bool failed(std::string_view name) const;  // or could not be checked
  // The run went on meanwhile, so what was found belongs to no one time of it.
  void waive();
  Report& report() { return report_; }

 private:
  Report& report_;
  const bool fail_fast_;
  const std::optional<std::string> if_missing_;
};

}  // namespace naite::verify
