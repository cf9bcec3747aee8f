// SPDX-License-Identifier: Apache-2.0
#include "base/threads.h"

#include <atomic>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/float_mode.h"
#include "base/machine_limits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace naite {

namespace {

// Short loops follow one another within microseconds during a step, so a waiting thread spins for a
// while before it sleeps on a futex (std::atomic::wait).
constexpr int kSpins = 4000;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

template <class Done>
void wait_until(std::atomic<uint32_t>& value, Done done) {
  for (int i = 0; i < kSpins; ++i) {
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

struct ThreadPool::Team {
  std::vector<std::thread> threads;
  std::atomic<uint32_t> generation{0};
  std::atomic<uint32_t> running{0};
  std::atomic<int64_t> next_task{0};
  bool stopping = false;
  int64_t num_tasks = 0;
  void* context = nullptr;
  Function function = nullptr;

  void work(int thread) {
    for (;;) {
      const int64_t task = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task >= num_tasks) return;
      function(context, task, thread);
    }
  }

  void serve(int thread) {
    set_float_mode();
    uint32_t seen = 0;
    for (;;) {
      wait_until(generation, [&](uint32_t now) { return now != seen; });
      seen = generation.load(std::memory_order_acquire);
      if (stopping) return;
      work(thread);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), team_(new Team) {
  NAITE_CHECK(num_threads >= 1, "{} threads", num_threads);
  set_float_mode();
  for (int i = 1; i < num_threads; ++i)
    team_->threads.emplace_back([team = team_.get(), i] { team->serve(i); });
}

ThreadPool::~ThreadPool() {
  team_->stopping = true;
  team_->generation.fetch_add(1, std::memory_order_release);
  team_->generation.notify_all();
  for (std::thread& thread : team_->threads) thread.join();
}

void ThreadPool::run_erased(int64_t num_tasks, void* context, Function function) {
  Team& team = *team_;
  NAITE_DEBUG_CHECK(float_mode_is_set(), "a computing thread without the contract's float mode");
  if (num_threads_ == 1 || num_tasks <= 1) {
    for (int64_t task = 0; task < num_tasks; ++task) function(context, task, 0);
    return;
  }
  team.num_tasks = num_tasks;
  team.context = context;
  team.function = function;
  team.next_task.store(0, std::memory_order_relaxed);
  team.running.store(static_cast<uint32_t>(num_threads_ - 1), std::memory_order_relaxed);
  team.generation.fetch_add(1, std::memory_order_release);
  team.generation.notify_all();
  team.work(0);
  wait_until(team.running, [](uint32_t left) { return left == 0; });
}

int ThreadPool::default_num_threads() { return usable_processors(); }

}  // namespace naite
