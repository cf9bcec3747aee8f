// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: changes of JSON values, of how JSON is spelled, and of files of tensors, at random.
// Each gives a description of what it did; empty: nothing of that kind can be done there.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::verify {

// Numbers that follow from a seed and a number alone.
class Dice {
 public:
  explicit Dice(uint64_t number) : number_(number) {}
  uint64_t below(uint64_t bound) {
    return bound < 2 ? 0 : random_below(bound, kSeed, Purpose::kSampling, number_, ++draws_);
  }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class Items>
  const auto& among(const Items& items) {
    return items[below(std::size(items))];
  }

 private:
  static constexpr uint64_t kSeed = 20261128;
  uint64_t number_;
  uint32_t draws_ = 0;
};

// Changes one place of the value, of any kind.
std::string change_value(nlohmann::ordered_json& value, Dice& dice);
// The same JSON written otherwise, or JSON that readers read differently.
std::string respell(std::string& text, Dice& dice);

// A file of tensors, taken apart; text() is what was parsed where nothing was changed.
struct TensorParts {
  struct Tensor {
    std::string name, type;
    nlohmann::ordered_json shape;
    std::string bytes;
  };
  std::vector<Tensor> tensors;      // as they lie in the file
  std::vector<std::string> header;  // their order in the header
  nlohmann::ordered_json metadata;  // null: none
  size_t padding = 0;               // more spaces than alignment needs
  std::string gap, tail;            // between the first tensor and the next; behind the last

  static TensorParts parse(const std::string& text);  // of an honest file
  std::string text() const;
};

std::string change_tensors(TensorParts& parts, Dice& dice);

}  // namespace naite::verify
