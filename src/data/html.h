// SPDX-License-Identifier: Apache-2.0
#pragma once
// The main text of an HTML page: no navigation, scripts, styles, forms or hidden parts; a line
// break where a block ends, "# " before headings, "- " before list items, a blank line between
// paragraphs, tabs between the cells of a row. Where the page marks its main part (<main>,
// <article> or role="main"), only that counts.
#include <atomic>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::data {

// `name` is the file's name for messages. The bytes must be UTF-8, whatever the page declares. Once
// `stop`, if given, is set, the rest of the page is left out: the caller asks for it afterwards.
Result<std::string> html_to_text(std::string_view html, std::string_view name,
                                 const std::atomic<bool>* stop = nullptr);

}  // namespace naite::data
