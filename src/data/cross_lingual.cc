// SPDX-License-Identifier: Apache-2.0
#include "data/cross_lingual.h"

#include <algorithm>

#include "data/mixture.h"
#include "data/permutation.h"

namespace naite::data {

namespace {

constexpr int64_t kStrideMin = 16;
constexpr int64_t kStatesMax = 1 << 16;

// Streams of Purpose::kPacking: 0 draws whether the language changes, 1 + source orders documents.
constexpr uint32_t kChangeStream = 0;

}  // namespace

Result<CrossLingualStream> CrossLingualStream::open(Request request) {
  const std::vector<SourceOptions>& sources = request.data->sources;
  const auto differs = [&](const SourceOptions& source) {
    return source.language != sources[0].language;
  };
  if (std::none_of(sources.begin(), sources.end(), differs))
    return fail(
        "[data] packing = \"xlda\" needs sources of at least two languages, all are `{}`: "
        "set `language` in each [[data.source]], or packing = \"concatenate\"",
        sources[0].language);
  CrossLingualStream stream;
  stream.length_ = request.data->sequence_length;
  const int64_t rows = request.rows_per_step * request.total_steps;
  stream.stride_ = std::max(kStrideMin, rows / kStatesMax);
  stream.request_ = std::move(request);
  for (int64_t step = 0; step < stream.request_.total_steps; ++step) {
    const double progress =
        static_cast<double>(step) / static_cast<double>(stream.request_.total_steps);
    const std::vector<double> shares = shares_at(sources, progress);
    if (std::all_of(shares.begin(), shares.end(), [](double share) { return share == 0.0; }))
      return fail("[data] at progress {} every source has the weight 0: give one a weight there",
                  progress);
  }
  State state;
  state.owed.assign(sources.size(), 0.0);
  state.taken.tokens.assign(sources.size(), 0);
  state.taken.documents.assign(sources.size(), 0);
  for (int64_t row = 0; row <= rows; row += stream.stride_) {
    stream.kept_.push_back(state);
    stream.walk(state, stream.stride_ * stream.length_, nullptr);
  }
  return stream;
}

bool CrossLingualStream::of_language_drawn(const State& state, size_t source, bool change) const {
  if (state.source < 0) return true;
  const std::vector<SourceOptions>& sources = request_.data->sources;
  const bool same = sources[source].language == sources[static_cast<size_t>(state.source)].language;
  return same != change;
}

void CrossLingualStream::next_document(State& state) const {
  const std::vector<SourceOptions>& sources = request_.data->sources;
  const int64_t step = state.position / (length_ * request_.rows_per_step);
  const double progress = static_cast<double>(std::min(step, request_.total_steps)) /
                          static_cast<double>(request_.total_steps);
  const std::vector<double> shares = shares_at(sources, progress);
  const bool change =
      random_unit(request_.seed, Purpose::kPacking, static_cast<uint64_t>(state.num_documents),
                  kChangeStream) < request_.data->language_switch;
  size_t best = sources.size();
  // Without any source of the language drawn, any source will do.
  for (const bool restricted : {true, false}) {
    for (size_t i = 0; i < sources.size(); ++i) {
      if (shares[i] == 0.0 || (restricted && !of_language_drawn(state, i, change))) continue;
      if (best == sources.size() || state.owed[i] > state.owed[best]) best = i;
    }
    if (best < sources.size()) break;
  }
  if (best == sources.size()) best = 0;  // weights of 0 past the last step
  const SplitReader& split = *request_.splits[best];
  const int64_t taken = state.taken.documents[best]++;
  const PhiloxBlock random = random_block(request_.seed, Purpose::kPacking,
                                          static_cast<uint64_t>(taken / split.num_documents()),
                                          static_cast<uint32_t>(best) + 1);
  const Permutation order(split.num_documents(), {random[0], random[1]});
  const int64_t document = order.at(taken % split.num_documents());
  state.source = static_cast<int>(best);
  state.at = split.document_start(document);
  state.end = split.document_end(document);
  const double size = static_cast<double>(state.end - state.at);
  for (size_t i = 0; i < sources.size(); ++i) state.owed[i] += size * shares[i];
  state.owed[best] -= size;
  ++state.num_documents;
}

void CrossLingualStream::walk(State& state, int64_t count, int32_t* out) const {
  while (count > 0) {
    if (state.at == state.end) next_document(state);
    const int64_t taken = std::min(count, state.end - state.at);
    if (out != nullptr) {
      request_.splits[static_cast<size_t>(state.source)]->copy(state.at,
                                                               {out, static_cast<size_t>(taken)});
      out += taken;
    }
    state.at += taken;
    state.position += taken;
    state.taken.tokens[static_cast<size_t>(state.source)] += taken;
    count -= taken;
  }
}

CrossLingualStream::State CrossLingualStream::state_at(int64_t row) const {
  State state = kept_[static_cast<size_t>(row / stride_)];
  walk(state, row % stride_ * length_, nullptr);
  return state;
}

void CrossLingualStream::read_row(int64_t row, std::span<int32_t> out) const {
  State state = state_at(row);
  walk(state, static_cast<int64_t>(out.size()), out.data());
}

CrossLingualStream::Taken CrossLingualStream::taken_before(int64_t row) const {
  return state_at(row).taken;
}

}  // namespace naite::data
