// SPDX-License-Identifier: Apache-2.0
#pragma once
// Witnesses of a log while it grows: each is shown the newest head on a thread of its own, and its
// cosignature is added to the head's file. They decide no bit and hold up nothing: a witness that
// is away or disagrees is a note, and heads that came while it was asked are passed over but for
// the newest.
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ledger/witness.h"

namespace naite::record {

class Witnesses {
 public:
  // `writer` outlives this. `stop`, if there is one, ends what is under way.
  Witnesses(const std::vector<ledger::Witness>& witnesses, ledger::LogWriter& writer,
            const std::atomic<bool>* stop);
  ~Witnesses();  // ends what is under way

  // Returns at once.
  void show(ledger::ShownHead head);
  // Waits until every witness has answered about the newest head, or has not within the limits of
  // seconds that each request has.
  void settle();
  // What there is to say since the last call, one line each.
  std::vector<std::string> take_notes();

 private:
  void ask(size_t number, const ledger::Witness& witness);

  ledger::LogWriter& writer_;
  const std::atomic<bool>* stop_;
  std::atomic<bool> ending_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const ledger::ShownHead> newest_;
  int64_t version_ = 0;        // of newest_
  std::vector<int64_t> done_;  // by witness: the version that it was asked about
  std::vector<std::string> notes_;
  std::vector<std::thread> threads_;
};

}  // namespace naite::record
