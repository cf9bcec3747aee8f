// SPDX-License-Identifier: Apache-2.0
#include "record/witnesses.h"

#include <algorithm>
#include <chrono>

namespace naite::record {

namespace {

// A witness answers in well under a second; whoever waits for the last head waits no longer.
constexpr int64_t kConnectSeconds = 5, kStallSeconds = 5;

}  // namespace

Witnesses::Witnesses(const std::vector<ledger::Witness>& witnesses, ledger::LogWriter& writer,
                     const std::atomic<bool>* stop)
    : writer_(writer), stop_(stop), done_(witnesses.size(), 0) {
  for (size_t i = 0; i < witnesses.size(); ++i)
    threads_.emplace_back([this, i, witness = witnesses[i]] { ask(i, witness); });
}

Witnesses::~Witnesses() {
  ending_ = true;
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Witnesses::show(ledger::ShownHead head) {
  {
    const std::lock_guard lock(mutex_);
    newest_ = std::make_shared<const ledger::ShownHead>(std::move(head));
    ++version_;
  }
  changed_.notify_all();
}

void Witnesses::settle() {
  std::unique_lock lock(mutex_);
  const auto settled = [this] {
    return std::all_of(done_.begin(), done_.end(), [this](int64_t v) { return v == version_; });
  };
  while (!settled() && !(stop_ != nullptr && stop_->load()))
    changed_.wait_for(lock, std::chrono::milliseconds(100));
}

std::vector<std::string> Witnesses::take_notes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(notes_, {});
}

// One witness, until the end. Of a row of failures for the same cause one is noted.
void Witnesses::ask(size_t number, const ledger::Witness& witness) {
  ledger::HttpOptions options;
  options.connect_seconds = kConnectSeconds;
  options.stall_seconds = kStallSeconds;
  options.stop = &ending_;
  ledger::WitnessClient client(witness, options);
  std::string noted;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || done_[number] != version_; });
    if (ending_) return;
    const int64_t version = version_;
    const std::shared_ptr<const ledger::ShownHead> shown = newest_;
    lock.unlock();
    const Result<std::string> line = client.cosign(*shown);
    const Status added = !line.ok()      ? Status(line.error())
                         : line->empty() ? Status()
                                         : writer_.add_cosignature(shown->head, *line);
    lock.lock();
    done_[number] = version;
    if (!added.ok() && !ending_ && added.error().message != noted)
      notes_.push_back("not witnessed: " + added.error().message);
    noted = added.ok() ? "" : added.error().message;
    changed_.notify_all();
  }
}

}  // namespace naite::record
