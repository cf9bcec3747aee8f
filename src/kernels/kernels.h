// SPDX-License-Identifier: Apache-2.0
#pragma once
// A backend: memory, and one way to call an operation of operations.h. Nothing above this folder
// dereferences tensor memory.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/arithmetic.h"
#include "kernels/operations.h"

namespace naite::kernels {

template <class... Ops>
struct List {
  static constexpr int kSize = sizeof...(Ops);
  static constexpr std::array<std::string_view, sizeof...(Ops)> kNames = {Ops::kName...};
  // kSize where Op is not in the list.
  template <class Op>
  static constexpr int index_of() {
    const std::array<bool, sizeof...(Ops)> same = {std::is_same_v<Op, Ops>...};
    return static_cast<int>(std::find(same.begin(), same.end(), true) - same.begin());
  }
};

#define NAITE_OPERATION(Op) Op
using Operations = List<NAITE_OPERATIONS(NAITE_OPERATION)>;
#undef NAITE_OPERATION

// An operation handed over without its type: its place in the list, and its struct, which lives as
// long as the call.
struct Call {
  int operation;
  const void* arguments;

  template <class Op>
  static Call of(const Op& op) {
    static_assert(Operations::index_of<Op>() < Operations::kSize, "not in NAITE_OPERATIONS");
    return {Operations::index_of<Op>(), &op};
  }
};

template <class Function, class Op>
auto visit_as(Function& function, const void* arguments) {
  return function(*static_cast<const Op*>(arguments));
}
template <class Function, class... Ops>
auto visit_in(List<Ops...>, const Call& call, Function& function) {
  static constexpr std::array kTable = {&visit_as<Function, Ops>...};
  return kTable[call.operation](function, call.arguments);
}
// function(op), op being the call's struct; a table holds one entry for every type of the list.
template <class Function>
auto visit(const Call& call, Function function) {
  return visit_in(Operations(), call, function);
}

// What is submitted to one stream happens in that order. A backend may have several; a CPU has one,
// and is done when a call returns.
struct Stream {
  int index = 0;
};

// Whoever takes calls: a backend, one that stands before it, or one that only looks at them.
class Runner {
 public:
  virtual ~Runner() = default;
  template <class Op>
  Status submit(const Op& op, Stream stream = {}) {
    return run(Call::of(op), stream);
  }
  virtual Status run(const Call& call, Stream stream) = 0;
};

class Kernels : public Runner {
 public:
  virtual std::string name() const = 0;  // "reference", "cpu avx512_bf16", ...
  virtual const Arithmetic& arithmetic() const = 0;
  // Flops a second that the machine offers products in `compute` right now, on all threads of the
  // backend; measured in some twenty milliseconds. 0: not known.
  virtual double measure_peak_flops(DType compute) = 0;

  // --- memory ------------------------------------------------------------------------------------
  // Zeroed, aligned to 64 bytes at least. Everything is allocated before the first step.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* memory, int64_t bytes) = 0;
  // Host memory may be changed when they return. A download waits for what was submitted before it,
  // and fails where that failed: a device that works on its own reports late.
  virtual Status upload(void* to, const void* from_host, int64_t bytes, Stream stream = {}) = 0;
  virtual Status download(void* to_host, const void* from, int64_t bytes, Stream stream = {}) = 0;
  // What the backend itself holds per instance (thread buffers), for the plan's total.
  virtual int64_t fixed_bytes() const = 0;
  // Bytes of the prepared copy of a [rows, cols] fp32 master; 0: the master is read in place.
  virtual int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const = 0;

  // Bytes of the workspace that a call must bring; shapes and arguments decide, so views need no
  // memory.
  template <class Op>
  int64_t workspace_bytes(const Op& op) const {
    return workspace_of(Call::of(op));
  }
  virtual int64_t workspace_of(const Call& call) const = 0;
};

// The oracle, in every published arithmetic. `real` is kF32 (the contract's bits) or kF64 (every
// view in double, for derivatives).
std::unique_ptr<Kernels> make_reference(DType real, const Arithmetic& arithmetic = kChain1);

// The fast backend, in chain-1. The pool must outlive it. isa_name: "" picks the best that the
// machine has and whose self-test passes; else portable, avx2, avx512 or avx512_bf16 (environment
// NAITE_ISA).
Result<std::unique_ptr<Kernels>> make_cpu(ThreadPool& pool, std::string_view isa_name);
std::string_view cpu_isa_names();  // what this machine offers, best first, separated by spaces

}  // namespace naite::kernels
