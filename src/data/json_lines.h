// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON lines: one object a line, whose `text_key` holds the text of a document.
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "base/base.h"

namespace naite::data {

class JsonLines {
 public:
  JsonLines();
  ~JsonLines();

  // Why a line gives no text: `kind` is one of few, to count by; `why` tells of this line.
  struct Refusal {
    std::string kind, why;
  };

  // The text; valid until the next call.
  std::variant<std::string_view, Refusal> text_of(std::string_view line, std::string_view text_key);

 private:
  std::variant<std::string_view, Refusal> text_beside_large_number(std::string_view line,
                                                                   std::string_view text_key);

  struct State;
  std::unique_ptr<State> state_;
};

// What a file of JSON is, by its beginning; `ended`: it holds no more than `head`.
enum class JsonShape {
  kLines,   // one object a line, or nothing at all
  kArray,   // one array around everything
  kObject,  // one object over several lines
  kOther,
};
JsonShape json_shape(std::string_view head, bool ended);

// Whether the first line is an object and the next one begins like one: JSON lines beyond doubt.
bool surely_json_lines(std::string_view head, bool ended);

}  // namespace naite::data
