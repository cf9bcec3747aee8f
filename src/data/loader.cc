// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <algorithm>
#include <optional>

#include "data/cross_lingual.h"
#include "data/mixture.h"
#include "data/permutation.h"
#include "data/shards.h"
#include "data/tokenizer.h"

namespace naite::data {

namespace fs = std::filesystem;

namespace {

struct LoaderSource {
  std::string name;
  SplitReader train, validation;
  int64_t rows_per_epoch = 0;
};

uint64_t high_product(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

// T + 1 neighbouring tokens of a source: a row and the token after it.
struct Stream {
  std::vector<int32_t> tokens;
  std::vector<float> weights;  // empty: all 1

  Stream(int64_t length, bool has_weights)
      : tokens(static_cast<size_t>(length + 1)),
        weights(has_weights ? static_cast<size_t>(length + 1) : 0) {}
};

// Where rows are written: the columns of a batch.
struct Columns {
  std::span<int32_t> ids, targets, positions, spans;
  std::span<float> weights;

  explicit Columns(Batch& batch)
      : ids(batch.ints("ids")),
        targets(batch.ints("targets")),
        positions(batch.ints("positions")),
        spans(batch.ints("spans")) {
    if (batch.has("weights")) weights = batch.floats("weights");
  }
};

// The split taken as a circle: after its last token comes the first one, which opens a document.
template <class Value>
void read_cyclic(const SplitReader& split, int64_t first, std::span<Value> out) {
  const int64_t total = split.num_tokens();
  first %= total;
  while (!out.empty()) {
    const size_t count =
        static_cast<size_t>(std::min(total - first, static_cast<int64_t>(out.size())));
    split.copy(first, out.first(count));
    out = out.subspan(count);
    first = 0;
  }
}

}  // namespace

struct Loader::State {
  LoaderRequest request;
  Tokenizer tokenizer = Tokenizer::bytes();
  int32_t end_of_document = -1;
  int64_t length = 0;  // T
  std::vector<LoaderSource> sources;
  Mixture mixture;
  std::optional<CrossLingualStream> cross_lingual;  // packing = "xlda"; the mixture is unused then

  bool has_weights = false;

  void write_row(const Stream& stream, int64_t row, const Columns& out) const;
  void read_row(size_t source, int64_t index, Stream& out) const;
};

void Loader::State::write_row(const Stream& stream, int64_t row, const Columns& out) const {
  const bool documents = request.data.attention == "document";
  const int64_t first = row * length;
  int64_t begin = 0;  // of the document, in this row
  for (int64_t t = 0; t < length; ++t) {
    const size_t at = static_cast<size_t>(first + t), next = static_cast<size_t>(t + 1);
    const int32_t token = stream.tokens[static_cast<size_t>(t)];
    if (documents && token == end_of_document) begin = t;
    out.ids[at] = token;
    out.targets[at] = stream.tokens[next];
    out.positions[at] = static_cast<int32_t>(t - begin);
    out.spans[2 * at] = static_cast<int32_t>(first + begin);
    out.spans[2 * at + 1] = static_cast<int32_t>(first + t + 1);
    if (out.weights.empty()) continue;
    out.weights[at] = stream.weights[next];
    if (out.weights[at] == 0) out.targets[at] = -1;
  }
}

// Row `index` of all rows ever taken from a source: an epoch is a random order of the rows between
// cuts that lie at a random offset on the circle.
void Loader::State::read_row(size_t source, int64_t index, Stream& out) const {
  const LoaderSource& from = sources[source];
  const int64_t epoch = index / from.rows_per_epoch;
  const PhiloxBlock random =
      random_block(request.seed, Purpose::kDataOrder, static_cast<uint64_t>(epoch),
                   static_cast<uint32_t>(source) + 1);
  const Permutation order(from.rows_per_epoch, {random[0], random[1]});
  const uint64_t offset = high_product(uint64_t{random[3]} << 32 | random[2],
                                       static_cast<uint64_t>(from.train.num_tokens()));
  const int64_t row = order.at(index % from.rows_per_epoch);
  const int64_t first = static_cast<int64_t>(offset) + row * length;
  read_cyclic(from.train, first, std::span(out.tokens));
  if (!out.weights.empty()) read_cyclic(from.train, first, std::span(out.weights));
}

Result<Loader> Loader::open(const LoaderRequest& request) {
  auto state = std::make_unique<State>();
  state->request = request;
  state->length = request.data.sequence_length;
  NAITE_ASSIGN(const Manifest manifest, Manifest::load(request.run_directory));
  NAITE_ASSIGN(state->tokenizer, Tokenizer::load(request.run_directory / "tokenizer.json"));
  state->end_of_document = manifest.end_of_document;
  const fs::path directory = request.run_directory / "data";
  for (const SourceOptions& options : request.data.sources) {
    const auto packed = std::find_if(manifest.sources.begin(), manifest.sources.end(),
                                     [&](const auto& one) { return one.name == options.name; });
    if (packed == manifest.sources.end())
      return fail("{} holds no source `{}`: use another run directory", directory.string(),
                  options.name);
    LoaderSource source;
    source.name = options.name;
    NAITE_ASSIGN(source.train, SplitReader::open(directory, packed->train, manifest.token_bytes));
    NAITE_ASSIGN(source.validation,
                 SplitReader::open(directory, packed->validation, manifest.token_bytes));
    source.rows_per_epoch = source.train.num_tokens() / state->length;
    if (source.rows_per_epoch == 0)
      return fail(
          "source `{}`: {} training tokens, fewer than one row of {}: lower "
          "`sequence_length` or add text",
          options.name, source.train.num_tokens(), state->length);
    state->has_weights |= source.train.has_weights() || source.validation.has_weights();
    state->sources.push_back(std::move(source));
  }
  if (request.data.packing == "xlda") {
    if (state->has_weights)
      return fail("{}: packing = \"xlda\" takes no text with weights; write \"concatenate\"",
                  directory.string());
    CrossLingualStream::Request packing;
    packing.data = &state->request.data;
    for (const LoaderSource& source : state->sources) packing.splits.push_back(&source.train);
    packing.seed = request.seed;
    packing.rows_per_step = request.rows_per_step;
    packing.total_steps = request.total_steps;
    NAITE_ASSIGN(state->cross_lingual, CrossLingualStream::open(std::move(packing)));
  }
  NAITE_ASSIGN(state->mixture,
               Mixture::make(request.data.sources, request.rows_per_step, request.total_steps));
  return Loader(std::move(state));
}

Loader::Loader(std::unique_ptr<State> state) : state_(std::move(state)) {}
Loader::Loader(Loader&&) noexcept = default;
Loader::~Loader() = default;

int64_t Loader::sequence_length() const { return state_->length; }
int Loader::num_sources() const { return static_cast<int>(state_->sources.size()); }
const std::string& Loader::source_name(int source) const {
  return state_->sources[static_cast<size_t>(source)].name;
}

void Loader::declare(Batch& batch) const {
  if (state_->has_weights && !batch.has("weights"))
    batch.add_floats("weights", batch.column("ids").rows);
}

void Loader::fill(int64_t step, int64_t first_row, int64_t num_rows, Batch& batch) const {
  const State& state = *state_;
  const int64_t rows = state.request.rows_per_step;
  NAITE_CHECK(step >= 0 && step < state.request.total_steps && first_row >= 0 &&
                  first_row + num_rows <= rows,
              "step {} of {}, rows {} + {} of {}", step, state.request.total_steps, first_row,
              num_rows, rows);
  // Where the rows of each source stand in the step is random, so that micro-batches are mixed.
  const PhiloxBlock random =
      random_block(state.request.seed, Purpose::kDataOrder, static_cast<uint64_t>(step), 0);
  const Permutation order(rows, {random[0], random[1]});
  Stream stream(state.length, state.has_weights);
  const Columns columns(batch);
  std::vector<int64_t> before, after;
  if (!state.cross_lingual) {
    before = state.mixture.rows_before(step);
    after = state.mixture.rows_before(step + 1);
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    int64_t slot = order.at(first_row + row);
    if (state.cross_lingual) {
      state.cross_lingual->read_row(step * rows + slot, stream.tokens);
    } else {
      size_t source = 0;
      while (slot >= after[source] - before[source]) {
        slot -= after[source] - before[source];
        ++source;
      }
      state.read_row(source, before[source] + slot, stream);
    }
    state.write_row(stream, row, columns);
  }
}

std::vector<int64_t> Loader::tokens_by_source(int64_t first_step, int64_t end_step) const {
  const auto taken_before = [&](int64_t step) {
    if (state_->cross_lingual)
      return state_->cross_lingual->taken_before(step * state_->request.rows_per_step).tokens;
    std::vector<int64_t> tokens = state_->mixture.rows_before(step);
    for (int64_t& count : tokens) count *= state_->length;
    return tokens;
  };
  const std::vector<int64_t> before = taken_before(first_step);
  std::vector<int64_t> tokens = taken_before(end_step);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] -= before[i];
  return tokens;
}

std::vector<double> Loader::epochs_by_source(int64_t step) const {
  const std::vector<int64_t> tokens = tokens_by_source(0, step);
  std::vector<double> epochs;
  for (size_t i = 0; i < tokens.size(); ++i)
    epochs.push_back(static_cast<double>(tokens[i]) /
                     static_cast<double>(state_->sources[i].rows_per_epoch * state_->length));
  return epochs;
}

int64_t Loader::num_validation_rows(int source) const {
  const int64_t tokens = state_->sources[static_cast<size_t>(source)].validation.num_tokens();
  return (tokens + state_->length - 1) / state_->length;
}

int64_t Loader::fill_validation(int source, int64_t first_row, int64_t num_rows,
                                Batch& batch) const {
  const State& state = *state_;
  const SplitReader& split = state.sources[static_cast<size_t>(source)].validation;
  NAITE_CHECK(first_row >= 0 && first_row + num_rows <= num_validation_rows(source),
              "validation rows {} + {} of {}", first_row, num_rows, num_validation_rows(source));
  int64_t bytes = 0;
  Stream stream(state.length, state.has_weights);
  const Columns columns(batch);
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t first = (first_row + row) * state.length;
    const size_t there = static_cast<size_t>(
        std::min(split.num_tokens() - first, static_cast<int64_t>(stream.tokens.size())));
    split.copy(first, std::span(stream.tokens).first(there));
    if (state.has_weights) split.copy(first, std::span(stream.weights).first(there));
    std::fill(stream.tokens.begin() + static_cast<std::ptrdiff_t>(there), stream.tokens.end(),
              state.end_of_document);
    state.write_row(stream, row, columns);
    for (int64_t t = 0; t < state.length; ++t) {
      int32_t& target = columns.targets[static_cast<size_t>(row * state.length + t)];
      if (target < 0) continue;
      bytes += state.tokenizer.text_bytes(target);
      if (state.tokenizer.is_special(target)) target = -1;
    }
  }
  return bytes;
}

}  // namespace naite::data
