// SPDX-License-Identifier: Apache-2.0
#pragma once
// One line of a .jsonl file: an object whose `text_key` holds the text of a document.
#include <memory>
#include <string_view>

#include "base/base.h"

namespace naite::data {

class JsonLines {
 public:
  JsonLines();
  ~JsonLines();

  // The text; valid until the next call. The error says what is wrong with the line, not where.
  Result<std::string_view> text_of(std::string_view line, std::string_view text_key);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
