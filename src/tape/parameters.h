// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parameters of one model in memory: fp32 masters, and the prepared copies that operations
// read. Values and gradients lie in slabs, one stretch of memory for all parameters with the same
// offsets, so that gradient sums and copies are single operations. Tapes share one Parameters
// object.
#include <map>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "tape/record.h"

namespace naite::tape {

// A memory block of a backend, released with the object.
class Block {
 public:
  Block() = default;
  Block(Kernels& kernels, int64_t bytes);
  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  Kernels* kernels_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Where each parameter lies in a slab; offsets are multiples of 64 bytes, gaps stay zero.
class SlabLayout {
 public:
  SlabLayout(const std::vector<ParameterSpec>& specs, DType dtype);
  int64_t bytes() const { return bytes_; }
  DType dtype() const { return dtype_; }
  View view(const Block& slab, int parameter) const;  // a stack: [count rows, cols]
  View whole(const Block& slab) const;                // [1, all elements], gaps included

 private:
  DType dtype_;
  int64_t bytes_ = 0;
  std::vector<int64_t> offsets_;
  std::vector<std::pair<int64_t, int64_t>> shapes_;
};

// Matrix `index` of a master, a gradient or a moment that belongs to `spec`.
View matrix_of(const View& stack, const ParameterSpec& spec, int64_t index);

class Parameters {
 public:
  // `masters`, if there are any, are those of an object with the same specs, from release().
  Parameters(Kernels& kernels, DType compute, std::vector<ParameterSpec> specs, Block masters = {});
  Block release() { return std::move(masters_); }  // nothing else may be asked for afterwards

  const std::vector<ParameterSpec>& specs() const { return specs_; }
  int size() const { return static_cast<int>(specs_.size()); }
  DType compute() const { return compute_; }
  const SlabLayout& layout() const { return layout_; }
  Kernels& kernels() const { return kernels_; }

  View master(int parameter) const { return layout_.view(masters_, parameter); }
  // One of its tensors, ParameterSpec::tensor(index).
  View tensor(int parameter, int64_t index) const {
    return matrix_of(master(parameter), specs_[parameter], index);
  }
  // Called when a program is made: allocates the prepared copy of this use if it is a new one.
  void add_use(int parameter, Use use);
  // A stack's matrices are prepared one by one and lie one after another.
  View prepared(int parameter, Use use) const;
  // Makes every prepared copy anew from the masters; after loading and after every update.
  Status prepare_all();
  // Only those copies that programs made since then have added; for masters that did not change.
  Status prepare_new();
  int64_t bytes() const;  // that masters and copies have allocated

 private:
  Kernels& kernels_;
  DType compute_;
  std::vector<ParameterSpec> specs_;
  SlabLayout layout_;
  Block masters_;
  struct Copy {
    Block block;  // empty: the master is read in place
    bool is_ready = false;
  };
  Status prepare(int parameter, Use use, Copy& copy);
  std::map<std::pair<int, Use>, Copy> prepared_;
};

}  // namespace naite::tape
