// SPDX-License-Identifier: Apache-2.0
// Attention against the reference where the operation table does not go: tiles that end everywhere,
// values that overflow, underflow and cancel, and the promise that decoding, chunks of a prompt and
// the whole sequence give the same bits.
#include "kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/isa.h"

namespace naite::kernels {
namespace {

struct Tensor {
  Tensor(int64_t rows, int64_t cols, DType dtype)
      : bytes(static_cast<size_t>(rows * cols * dtype_bytes(dtype))),
        view{bytes.data(), dtype, rows, cols} {}
  std::vector<std::byte> bytes;
  View view;
};

// Mostly values around one; with `hostile`, also zeros of both signs, subnormals, and values whose
// products overflow or vanish.
Tensor random(int64_t rows, int64_t cols, DType dtype, uint32_t seed, bool hostile) {
  Tensor tensor(rows, cols, dtype);
  uint64_t state = seed + 1;
  for (int64_t i = 0; i < rows * cols; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    float value = static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-30f;
    const auto kind = static_cast<uint32_t>(state >> 20) & 255;
    if (hostile && kind < 8) value *= 0x1p-100f;
    if (hostile && kind >= 8 && kind < 10) value *= 0x1p60f;
    if (hostile && kind == 10) value = 0x1p-130f;
    if (hostile && kind == 11) value = -0.0f;
    if (dtype == DType::kF32)
      tensor.view.as<float>()[i] = value;
    else
      tensor.view.as<uint16_t>()[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  }
  return tensor;
}

// NaN payloads are outside the contract.
void expect_same(const Tensor& found, const Tensor& wanted, const std::string& what) {
  for (int64_t i = 0; i < found.view.size(); ++i) {
    float a, b;
    if (found.view.dtype == DType::kF32) {
      a = found.view.as<float>()[i], b = wanted.view.as<float>()[i];
    } else {
      a = bf16_to_float(found.view.as<uint16_t>()[i]);
      b = bf16_to_float(wanted.view.as<uint16_t>()[i]);
    }
    if (std::isnan(a) && std::isnan(b)) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b))
        << what << " [" << i / found.view.cols << ", " << i % found.view.cols << "]: " << a
        << ", not " << b;
  }
}

Tensor spans_of(const std::vector<int32_t>& values) {
  Tensor spans(static_cast<int64_t>(values.size()) / 2, 2, DType::kI32);
  std::memcpy(spans.bytes.data(), values.data(), spans.bytes.size());
  return spans;
}

// With the workspace that the call asks for, full of NaN.
template <class Op>
void submit(Kernels& k, Op op) {
  std::vector<std::byte> memory(static_cast<size_t>(k.workspace_bytes(op)) + 64, std::byte{0xff});
  auto* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  op.workspace = {aligned, memory.size() - 64};
  const Status status = k.submit(op);
  ASSERT_TRUE(status.ok()) << status.error().message;
}

struct Outcome {
  Tensor y, lse, dq, dk, dv;
};

Outcome run(Kernels& k, DType dtype, const std::vector<int64_t>& documents,
            const AttentionArguments& a, bool hostile) {
  std::vector<int32_t> values;
  int32_t begin = 0, row = 0;
  for (const int64_t length : documents) {
    for (int64_t i = 0; i < length; ++i) {
      values.push_back(begin);
      values.push_back(++row);
    }
    begin = row;
  }
  const Tensor spans = spans_of(values);
  const int64_t T = row;
  const Tensor q = random(T, a.num_heads * a.head_dim, dtype, 1, hostile);
  const Tensor key = random(T, a.num_kv_heads * a.head_dim, dtype, 2, hostile);
  const Tensor v = random(T, a.num_kv_heads * a.value_dim, dtype, 3, hostile);
  const Tensor dy = random(T, a.num_heads * a.value_dim, dtype, 4, hostile);
  Outcome out{Tensor(T, a.num_heads * a.value_dim, dtype), Tensor(T, a.num_heads, DType::kF32),
              Tensor(T, q.view.cols, dtype), Tensor(T, key.view.cols, dtype),
              Tensor(T, v.view.cols, dtype)};
  submit(k, Attention{out.y.view, out.lse.view, {}, q.view, key.view, v.view, spans.view, a});
  submit(k, AttentionBackward{{out.dq.view, true, false},
                              {out.dk.view, true, false},
                              {out.dv.view, true, false},
                              dy.view,
                              out.y.view,
                              out.lse.view,
                              q.view,
                              key.view,
                              v.view,
                              spans.view,
                              a});
  return out;
}

void compare(const std::vector<int64_t>& documents, const AttentionArguments& a, bool hostile) {
  set_float_mode();
  const auto reference = make_reference(DType::kF32);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const Outcome wanted = run(*reference, dtype, documents, a, hostile);
    for (const cpu::Isa isa : cpu::available_isas()) {
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        auto cpu = make_cpu(pool, cpu::isa_name(isa));
        ASSERT_TRUE(cpu.ok());
        const Outcome found = run(**cpu, dtype, documents, a, hostile);
        const std::string what =
            fmt::format(" {} {} {} threads", cpu::isa_name(isa), dtype_name(dtype), threads);
        expect_same(found.y, wanted.y, "y" + what);
        expect_same(found.lse, wanted.lse, "lse" + what);
        expect_same(found.dq, wanted.dq, "dq" + what);
        expect_same(found.dk, wanted.dk, "dk" + what);
        expect_same(found.dv, wanted.dv, "dv" + what);
      }
    }
  }
}

TEST(Attention, BlocksEndAnywhere) {
  compare({129, 7, 66}, {2, 1, 20, 36, 0.25, 0}, false);
  compare({259}, {2, 2, 16, 16, 0.25, 0}, false);
}

TEST(Attention, WindowsCrossBlocks) { compare({200, 141}, {3, 3, 17, 16, 0.25, 131}, false); }

TEST(Attention, HostileValuesGiveTheReferencesBits) {
  compare({83, 150}, {4, 2, 32, 48, 0.25, 0}, true);
  compare({131}, {2, 1, 24, 16, 1.0, 40}, true);
}

TEST(Attention, DecodingAndChunksGiveTheBitsOfTheWholeSequence) {
  set_float_mode();
  const AttentionArguments a{4, 2, 64, 32, 0.125, 0};
  constexpr int64_t kTokens = 150, kCapacity = 400, kBegin = 37;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    ThreadPool pool(2);
    auto cpu = make_cpu(pool, "");
    ASSERT_TRUE(cpu.ok());
    Kernels& k = **cpu;
    const Tensor q = random(kTokens, 4 * 64, dtype, 1, false);
    const Tensor key = random(kTokens, 2 * 64, dtype, 2, false);
    const Tensor v = random(kTokens, 2 * 32, dtype, 3, false);
    // The same keys somewhere in a cache full of other things, infinities and NaN among them.
    Tensor key_cache(kCapacity, 2 * 64, dtype), v_cache(kCapacity, 2 * 32, dtype);
    std::memset(key_cache.bytes.data(), 0xff, key_cache.bytes.size());
    std::memset(v_cache.bytes.data(), 0xff, v_cache.bytes.size());
    std::memcpy(key_cache.bytes.data() + kBegin * key_cache.bytes.size() / kCapacity,
                key.bytes.data(), key.bytes.size());
    std::memcpy(v_cache.bytes.data() + kBegin * v_cache.bytes.size() / kCapacity, v.bytes.data(),
                v.bytes.size());
    auto answer = [&](int64_t first, int64_t last, const Tensor& keys, const Tensor& values,
                      int64_t begin, Tensor& y, Tensor& lse) {
      std::vector<int32_t> spans;
      for (int64_t t = first; t < last; ++t) {
        spans.push_back(static_cast<int32_t>(begin));
        spans.push_back(static_cast<int32_t>(begin + t + 1));
      }
      const Tensor span_tensor = spans_of(spans);
      auto rows = [&](const View& view) {
        View part = view;
        part.data = view.as<std::byte>() + first * view.cols * dtype_bytes(view.dtype);
        part.rows = last - first;
        return part;
      };
      AttentionArguments arguments = a;
      arguments.cached = keys.view.rows != kTokens;
      submit(k, Attention{rows(y.view),
                          rows(lse.view),
                          {},
                          rows(q.view),
                          keys.view,
                          values.view,
                          span_tensor.view,
                          arguments});
    };
    Tensor whole(kTokens, 4 * 32, dtype), whole_lse(kTokens, 4, DType::kF32);
    answer(0, kTokens, key, v, 0, whole, whole_lse);
    for (const int64_t chunk : {1, 23, 149}) {
      Tensor y(kTokens, 4 * 32, dtype), lse(kTokens, 4, DType::kF32);
      for (int64_t t = 0; t < kTokens; t += chunk)
        answer(t, std::min(kTokens, t + chunk), key_cache, v_cache, kBegin, y, lse);
      expect_same(y, whole, fmt::format("y in chunks of {}", chunk));
      expect_same(lse, whole_lse, fmt::format("lse in chunks of {}", chunk));
    }
  }
}

}  // namespace
}  // namespace naite::kernels
