// SPDX-License-Identifier: Apache-2.0
// Any bytes come back from their ids, and text cut at a safe place has the ids of the whole.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "data/tokenizer.h"
#include "data/train_tokenizer.h"

namespace naite::data {
namespace {

Tokenizer trained() {
  ThreadPool pool(1);
  TokenizerTrainer trainer(pool);
  const std::string text =
      "나이테는 나무가 자란 흔적이다. 나이테는 나무의 나이를 알려 준다. Growth rings show growth; "
      "aaaa aaaa aaaaaaaa  \n\n  \n12 1234 !!! ... !!! ... don't can't won't\n";
  const std::string_view views[] = {text, text, text};
  trainer.add(views);
  return trainer.train(400, {});
}

int check(const uint8_t* data, size_t size) {
  static const Tokenizer kTokenizer = trained();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::vector<int32_t> whole = kTokenizer.encode(text, Specials::kAsText);
  if (kTokenizer.decode(whole) != text) std::abort();
  if (kTokenizer.decode(kTokenizer.encode(text, Specials::kParse)) != text) std::abort();
  const size_t cut = safe_cut(text, size / 2);
  std::vector<int32_t> parts = kTokenizer.encode(text.substr(0, cut), Specials::kAsText);
  const std::vector<int32_t> second = kTokenizer.encode(text.substr(cut), Specials::kAsText);
  parts.insert(parts.end(), second.begin(), second.end());
  if (parts != whole) std::abort();
  return 0;
}

}  // namespace
}  // namespace naite::data

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return naite::data::check(data, size);
}
