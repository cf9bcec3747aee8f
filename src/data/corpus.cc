// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <algorithm>
#include <string>

#include "data/duplicates.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

// A source whose text is one document is cut at this byte; kNoCut: it has several.
constexpr int64_t kNoCut = -1;

struct CorpusSource {
  SourceOptions options;
  InputFiles inputs;
  bool strict = false;
  const std::atomic<bool>* stop = nullptr;
  int64_t cut = kNoCut;

  Status read(const InputFile& file, const std::function<Result<bool>(const Document&)>& visit,
              ReadCounts& counts, ManifestFile* hashed) const {
    return read_documents(file, options, strict, visit, counts, hashed, stop);
  }
};

Result<int64_t> documents_up_to_two(const CorpusSource& source, int64_t& bytes) {
  int64_t documents = 0;
  for (const InputFile& file : source.inputs.files) {
    ReadCounts ignored;
    NAITE_TRY(source.read(
        file,
        [&](const Document& document) -> Result<bool> {
          documents += document.begins;
          bytes += static_cast<int64_t>(document.text.size());
          return documents < 2;
        },
        ignored, nullptr));
    if (documents >= 2) break;
  }
  return documents;
}

// The first place at or after `target` where a line ends; without one, the character at `target`.
Result<int64_t> line_end_after(const CorpusSource& source, int64_t target) {
  int64_t offset = 0, cut = kNoCut, fallback = target;
  for (const InputFile& file : source.inputs.files) {
    ReadCounts ignored;
    NAITE_TRY(source.read(
        file,
        [&](const Document& document) -> Result<bool> {
          const int64_t begin = offset;
          offset += static_cast<int64_t>(document.text.size());
          if (offset < target) return true;
          const size_t from = static_cast<size_t>(std::max<int64_t>(target - 1 - begin, 0));
          if (target >= begin && target < offset)
            fallback = begin + static_cast<int64_t>(floor_to_char(
                                   document.text, static_cast<size_t>(target - begin)));
          const size_t newline = document.text.find('\n', from);
          if (newline == std::string_view::npos) return true;
          cut = begin + static_cast<int64_t>(newline) + 1;
          return false;
        },
        ignored, nullptr));
    if (cut != kNoCut) break;
  }
  // A line end at the very end would hold nothing out.
  return cut == kNoCut || cut == offset ? fallback : cut;
}

Status choose_cut(CorpusSource& source, double validation) {
  int64_t bytes = 0;
  NAITE_ASSIGN(const int64_t documents, documents_up_to_two(source, bytes));
  if (documents != 1) return {};
  const int64_t held_out = static_cast<int64_t>(static_cast<double>(bytes) * validation);
  source.cut = bytes;
  if (held_out == 0) return {};
  NAITE_ASSIGN(source.cut, line_end_after(source, bytes - held_out));
  return {};
}

}  // namespace

struct Corpus::State {
  DataOptions options;
  std::vector<CorpusSource> sources;
};

namespace {

constexpr size_t kBatchBytes = size_t{16} << 20;
constexpr int64_t kProgressBytes = int64_t{4} << 20;

// Decides what becomes of each document, in the order of the stream. Documents wait in batches,
// whose fingerprints are computed by all threads.
class Filter {
 public:
  Filter(const DataOptions& options, bool final, ThreadPool& pool, const Corpus::Visit& visit)
      : options_(options),
        near_(options.near_duplicates == "drop" || (final && options.near_duplicates == "report")),
        pool_(pool),
        duplicates_(options.deduplicate),
        visit_(visit) {}

  void start_source(int index, const CorpusSource& source, ManifestSource& counts) {
    index_ = index;
    source_ = &source;
    counts_ = &counts;
    offset_ = 0;
    training_begun_ = validation_begun_ = false;
  }

  Status take(const Document& document) {
    if (source_->cut != kNoCut) return take_cut(document.text);
    if (held_.size() + document.text.size() > kBatchBytes) NAITE_TRY(flush());
    waiting_.push_back({held_.size(), document.text.size(), document.begins, document.ends, {}});
    held_ += document.text;
    return {};
  }

  // Decides about all documents taken so far; needed at the end of every source.
  Status flush() {
    const std::string_view held = held_;
    pool_.run(static_cast<int64_t>(waiting_.size()), [&](int64_t task, int) {
      Waiting& document = waiting_[static_cast<size_t>(task)];
      const bool whole = document.begins && document.ends;
      if (document.begins)
        document.print =
            fingerprint_of(held.substr(document.offset, document.size), near_ && whole);
    });
    for (const Waiting& document : waiting_) {
      if (document.begins) keep_ = judge(document);
      if (keep_)
        NAITE_TRY(visit_(
            index_, {held.substr(document.offset, document.size), document.begins, validation_}));
    }
    counts_->not_remembered += duplicates_.not_remembered() - not_remembered_;
    not_remembered_ = duplicates_.not_remembered();
    held_.clear();
    waiting_.clear();
    return {};
  }

 private:
  struct Waiting {
    size_t offset, size;
    bool begins, ends;
    Fingerprint print;
  };

  bool judge(const Waiting& document) {
    // 53 bits of the hash against the share, exact in double.
    validation_ = static_cast<double>(document.print.hash >> 11) * 0x1.0p-53 < options_.validation;
    if (!document.ends) return true;  // a long document in parts: not compared
    const Duplicates::Verdict verdict = duplicates_.judge(document.print);
    counts_->duplicates += verdict == Duplicates::Verdict::kSame;
    counts_->near_duplicates += verdict == Duplicates::Verdict::kNear;
    if (verdict == Duplicates::Verdict::kNear) return options_.near_duplicates != "drop";
    return verdict == Duplicates::Verdict::kNew;
  }

  Status take_cut(std::string_view text) {
    const int64_t left = std::max<int64_t>(source_->cut - offset_, 0);
    const size_t for_training =
        static_cast<size_t>(std::min<int64_t>(left, static_cast<int64_t>(text.size())));
    offset_ += static_cast<int64_t>(text.size());
    if (for_training > 0) {
      NAITE_TRY(visit_(index_, {text.substr(0, for_training), !training_begun_, false}));
      training_begun_ = true;
    }
    if (for_training == text.size()) return {};
    NAITE_TRY(visit_(index_, {text.substr(for_training), !validation_begun_, true}));
    validation_begun_ = true;
    return {};
  }

  const DataOptions& options_;
  bool near_;
  ThreadPool& pool_;
  Duplicates duplicates_;
  const Corpus::Visit& visit_;
  int index_ = 0;
  const CorpusSource* source_ = nullptr;
  ManifestSource* counts_ = nullptr;
  std::string held_;
  std::vector<Waiting> waiting_;
  int64_t offset_ = 0, not_remembered_ = 0;
  bool keep_ = true, validation_ = false, training_begun_ = false, validation_begun_ = false;
};

}  // namespace

Corpus::Corpus(std::unique_ptr<State> state) : state_(std::move(state)) {}
Corpus::Corpus(Corpus&&) noexcept = default;
Corpus::~Corpus() = default;

Result<Corpus> Corpus::open(const DataOptions& options,
                            const std::vector<std::filesystem::path>& base_directories,
                            const std::atomic<bool>* stop) {
  auto state = std::make_unique<State>();
  state->options = options;
  for (const SourceOptions& source_options : options.sources) {
    CorpusSource source;
    source.options = source_options;
    source.strict = options.strict;
    source.stop = stop;
    NAITE_ASSIGN(source.inputs, find_inputs(source_options.path, base_directories, stop));
    if (source.inputs.files.empty())
      return fail("source `{}`: {}", source_options.name,
                  no_text_file(source_options.path, source.inputs).message);
    NAITE_TRY(choose_cut(source, options.validation));
    state->sources.push_back(std::move(source));
  }
  return Corpus(std::move(state));
}

int64_t Corpus::total_file_bytes() const {
  int64_t total = 0;
  for (const CorpusSource& source : state_->sources)
    for (const InputFile& file : source.inputs.files) total += file.bytes;
  return total;
}

Status Corpus::read(ThreadPool& pool, bool final, const Visit& visit,
                    const std::function<void(int64_t)>& progress, Readings& readings) const {
  std::vector<ManifestSource>& sources = readings.sources;
  sources.assign(state_->sources.size(), ManifestSource{});
  readings.counts.assign(sources.size(), ReadCounts{});
  readings.inputs.clear();
  Filter filter(state_->options, final, pool, visit);
  int64_t file_bytes = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const CorpusSource& source = state_->sources[i];
    ManifestSource& counts = sources[i];
    counts.name = source.options.name;
    counts.language = source.options.language;
    counts.license = source.options.license;
    counts.origin = source.options.origin;
    counts.files_skipped = source.inputs.skipped;
    filter.start_source(static_cast<int>(i), source, counts);
    ReadCounts& read = readings.counts[i];
    readings.inputs.push_back(source.inputs);
    for (const InputFile& file : source.inputs.files) {
      ManifestFile hashed;
      int64_t seen = 0, told = 0;
      NAITE_TRY(source.read(
          file,
          [&](const Document& document) -> Result<bool> {
            NAITE_TRY(filter.take(document));
            seen += static_cast<int64_t>(document.text.size());
            if (progress && seen - told > kProgressBytes) {
              told = seen;
              progress(file_bytes + std::min(seen, file.bytes));  // a guess for packed files
            }
            return true;
          },
          read, &hashed));
      file_bytes += hashed.bytes;
      counts.files.push_back(std::move(hashed));
      if (progress) progress(file_bytes);
    }
    NAITE_TRY(filter.flush());
    counts.lines_skipped = read.lines_skipped;
    counts.empty_documents = read.empty_documents;
  }
  return {};
}

}  // namespace naite::data
