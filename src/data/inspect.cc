// SPDX-License-Identifier: Apache-2.0
#include "data/inspect.h"

#include <algorithm>

#include "data/shards.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

constexpr size_t kContextBytes = 40;
constexpr int64_t kDocumentsInTask = 256;

std::string around(std::string_view text, size_t at, size_t size) {
  size_t begin = floor_to_char(text, at > kContextBytes ? at - kContextBytes : 0);
  const size_t end = floor_to_char(text, std::min(text.size(), at + size + kContextBytes));
  std::string context(text.substr(begin, end - begin));
  for (char& c : context)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return context;
}

}  // namespace

struct PackedText::State {
  Manifest manifest;
  Tokenizer tokenizer = Tokenizer::bytes();
  struct Splits {
    SplitReader train, validation;
  };
  std::vector<Splits> sources;

  const SplitReader& split(int source, bool validation) const {
    const Splits& splits = sources[static_cast<size_t>(source)];
    return validation ? splits.validation : splits.train;
  }
  std::string text_of(const SplitReader& split, int64_t first, int64_t end) const {
    if (end <= first) return "";
    std::vector<int32_t> ids(static_cast<size_t>(end - first));
    split.copy(first, ids);
    return tokenizer.decode(ids);
  }
};

Result<PackedText> PackedText::open(const std::filesystem::path& run_directory) {
  auto state = std::make_unique<State>();
  NAITE_ASSIGN(state->manifest, Manifest::load(run_directory));
  NAITE_ASSIGN(state->tokenizer, Tokenizer::load(run_directory / "tokenizer.json"));
  const std::filesystem::path directory = run_directory / "data";
  for (const ManifestSource& source : state->manifest.sources) {
    State::Splits splits;
    const int token_bytes = state->manifest.token_bytes;
    NAITE_ASSIGN(splits.train, SplitReader::open(directory, source.train, token_bytes));
    NAITE_ASSIGN(splits.validation, SplitReader::open(directory, source.validation, token_bytes));
    state->sources.push_back(std::move(splits));
  }
  if (std::all_of(state->sources.begin(), state->sources.end(),
                  [](const State::Splits& splits) { return splits.train.num_tokens() == 0; }))
    return fail("{} has no training text", (directory / "manifest.json").string());
  return PackedText(std::move(state));
}

PackedText::PackedText(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackedText::PackedText(PackedText&&) noexcept = default;
PackedText::~PackedText() = default;

const Manifest& PackedText::manifest() const { return state_->manifest; }

std::string PackedText::document(int source, bool validation, int64_t index) const {
  const SplitReader& split = state_->split(source, validation);
  return state_->text_of(split, split.document_start(index) + 1, split.document_end(index));
}

PackedRow PackedText::random_row(int64_t length, uint64_t seed) const {
  uint64_t total = 0;
  for (const State::Splits& splits : state_->sources)
    total += static_cast<uint64_t>(splits.train.num_tokens());
  int64_t at = static_cast<int64_t>(random_below(total, seed, Purpose::kSampling, 0));
  size_t source = 0;
  while (at >= state_->sources[source].train.num_tokens())
    at -= state_->sources[source++].train.num_tokens();
  const SplitReader& split = state_->sources[source].train;
  PackedRow row;
  row.source = state_->manifest.sources[source].name;
  row.first_token = std::max<int64_t>(0, std::min(at, split.num_tokens() - length));
  int64_t low = 0, high = split.num_documents();  // the document that holds the first token
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (split.document_start(middle) <= row.first_token ? low : high) = middle;
  }
  row.first_document = low;
  row.text = state_->text_of(split, row.first_token,
                             std::min(row.first_token + length, split.num_tokens()));
  return row;
}

PhraseHits PackedText::find(std::string_view phrase, int64_t hits_max, ThreadPool& pool) const {
  PhraseHits found;
  if (phrase.empty()) return found;
  for (int source = 0; source < static_cast<int>(state_->sources.size()); ++source)
    for (const bool validation : {false, true}) {
      const int64_t documents = state_->split(source, validation).num_documents();
      const int64_t tasks = (documents + kDocumentsInTask - 1) / kDocumentsInTask;
      std::vector<PhraseHits> parts(static_cast<size_t>(tasks));
      pool.run(tasks, [&](int64_t task, int) {
        PhraseHits& part = parts[static_cast<size_t>(task)];
        const int64_t end = std::min(documents, (task + 1) * kDocumentsInTask);
        for (int64_t index = task * kDocumentsInTask; index < end; ++index) {
          const std::string text = document(source, validation, index);
          for (size_t at = text.find(phrase); at != std::string::npos;
               at = text.find(phrase, at + phrase.size())) {
            if (part.count++ >= hits_max) continue;
            part.hits.push_back({state_->manifest.sources[static_cast<size_t>(source)].name,
                                 validation, index, static_cast<int64_t>(at),
                                 around(text, at, phrase.size())});
          }
        }
      });
      for (PhraseHits& part : parts) {
        found.count += part.count;
        for (PhraseHit& hit : part.hits)
          if (static_cast<int64_t>(found.hits.size()) < hits_max)
            found.hits.push_back(std::move(hit));
      }
    }
  return found;
}

}  // namespace naite::data
