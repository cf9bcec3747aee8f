// SPDX-License-Identifier: Apache-2.0
#include "base/threads.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/float_mode.h"
#include "base/interruptible.h"
#include "base/machine_limits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace naite {

namespace {

// Short loops follow one another within microseconds during a step, so a waiting thread spins for a
// while before it sleeps on a futex (std::atomic::wait). Where threads outnumber the processors
// that they may use, whoever spins takes the processor from the one that is waited for.
constexpr int kSpins = 4000, kSpinsWhenCrowded = 50;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

thread_local const std::atomic<bool>* stop_of_thread = nullptr;

bool is_set(const std::atomic<bool>* stop) {
  return stop != nullptr && stop->load(std::memory_order_relaxed);
}

template <class Done>
void wait_until(std::atomic<uint32_t>& value, int spins, Done done) {
  for (int i = 0; i < spins; ++i) {
    if (done(value.load(std::memory_order_acquire))) return;
    pause_briefly();
  }
  for (;;) {
    const uint32_t seen = value.load(std::memory_order_acquire);
    if (done(seen)) return;
    value.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace

Interruptible::Interruptible(const std::atomic<bool>* stop)
    : outer_(std::exchange(stop_of_thread, stop)) {}
Interruptible::~Interruptible() { stop_of_thread = outer_; }

// The caller waits for the tasks that somebody has taken, never for a thread to turn up: one that
// lost its processor to another program between two loops holds nobody up, and what it would have
// done the others do. Whoever holds a task of a loop keeps the loop open, so the fields below it
// stay as they are until its tasks are counted off.
struct ThreadPool::Team {
  std::vector<std::thread> threads;
  int spins = kSpins;
  alignas(64) std::atomic<uint32_t> loops{0};   // begun so far: what idle threads wait for
  alignas(64) std::atomic<int64_t> untaken{0};  // tasks of the loop; at or below zero: none
  alignas(64) std::atomic<uint32_t> unfinished{0};
  alignas(64) int64_t num_tasks = 0;
  void* context = nullptr;
  Function function = nullptr;
  const std::atomic<bool>* stop = nullptr;
  std::atomic<bool> stopping{false};
  std::mutex mutex;              // of `exception`
  std::exception_ptr exception;  // the first that a task threw; the caller throws it again

  void run_task(int64_t task, int thread) {
    if (is_set(stop)) return;
    try {
      function(context, task, thread);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!exception) exception = std::current_exception();
    }
  }

  void work(int thread) {
    uint32_t done = 0;
    while (untaken.load(std::memory_order_relaxed) > 0) {
      const int64_t left = untaken.fetch_sub(1, std::memory_order_acq_rel);
      if (left <= 0) break;
      run_task(num_tasks - left, thread);
      ++done;
    }
    if (done > 0 && unfinished.fetch_sub(done, std::memory_order_acq_rel) == done)
      unfinished.notify_one();
  }

  void serve(int thread) {
    set_float_mode();
    for (uint32_t seen = 0; !stopping.load(std::memory_order_acquire);) {
      work(thread);
      wait_until(loops, spins, [&](uint32_t now) { return now != seen; });
      seen = loops.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), team_(new Team) {
  NAITE_CHECK(num_threads >= 1, "{} threads", num_threads);
  set_float_mode();
  if (num_threads > 1 && num_threads > usable_processors()) team_->spins = kSpinsWhenCrowded;
  try {
    for (int i = 1; i < num_threads; ++i)
      team_->threads.emplace_back([team = team_.get(), i] { team->serve(i); });
  } catch (const std::system_error&) {  // the system gives no more: those that there are do it
    num_threads_ = 1 + static_cast<int>(team_->threads.size());
  }
}

ThreadPool::~ThreadPool() {
  team_->stopping.store(true, std::memory_order_release);
  team_->loops.fetch_add(1, std::memory_order_release);
  team_->loops.notify_all();
  for (std::thread& thread : team_->threads) thread.join();
}

void ThreadPool::run_erased(int64_t num_tasks, void* context, Function function) {
  Team& team = *team_;
  NAITE_DEBUG_CHECK(float_mode_is_set(), "a computing thread without the contract's float mode");
  const std::atomic<bool>* const stop = stop_of_thread;
  if (num_threads_ == 1 || num_tasks <= 1) {
    for (int64_t task = 0; task < num_tasks; ++task) {
      if (is_set(stop)) throw Interrupted();
      function(context, task, 0);
    }
    return;
  }
  NAITE_CHECK(num_tasks <= UINT32_MAX, "{} tasks", num_tasks);
  team.num_tasks = num_tasks;
  team.context = context;
  team.function = function;
  team.stop = stop;
  team.unfinished.store(static_cast<uint32_t>(num_tasks), std::memory_order_relaxed);
  team.untaken.store(num_tasks, std::memory_order_release);
  team.loops.fetch_add(1, std::memory_order_release);
  team.loops.notify_all();
  team.work(0);
  wait_until(team.unfinished, team.spins, [](uint32_t left) { return left == 0; });
  if (is_set(stop)) team.exception = std::make_exception_ptr(Interrupted());
  if (team.exception) std::rethrow_exception(std::exchange(team.exception, nullptr));
}

int ThreadPool::default_num_threads() { return usable_processors(); }

}  // namespace naite
