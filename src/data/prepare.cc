// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.h"

#include <algorithm>
#include <optional>
#include <string>

#include "data/corpus.h"
#include "data/inputs.h"
#include "data/reading_report.h"
#include "data/shards.h"
#include "data/split.h"
#include "data/tokenizer_model.h"
#include "data/train_tokenizer.h"

namespace naite::data {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr size_t kBatchBytes = size_t{16} << 20;
constexpr size_t kTaskBytes = size_t{1} << 18;

// What the shards depend on. The order of packing, the length of rows and the weights are not here:
// they can change over the same shards.
json fingerprint(const TokenizerOptions& tokenizer, const DataOptions& data) {
  json sources = json::array();
  for (const SourceOptions& source : data.sources) {
    json entry = source.to_json();
    entry.erase("weight");
    sources.push_back(std::move(entry));
  }
  return {{"tokenizer", tokenizer.to_json()},
          {"validation", data.validation},
          {"deduplicate", data.deduplicate},
          {"near_duplicates", data.near_duplicates},
          {"strict", data.strict},
          {"source", sources}};
}

int token_bytes_of(const Tokenizer& tokenizer) { return tokenizer.vocab_size() <= 65536 ? 2 : 4; }

// What the files of a source's split are called, but for their number.
std::string stem_of(const std::string& source_name, size_t source, bool validation) {
  std::string name = source_name;
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
  return fmt::format("{:02}-{}-{}", source, name.substr(0, 40),
                     validation ? "validation" : "train");
}

// Names the first option in which two fingerprints differ.
Status compare(const json& stored, const json& wanted, const fs::path& directory) {
  const json before = stored.flatten(), now = wanted.flatten();
  for (const json* side : {&now, &before})
    for (const auto& [key, value] : side->items()) {
      const json was = before.value(key, json()), is = now.value(key, json());
      if (was == is) continue;
      return fail(
          "{} was packed with {} = {}, the recipe says {}: use another run directory, or "
          "remove this folder to pack again",
          directory.string(), key.substr(1), was.dump(), is.dump());
    }
  return {};
}

// Collects texts and hands them on in batches, cut into pieces that threads can share.
class Batcher {
 public:
  struct Text {
    std::string_view text;
    int source;
    bool begins, validation;
  };

  Batcher(bool may_cut, std::function<Status(const std::vector<Text>&)> use)
      : may_cut_(may_cut), use_(std::move(use)) {}

  Status add(int source, const CorpusText& text) {
    if (!held_.empty() && held_.size() + text.text.size() > kBatchBytes) NAITE_TRY(flush());
    std::string_view rest = text.text;
    bool begins = text.begins;
    while (true) {
      size_t size = may_cut_ ? safe_cut(rest, kTaskBytes) : rest.size();
      if (size == 0) size = rest.size();
      entries_.push_back({held_.size(), size, source, begins, text.validation});
      held_ += rest.substr(0, size);
      rest.remove_prefix(size);
      begins = false;
      if (rest.empty()) return {};
    }
  }

  Status flush() {
    if (entries_.empty()) return {};
    std::vector<Text> texts;
    texts.reserve(entries_.size());
    for (const Entry& entry : entries_)
      texts.push_back({std::string_view(held_).substr(entry.offset, entry.size), entry.source,
                       entry.begins, entry.validation});
    NAITE_TRY(use_(texts));
    held_.clear();
    entries_.clear();
    return {};
  }

 private:
  struct Entry {
    size_t offset, size;
    int source;
    bool begins, validation;
  };
  bool may_cut_;
  std::function<Status(const std::vector<Text>&)> use_;
  std::string held_;
  std::vector<Entry> entries_;
};

// One pass of preparation.
class Preparation {
 public:
  Preparation(const PrepareRequest& request, ThreadPool& pool)
      : request_(request), pool_(pool), directory_(request.run_directory / "data") {}

  Result<Tokenizer> train_only() {
    if (request_.tokenizer.vocab_size == 256) return Tokenizer::bytes();
    NAITE_ASSIGN(Corpus corpus,
                 Corpus::open(request_.data, request_.base_directories, request_.stop));
    corpus_ = &corpus;
    Readings readings;
    NAITE_ASSIGN(Tokenizer tokenizer, train(readings));
    tell(readings);
    return tokenizer;
  }

  Result<Manifest> run() {
    std::error_code code;
    if (fs::exists(directory_ / "manifest.json", code)) return reuse();
    NAITE_TRY(remove_tree(directory_));
    NAITE_TRY(make_directories(directory_));
    std::optional<Tokenizer> tokenizer;
    if (!request_.tokenizer.file.empty()) {
      NAITE_ASSIGN(tokenizer, load_tokenizer());
    } else if (request_.tokenizer.vocab_size == 256) {
      tokenizer = Tokenizer::bytes();
    }
    NAITE_ASSIGN(Corpus corpus,
                 Corpus::open(request_.data, request_.base_directories, request_.stop));
    corpus_ = &corpus;
    if (!tokenizer) {
      Readings readings;
      NAITE_ASSIGN(tokenizer, train(readings));
    }
    NAITE_TRY(tokenizer->save(request_.run_directory));
    kill_point("data-tokenizer");
    return pack(*tokenizer);
  }

 private:
  void report(std::string_view phase, int64_t done, int64_t total) const {
    if (request_.progress) request_.progress({phase, done, total});
  }

  bool stopped() const { return request_.stop != nullptr && request_.stop->load(); }

  // Fails when the caller wants no more of it.
  Status go_on() const { return check_stop(request_.stop); }

  void tell(const Readings& readings) const {
    if (!request_.note) return;
    for (size_t i = 0; i < readings.sources.size(); ++i)
      request_.note(
          one_line(reading_report(readings.sources[i], readings.counts[i], readings.inputs[i])));
  }

  std::function<void(int64_t)> reporter(std::string_view phase) const {
    const int64_t total = corpus_->total_file_bytes();
    return [this, phase, total](int64_t done) { report(phase, done, total); };
  }

  Result<Manifest> reuse() {
    NAITE_ASSIGN(Manifest manifest, Manifest::load(request_.run_directory));
    NAITE_TRY(
        compare(manifest.options, fingerprint(request_.tokenizer, request_.data), directory_));
    const fs::path tokenizer = request_.run_directory / "tokenizer.json";
    NAITE_ASSIGN(const std::string digest, sha256_file(tokenizer));
    if (digest != manifest.tokenizer_sha256)
      return fail(
          "{}: not the tokenizer that {} was packed with: put it back, or remove that folder "
          "to pack again",
          tokenizer.string(), directory_.string());
    report("checking", 0, 0);
    NAITE_TRY(check_shards(directory_, manifest, pool_, request_.stop));
    return manifest;
  }

  // The model gets a row for every id up to the largest: one token far out would make it huge.
  static Status expect_dense(const Tokenizer& tokenizer, const fs::path& path) {
    constexpr int64_t kSpare = 1024;
    const std::vector<std::string>& tokens = tokenizer.model().tokens;
    const int64_t count = std::count_if(tokens.begin(), tokens.end(),
                                        [](const std::string& token) { return !token.empty(); });
    if (tokenizer.vocab_size() <= 2 * count + kSpare) return {};
    return fail(
        "{}: the token {} has the id {}, but there are {} tokens: a model would have {} rows, "
        "most of them for nothing",
        path.string(), tokens.back(), tokenizer.vocab_size() - 1, count, tokenizer.vocab_size());
  }

  Result<Tokenizer> load_tokenizer() const {
    NAITE_ASSIGN(const fs::path path,
                 find_path(request_.tokenizer.file, request_.base_directories));
    NAITE_ASSIGN(const Tokenizer tokenizer, Tokenizer::load(path));
    if (tokenizer.end_of_document() < 0)
      return fail("{}: no token ends a document; add {} to its added_tokens", path.string(),
                  kEndOfDocument);
    NAITE_TRY(expect_dense(tokenizer, path));
    for (int byte = 0; byte < 256; ++byte)
      if (tokenizer.model().byte_ids[static_cast<size_t>(byte)] < 0)
        return fail(
            "{}: no token for the byte 0x{:02x}, so text would be lost; use a tokenizer "
            "with all 256 byte tokens",
            path.string(), byte);
    return tokenizer;
  }

  Result<Tokenizer> train(Readings& readings) {
    TokenizerTrainer trainer(pool_);
    Batcher batcher(true, [&](const std::vector<Batcher::Text>& texts) -> Status {
      std::vector<std::string_view> views;
      for (const Batcher::Text& text : texts) views.push_back(text.text);
      trainer.add(views, request_.stop);
      kill_point("data-count");
      return go_on();
    });
    NAITE_TRY(corpus_->read(
        pool_, /*final=*/false,
        [&](int source, const CorpusText& text) -> Status {
          if (text.validation) return {};
          ManifestSplit& split = readings.sources[static_cast<size_t>(source)].train;
          split.documents += text.begins;
          return batcher.add(source, text);
        },
        reporter("reading"), readings));
    NAITE_TRY(batcher.flush());
    Tokenizer tokenizer =
        trainer.train(request_.tokenizer.vocab_size, [&](int64_t done, int64_t total) {
          report("training tokenizer", done, total);
          return !stopped();
        });
    NAITE_TRY(go_on());
    return tokenizer;
  }

  Result<Manifest> pack(const Tokenizer& tokenizer) {
    Manifest manifest;
    manifest.options = fingerprint(request_.tokenizer, request_.data);
    manifest.tokenizer_sha256 = sha256_hex(tokenizer.to_json());
    manifest.vocab_size = tokenizer.vocab_size();
    manifest.token_bytes = token_bytes_of(tokenizer);
    manifest.end_of_document = tokenizer.end_of_document();
    std::vector<SplitWriter> writers;  // training and validation of each source
    for (size_t source = 0; source < request_.data.sources.size(); ++source)
      for (const bool validation : {false, true})
        writers.emplace_back(directory_,
                             stem_of(request_.data.sources[source].name, source, validation),
                             manifest.token_bytes);
    std::vector<Encoder> encoders;
    for (int i = 0; i < pool_.num_threads(); ++i) encoders.emplace_back(tokenizer);
    std::vector<std::vector<int32_t>> ids;
    const Tokenizer::Model& model = tokenizer.model();
    const bool may_cut =
        !model.add_prefix_space && !model.normalize_nfc && !model.any_added_not_special;
    Batcher batcher(may_cut, [&](const std::vector<Batcher::Text>& texts) -> Status {
      ids.resize(std::max(ids.size(), texts.size()));
      pool_.run(static_cast<int64_t>(texts.size()), [&](int64_t task, int thread) {
        std::vector<int32_t>& out = ids[static_cast<size_t>(task)];
        out.clear();
        if (stopped()) return;
        encoders[static_cast<size_t>(thread)].encode(texts[static_cast<size_t>(task)].text,
                                                     Specials::kAsText, out);
      });
      NAITE_TRY(go_on());
      for (size_t i = 0; i < texts.size(); ++i) {
        SplitWriter& writer =
            writers[static_cast<size_t>(texts[i].source * 2) + (texts[i].validation ? 1 : 0)];
        if (texts[i].begins) NAITE_TRY(writer.begin_document(manifest.end_of_document));
        NAITE_TRY(writer.add(ids[i], static_cast<int64_t>(texts[i].text.size())));
      }
      kill_point("data-pack");
      return Status();
    });
    Readings readings;
    NAITE_TRY(corpus_->read(
        pool_, /*final=*/true,
        [&](int source, const CorpusText& text) { return batcher.add(source, text); },
        reporter("packing"), readings));
    NAITE_TRY(batcher.flush());
    manifest.sources = readings.sources;
    for (size_t source = 0; source < manifest.sources.size(); ++source) {
      NAITE_ASSIGN(manifest.sources[source].train, writers[source * 2].finish());
      NAITE_ASSIGN(manifest.sources[source].validation, writers[source * 2 + 1].finish());
    }
    readings.sources = manifest.sources;
    NAITE_TRY(check_not_empty(readings));
    tell(readings);
    tell_of_vocabulary(tokenizer);
    kill_point("data-manifest");
    NAITE_TRY(
        write_file(directory_ / "manifest.json",
                   manifest.to_json().dump(2, ' ', false, json::error_handler_t::replace) + "\n"));
    kill_point("data-done");
    return manifest;
  }

  Status check_not_empty(const Readings& readings) const {
    for (size_t i = 0; i < readings.sources.size(); ++i) {
      const ManifestSource& source = readings.sources[i];
      const ReadCounts& counts = readings.counts[i];
      if (source.train.documents > 0) continue;
      const std::string lost = losses(counts);
      const char* const advice =
          source.validation.documents > 0 ? "; lower `validation`, or add text"
          : source.duplicates > 0         ? "; another source holds the same text: drop one of them"
                                          : "";
      return fail(
          "source `{}`: no training text in {} (files: {}, held out: {} documents, "
          "duplicates: {}, empty: {}, broken lines: {}){}{}{}",
          source.name, request_.data.sources[i].path, source.files.size(),
          source.validation.documents, source.duplicates, source.empty_documents,
          source.lines_skipped, lost.empty() ? "" : ": lost " + lost,
          counts.first.empty() ? "" : "; first: " + counts.first[0], advice);
    }
    return {};
  }

  void tell_of_vocabulary(const Tokenizer& tokenizer) const {
    const int64_t wanted = request_.tokenizer.vocab_size;
    if (!request_.note || !request_.tokenizer.file.empty() || tokenizer.vocab_size() >= wanted)
      return;
    request_.note(
        fmt::format("the vocabulary has {} tokens, not the {} of `vocab_size`: no other "
                    "pair of tokens occurs twice in the text",
                    tokenizer.vocab_size(), wanted));
  }

  const PrepareRequest& request_;
  ThreadPool& pool_;
  fs::path directory_;
  const Corpus* corpus_ = nullptr;
};

}  // namespace

namespace {

// Text may be packed again from where it lies now.
json without_paths(json options) {
  if (options.is_object() && options.contains("tokenizer") && options["tokenizer"].is_object() &&
      options["tokenizer"].contains("file"))
    options["tokenizer"]["file"] = nullptr;
  if (options.is_object() && options.contains("source") && options["source"].is_array())
    for (json& source : options["source"])
      if (source.is_object()) source.erase("path");
  return options;
}

Status check_split(const ManifestSplit& split, const std::string& stem) {
  int64_t tokens = 0, documents = 0;
  for (size_t i = 0; i < split.shards.size(); ++i) {
    const ManifestShard& shard = split.shards[i];
    if (shard.file != shard_name(stem, i))
      return fail("data/manifest.json names the shard {} where {} is packed", shard.file,
                  shard_name(stem, i));
    if (shard.tokens > split.tokens - tokens || shard.documents > split.documents - documents)
      return fail("data/manifest.json: the shards of {} have more than their sum", stem);
    tokens += shard.tokens;
    documents += shard.documents;
  }
  if (tokens == split.tokens && documents == split.documents) return {};
  return fail("data/manifest.json: {} documents and {} tokens in {}, its shards have {} and {}",
              split.documents, split.tokens, stem, documents, tokens);
}

// A tokenizer that was to be trained says nothing but its merges; whether they follow from the text
// is another question.
Status check_tokenizer(const Tokenizer& tokenizer, const TokenizerOptions& options) {
  if (!options.file.empty()) return {};
  const Tokenizer bytes = Tokenizer::bytes();
  if (options.vocab_size == 256) {
    if (tokenizer.to_json() == bytes.to_json() &&
        tokenizer.config_to_json() == bytes.config_to_json())
      return {};
    return fail(
        "tokenizer.json has {} entries and is not that of plain bytes, which the recipe's "
        "vocab_size = 256 asks for",
        tokenizer.vocab_size());
  }
  if (tokenizer.vocab_size() > options.vocab_size)
    return fail("tokenizer.json has {} entries, the recipe asks for {}", tokenizer.vocab_size(),
                options.vocab_size);
  if (tokenizer.is_of_our_making()) return {};
  return fail(
      "tokenizer.json or tokenizer_config.json is not what training a tokenizer gives, which "
      "the recipe asks for");
}

}  // namespace

Status check_prepared(const Manifest& manifest, const Tokenizer& tokenizer,
                      const TokenizerOptions& tokenizer_options, const DataOptions& data_options) {
  NAITE_TRY(check_tokenizer(tokenizer, tokenizer_options));
  if (without_paths(manifest.options) !=
      without_paths(fingerprint(tokenizer_options, data_options)))
    return fail("data/manifest.json was packed with other options than the recipe has");
  if (manifest.vocab_size != tokenizer.vocab_size() ||
      manifest.token_bytes != token_bytes_of(tokenizer) ||
      manifest.end_of_document != tokenizer.end_of_document())
    return fail("data/manifest.json was not packed with this tokenizer");
  if (manifest.sources.size() != data_options.sources.size())
    return fail("data/manifest.json has {} sources, the recipe {}", manifest.sources.size(),
                data_options.sources.size());
  for (size_t i = 0; i < manifest.sources.size(); ++i) {
    const ManifestSource& source = manifest.sources[i];
    const SourceOptions& options = data_options.sources[i];
    if (source.name != options.name || source.language != options.language ||
        source.license != options.license || source.origin != options.origin)
      return fail("data/manifest.json says other things of the source {} than the recipe",
                  options.name);
    NAITE_TRY(check_split(source.train, stem_of(source.name, i, false)));
    NAITE_TRY(check_split(source.validation, stem_of(source.name, i, true)));
  }
  return {};
}

Result<Manifest> prepare(const PrepareRequest& request) {
  ThreadPool pool(std::max(1, request.num_threads));
  return Preparation(request, pool).run();
}

Result<Tokenizer> train_tokenizer(const PrepareRequest& request) {
  ThreadPool pool(std::max(1, request.num_threads));
  return Preparation(request, pool).train_only();
}

}  // namespace naite::data
