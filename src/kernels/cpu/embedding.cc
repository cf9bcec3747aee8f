// SPDX-License-Identifier: Apache-2.0
// Rows picked by index: the embedding, its gradient, and the key/value cache's writer.
// Reduction order: a table row's gradient adds its tokens in ascending position; one task owns the
// row, found by a stable counting sort of the tokens by id.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// Asks for a row that comes up soon; where it lies nobody can guess.
HWY_INLINE void prefetch_row(const View& view, int64_t row) {
  const int64_t bytes = view.cols * dtype_bytes(view.dtype);
  const std::byte* from = view.as<std::byte>() + row * bytes;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// to[to_rows[i]] = from[from_rows[i]], converted, for i in [begin, end); without indices row i.
void copy_rows(const View& to, const int32_t* to_rows, const View& from, const int32_t* from_rows,
               int64_t begin, int64_t end) {
  const Source source(from);
  const Sink<> sink(to);
  const bool flushes = to.dtype == DType::kBf16;
  for (int64_t r = begin; r < end; ++r) {
    if (from_rows != nullptr && r + 1 < end) prefetch_row(from, from_rows[r + 1]);
    const int64_t to_at = (to_rows != nullptr ? to_rows[r] : r) * to.cols;
    const int64_t from_at = (from_rows != nullptr ? from_rows[r] : r) * from.cols;
    each_lanes(0, to.cols, [&](int64_t i, int count) NAITE_VECTORS {
      const Lanes x = source.moved(from_at + i, count);
      sink.write(to_at + i, count, flushes ? lanes_flush(x) : x);
    });
  }
}

// Adds the rows of dy that `tokens` names, in that order, to `row` of the table: the chain of a
// strip of columns stays in registers. `num_ahead` tokens follow in the list.
void add_rows(const Gradient& dtable, int64_t row, const View& dy, const int32_t* tokens,
              int64_t num_tokens, int64_t num_ahead) {
  const Source dy_source(dy), old(dtable.view);
  const Sink<> sink(dtable.view);
  const int64_t cols = dy.cols, at = row * cols;
  each_lanes(0, cols, [&](int64_t i, int count) NAITE_VECTORS {
    Lanes sum = dtable.accumulate ? old.read(at + i, count) : lanes_set(0.0f);
    for (int64_t k = 0; k < num_tokens; ++k)
      sum = sum + dy_source.read(tokens[k] * cols + i, count);
    sink.write(at + i, count, sum);
  });
  // The next row's tokens follow in the sorted order.
  if (num_ahead > 0) prefetch_row(dy, tokens[num_tokens]);
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

void run(const Context& context, const Embed& op) {
  const auto copy = NAITE_CHOOSE(context.isa, copy_rows);
  split(context, op.y.rows, row_grain(op.y.cols), [&](int64_t begin, int64_t end, int) {
    copy(op.y, nullptr, op.table, op.ids.as<int32_t>(), begin, end);
  });
}

void run(const Context& context, const StoreRows& op) {
  const auto copy = NAITE_CHOOSE(context.isa, copy_rows);
  split(context, op.x.rows, row_grain(op.x.cols), [&](int64_t begin, int64_t end, int) {
    copy(op.cache, op.slots.as<int32_t>(), op.x, nullptr, begin, end);
  });
}

int64_t workspace_bytes(const Context&, const EmbedBackward& op) {
  return (op.dy.rows + op.dtable.view.rows + 1) * static_cast<int64_t>(sizeof(int32_t));
}

void run(const Context& context, const EmbedBackward& op) {
  if (!op.dtable.wanted) return;
  const int64_t vocabulary = op.dtable.view.rows, tokens = op.dy.rows;
  auto* ends = reinterpret_cast<int32_t*>(op.workspace.data());  // [V + 1]
  int32_t* order = ends + vocabulary + 1;                        // [T], tokens sorted by id
  const int32_t* id = op.ids.as<int32_t>();
  std::fill(ends, ends + vocabulary + 1, 0);
  for (int64_t t = 0; t < tokens; ++t) ++ends[id[t] + 1];
  for (int64_t v = 0; v < vocabulary; ++v) ends[v + 1] += ends[v];
  // ends[v] is where row v begins; placing its tokens moves it to where row v ends.
  for (int64_t t = 0; t < tokens; ++t) order[ends[id[t]]++] = static_cast<int32_t>(t);

  const auto add = NAITE_CHOOSE(context.isa, add_rows);
  const int64_t row_bytes = op.dtable.view.cols * dtype_bytes(op.dtable.view.dtype);
  split(context, vocabulary, row_grain(op.dy.cols), [&](int64_t first, int64_t last, int) {
    for (int64_t v = first; v < last; ++v) {
      const int32_t begin = v == 0 ? 0 : ends[v - 1];
      if (ends[v] > begin) {
        add(op.dtable, v, op.dy, order + begin, ends[v] - begin, tokens - ends[v]);
      } else if (!op.dtable.accumulate) {
        std::memset(op.dtable.view.as<std::byte>() + v * row_bytes, 0,
                    static_cast<size_t>(row_bytes));
      }
    }
  });
}

}  // namespace naite::kernels::cpu
#endif
