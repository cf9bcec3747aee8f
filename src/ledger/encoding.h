// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bytes as text. Decoders are strict: one text per value, so that nothing signed can be respelled.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::ledger {

std::string to_hex(std::string_view bytes);
std::string to_hex(const Digest& digest);
// Lower case only, an even number of digits.
std::optional<std::string> from_hex(std::string_view text);
// Exactly 64 lower-case digits.
std::optional<Digest> digest_from_hex(std::string_view text);

// RFC 4648, section 4, with padding; bits that carry nothing must be zero.
std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);

// Decimal without leading zeros, below 2^63: the form that checkpoints and proofs use.
std::optional<int64_t> from_decimal(std::string_view text);

// Well-formed UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

// Big-endian integers.
std::string big_endian(uint64_t value, int num_bytes);
uint64_t from_big_endian(std::string_view bytes);

inline std::string_view as_bytes(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace naite::ledger
