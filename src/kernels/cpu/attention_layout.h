// SPDX-License-Identifier: Apache-2.0
#pragma once
// How attention cuts its work and its workspace. Nothing here reaches a result: operations.h fixes
// the order of every sum without naming a tile.
//
// Operands of products are kept in "units" of four bytes along the summed dimension: one fp32
// element, or (bf16 on a machine with vdpbf16ps) a pair of bf16 elements. Where that instruction is
// missing, bf16 elements are widened to fp32 and stored with the odd element of a pair before the
// even one, so that the plain fp32 kernel adds them in the contract's order.
#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cpu/carver.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

enum class Format : uint8_t { kFp32, kWidenedBf16, kPairedBf16 };

inline Format attention_format(Isa isa, DType compute) {
  if (compute == DType::kF32) return Format::kFp32;
  return isa == Isa::kAvx512Bf16 ? Format::kPairedBf16 : Format::kWidenedBf16;
}

inline constexpr int64_t kUnitBytes = 4;
inline constexpr int64_t kPanel = 64;        // keys whose scores are computed together
inline constexpr int64_t kQueryTile = 6;     // rows of scores that are kept whole
inline constexpr int64_t kKeyBlock = 128;    // backward: keys of which dk and dv are held
inline constexpr int64_t kQueryBlock = 128;  // backward: queries that meet them at a time

inline int64_t format_units(Format format, int64_t elements) {
  switch (format) {
    case Format::kFp32:
      return elements;
    case Format::kWidenedBf16:
      return round_up(elements, 2);
    case Format::kPairedBf16:
      return (elements + 1) / 2;
  }
  NAITE_CHECK(false, "format {}", static_cast<int>(format));
}

// Consecutive queries of one document at consecutive positions.
struct Segment {
  int32_t first_query, num_queries;
  int32_t begin;           // the document's first row in k and v
  int32_t first_position;  // of the first query, counted from there
};

// The shapes of one call, and what follows from them.
struct AttentionShape {
  AttentionShape(const Context& context, const View& q, const View& k,
                 const AttentionArguments& arguments)
      : a(arguments),
        format(attention_format(context.isa, q.dtype)),
        tokens(q.rows),
        keys(k.rows),
        group(a.num_heads / a.num_kv_heads),
        packed(!a.cached),
        head_units(format_units(format, a.head_dim)),
        value_units(format_units(format, a.value_dim)),
        head_cols(round_up(a.head_dim, 16)),
        value_cols(round_up(a.value_dim, 16)),
        padded_keys(round_up(keys + 1, kPanel) + kPanel) {
    // A whole row of scores is kept for every row of a tile. With a cache the keys are packed
    // anew for every tile, so a tile has all heads and as many queries as four megabytes of scores
    // allow.
    const int64_t fitting = (int64_t{4} << 20) / (padded_keys * 4) / a.num_heads;
    tile_queries = packed ? kQueryTile : std::clamp<int64_t>(fitting, 1, 16);
    tile_rows = packed ? kQueryTile : tile_queries * a.num_heads;
  }

  AttentionArguments a;
  Format format;
  int64_t tokens, keys, group;
  bool packed;  // keys and values of a whole document are packed before its queries are answered
  int64_t head_units, value_units;  // units of one query or key, and of one value, row
  int64_t head_cols, value_cols;    // columns, padded to whole vectors
  int64_t padded_keys;
  int64_t tile_queries, tile_rows;
};

// What one thread needs for the forward pass.
struct ForwardScratch {
  ForwardScratch(const AttentionShape& s, std::byte* memory) {
    Carver carver(memory);
    const int64_t key_panels = s.packed ? s.padded_keys / kPanel : 1;
    keys = carver.take<uint32_t>(key_panels * s.head_units * kPanel);
    values = carver.take<uint32_t>(format_units(s.format, key_panels * kPanel) * s.value_cols);
    queries = carver.take<uint32_t>(s.tile_rows * s.head_units);
    scores = carver.take<float>(s.tile_rows * s.padded_keys);
    weights = s.format == Format::kPairedBf16 ? carver.take<uint16_t>(s.tile_rows * s.padded_keys)
                                              : nullptr;
    outputs = carver.take<float>(s.tile_rows * s.value_cols);
    maxima = carver.take<float>(round_up(s.tile_rows, 16));
    sums = carver.take<float>(round_up(s.tile_rows, 16));
    bytes = carver.used();
  }
  uint32_t* keys;     // [panels][head_units][64], transposed
  uint32_t* values;   // [units of keys][value_cols]
  uint32_t* queries;  // [rows][head_units]
  float* scores;      // [rows][padded_keys]
  uint16_t* weights;  // the same in bf16, where pairs are read
  float* outputs;     // [rows][value_cols]
  float* maxima;      // [rows], m c; then lse
  float* sums;        // [rows], l; then 1 / l
  int64_t bytes;
};

// What one thread needs for the backward pass.
struct BackwardScratch {
  BackwardScratch(const AttentionShape& s, std::byte* memory) {
    Carver carver(memory);
    const int64_t rows = round_up(s.tokens + 1, kQueryBlock) + kQueryBlock;
    const int64_t row_units = format_units(s.format, rows);
    const int64_t block_units = format_units(s.format, kKeyBlock);
    const int64_t query_units = format_units(s.format, kQueryBlock);
    key_panels = carver.take<uint32_t>(s.head_units * kKeyBlock);
    value_panels = carver.take<uint32_t>(s.value_units * kKeyBlock);
    keys = carver.take<uint32_t>(block_units * s.head_cols);
    query_rows = carver.take<uint32_t>(kQueryBlock * s.head_units);
    dy_rows = carver.take<uint32_t>(kQueryBlock * s.value_units);
    queries = carver.take<uint32_t>(s.group * row_units * s.head_cols);
    dys = carver.take<uint32_t>(s.group * row_units * s.value_cols);
    delta = carver.take<float>(s.group * rows);
    scores = carver.take<float>(kQueryBlock * kKeyBlock);
    dweights = carver.take<float>(kQueryBlock * kKeyBlock);
    weights = carver.take<uint32_t>(query_units * kKeyBlock);
    dscores = carver.take<uint32_t>(query_units * kKeyBlock);
    dscore_rows = carver.take<uint32_t>(kQueryBlock * block_units);
    dq = carver.take<float>(s.group * rows * s.head_cols);
    dk = carver.take<float>(kKeyBlock * s.head_cols);
    dv = carver.take<float>(kKeyBlock * s.value_cols);
    padded_rows = rows;
    bytes = carver.used();
  }
  int64_t padded_rows;
  uint32_t *key_panels, *value_panels;  // [panels][units of the width][64], transposed
  uint32_t* keys;                       // [units of the block][head_cols]
  uint32_t *query_rows, *dy_rows;       // [queries of the block][units of the width]
  uint32_t *queries, *dys;              // [group][units of the rows][cols], the whole document
  float* delta;                         // [group][rows]
  float *scores, *dweights;             // [queries of the block][keys of the block]
  uint32_t *weights, *dscores;          // [units of the queries][keys of the block]
  uint32_t* dscore_rows;                // [queries of the block][units of the keys]
  float* dq;                            // [group][rows][head_cols]
  float *dk, *dv;                       // [keys of the block][cols]
  int64_t bytes;
};

// The shape and the workspace of one call: the segments, then the threads' Scratch.
template <class Scratch>
struct AttentionMemory {
  template <class Op>
  AttentionMemory(const Context& context, const Op& op, std::byte* workspace)
      : shape(context, op.q, op.k, op.arguments), thread_bytes(Scratch(shape, nullptr).bytes) {
    Carver carver(workspace);
    segments = carver.take<Segment>(shape.tokens);
    threads = carver.take<std::byte>(thread_bytes * context.pool.num_threads());
    bytes = carver.used();
  }
  std::byte* of_thread(int thread) const { return threads + thread * thread_bytes; }

  const AttentionShape shape;
  const int64_t thread_bytes;
  Segment* segments;
  std::byte* threads;
  int64_t bytes;
};

// Finds the segments of `spans` [T, 2] and writes them to `segments`, which has room for T.
inline int64_t find_segments(const View& spans, Segment* segments) {
  const auto* span = spans.as<int32_t>();
  int64_t count = 0;
  for (int64_t t = 0; t < spans.rows; ++t) {
    const int32_t begin = span[2 * t], position = span[2 * t + 1] - 1 - begin;
    if (count > 0) {
      Segment& last = segments[count - 1];
      if (last.begin == begin && last.first_position + last.num_queries == position) {
        ++last.num_queries;
        continue;
      }
    }
    segments[count++] = {static_cast<int32_t>(t), 1, begin, position};
  }
  return count;
}

}  // namespace naite::kernels::cpu
