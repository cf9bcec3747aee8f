// SPDX-License-Identifier: Apache-2.0
#pragma once
// Unicode normal form C, for tokenizers of others that ask for it (Qwen's do), as of Unicode 9.0:
// the tables of Hugging Face tokenizers, whose ids ours must equal. Our own vocabularies and the
// preparation of data leave every byte as it is.
#include <string>
#include <string_view>

namespace naite::data {

// Bytes that are not valid UTF-8 are left as they are.
std::string to_nfc(std::string_view text);

// Normal form D, for names of files; UTF-8 only, anything else comes back as it is.
std::string to_nfd(std::string_view name);

}  // namespace naite::data
