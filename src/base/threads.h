// SPDX-License-Identifier: Apache-2.0
#pragma once
// A fixed team of threads for loops over independent outputs. Nothing is allocated after the
// constructor. Which thread runs which task is not part of any result: tasks never share an output.
#include <cstdint>
#include <memory>
#include <type_traits>

namespace naite {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // the calling thread counts as one of them
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(task, thread) for every task in [0, num_tasks), thread in [0, num_threads()), and
  // returns when all are done. Tasks are handed out in ascending order. Not re-entrant.
  template <class Body>
  void run(int64_t num_tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(num_tasks, const_cast<void*>(static_cast<const void*>(&body)),
               [](void* context, int64_t task, int thread) {
                 (*static_cast<Plain*>(context))(task, thread);
               });
  }

  // One for each whole processor that the process may use, base/machine_limits.h.
  static int default_num_threads();

 private:
  using Function = void (*)(void* context, int64_t task, int thread);
  void run_erased(int64_t num_tasks, void* context, Function function);

  struct Team;
  int num_threads_;
  std::unique_ptr<Team> team_;
};

}  // namespace naite
