// SPDX-License-Identifier: Apache-2.0
#pragma once
// One text per JSON value: RFC 8785, the JSON Canonicalization Scheme. Keys ascend by their UTF-16
// code units, no spaces, the shortest escapes, numbers written as ECMAScript writes doubles. What
// JCS cannot say without loss is an error: NaN, infinities, integers that are no doubles, broken
// UTF-8.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::ledger {

Result<std::string> canonical_json(const nlohmann::json& value);

// Parses `text` and insists that it is canonical, so that a value has one digest. At most 100 deep.
Result<nlohmann::json> parse_canonical_json(std::string_view text, std::string_view name);

// A finite double as ECMAScript's Number::toString writes it.
std::string canonical_number(double value);

}  // namespace naite::ledger
