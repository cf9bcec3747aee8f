// SPDX-License-Identifier: Apache-2.0
// Any recipe: refused with one line, or resolved to a recipe that reads back as itself.
#include <cstdint>
#include <cstdlib>

#include "base/fuzz.h"
#include "train/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = naite::parse_toml({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const auto recipe = naite::train::parse_recipe(*value, "fuzz");
  if (!recipe) {
    naite::expect_short_line(recipe.error());
    return 0;
  }
  const auto text = naite::parse_toml(naite::to_toml(recipe->resolved()), "again");
  const auto again = text.ok() ? naite::train::parse_recipe(*text, "again")
                               : naite::Result<naite::train::Curriculum>(text.error());
  if (!again || again->digest() != recipe->digest()) std::abort();
  return 0;
}
