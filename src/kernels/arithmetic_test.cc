// SPDX-License-Identifier: Apache-2.0
// The published arithmetics: the table, chain-8 against loops that say it another way, and what it
// is for, ranks that share a width and give the bits of one.
#include "kernels/arithmetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "kernels/kernels.h"
#include "kernels/numerics.h"

namespace naite::kernels {
namespace {

TEST(Arithmetics, AreFoundByTheirNames) {
  std::set<std::string> names;
  for (const Arithmetic& arithmetic : kArithmetics) {
    EXPECT_EQ(find_arithmetic(arithmetic.name), &arithmetic);
    EXPECT_TRUE(names.insert(std::string(arithmetic.name)).second);
  }
  EXPECT_EQ(names, (std::set<std::string>{"chain-1", "chain-8"}));
  EXPECT_EQ(find_arithmetic("chain-2"), nullptr);
  EXPECT_EQ(find_arithmetic(""), nullptr);
}

TEST(Arithmetics, PiecesAreContiguousAndDifferByOneUnit) {
  for (const int64_t unit : {1, 2, 5}) {
    for (int64_t count = 0; count < 70; ++count) {
      int64_t at = 0, least = count, most = 0;
      for (int64_t i = 0; i < kChain8.pieces; ++i) {
        const Range piece = kChain8.piece(i, count, unit);
        EXPECT_EQ(piece.begin, at);
        EXPECT_TRUE(piece.begin % unit == 0);
        at = piece.end;
        const int64_t units = (piece.end - piece.begin + unit - 1) / unit;
        least = std::min(least, units);
        most = std::max(most, units);
      }
      EXPECT_EQ(at, count);
      EXPECT_LE(most, least + 1) << count << " in units of " << unit;
    }
  }
}

// --- chain-8 in other words ----------------------------------------------------------------------

// Row-major numbers, and what operations see of them.
class Numbers {
 public:
  Numbers(int64_t rows, int64_t cols, DType dtype = DType::kF32)
      : rows(rows), cols(cols), dtype_(dtype), values_(rows * cols), half_(rows * cols) {}
  // Random ones, of sizes so unlike that the order of their sums shows.
  static Numbers random(int64_t rows, int64_t cols, DType dtype, uint32_t stream) {
    Numbers out(rows, cols, dtype);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const double value = 2 * random_unit(3, Purpose::kInitialTensor, i, stream) - 1;
      out.put(i, static_cast<float>(value * value * value));
    }
    return out;
  }
  float operator()(int64_t row, int64_t col) const { return values_[row * cols + col]; }
  const std::vector<float>& values() const { return values_; }
  View view() {
    if (dtype_ == DType::kBf16) return {half_.data(), dtype_, rows, cols};
    return {values_.data(), dtype_, rows, cols};
  }
  // Rows [top, bottom) and columns [left, right).
  Numbers part(int64_t top, int64_t bottom, int64_t left, int64_t right) const {
    Numbers out(bottom - top, right - left, dtype_);
    for (int64_t i = 0; i < out.rows; ++i)
      for (int64_t j = 0; j < out.cols; ++j) out.put(i * out.cols + j, (*this)(top + i, left + j));
    return out;
  }
  Numbers columns(int64_t part_index, int64_t parts) const {
    return part(0, rows, part_index * cols / parts, (part_index + 1) * cols / parts);
  }
  Numbers lines(int64_t part_index, int64_t parts) const {
    return part(part_index * rows / parts, (part_index + 1) * rows / parts, 0, cols);
  }

  const int64_t rows, cols;

 private:
  void put(int64_t i, float value) {
    half_[i] = float_to_bf16(value);
    values_[i] = dtype_ == DType::kBf16 ? bf16_to_float(half_[i]) : value;
  }
  DType dtype_;
  std::vector<float> values_;
  std::vector<uint16_t> half_;
};

using Term = std::function<float(int64_t)>;

// Terms [begin, end) of k, in bf16 the second of each pair first.
float chain(float start, int64_t begin, int64_t end, bool pairs, const Term& a, const Term& b) {
  float sum = start;
  for (int64_t k = begin; k < end; k += pairs ? 2 : 1) {
    if (pairs && k + 1 < end) sum = std::fma(a(k + 1), b(k + 1), sum);
    sum = std::fma(a(k), b(k), sum);
  }
  return sum;
}

int64_t border(int64_t piece, int64_t count) {
  return std::min(count, 2 * (piece * ((count + 1) / 2) / 8));
}

float joined(const float (&p)[8]) {
  return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7])) + 0.0f;
}

float chain_8(int64_t count, bool pairs, const Term& a, const Term& b) {
  float pieces[8];
  for (int64_t i = 0; i < 8; ++i)
    pieces[i] = chain(0, border(i, count), border(i + 1, count), pairs, a, b) + 0.0f;
  return joined(pieces);
}

// Up to 4096 numbers of a piece: one block.
float sum_8(int64_t count, const Term& term) {
  float pieces[8];
  for (int64_t i = 0; i < 8; ++i) {
    float lanes[16] = {};
    for (int64_t j = border(i, count); j < border(i + 1, count); ++j)
      lanes[(j - border(i, count)) % 16] += term(j);
    for (int width = 8; width > 0; width /= 2)
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    pieces[i] = lanes[0] + 0.0f;
  }
  return joined(pieces);
}

class Chain8 : public testing::TestWithParam<DType> {
 protected:
  Chain8() { set_float_mode(); }
  template <class Op>
  void run(const Op& op) {
    ASSERT_TRUE(kernels_->submit(op).ok());
  }
  const DType compute_ = GetParam();
  const bool pairs_ = compute_ == DType::kBf16;
  const std::unique_ptr<Kernels> kernels_ = make_reference(DType::kF32, kChain8);
};

TEST_P(Chain8, JoinsEightChainsOfAProduct) {
  for (const int64_t k : {1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 130}) {
    Numbers x = Numbers::random(3, k, compute_, 1), w = Numbers::random(5, k, compute_, 2);
    Numbers y(3, 5);
    const Projection part{y.view(), w.view(), {}};
    run(Linear{{&part, 1}, x.view()});
    for (int64_t t = 0; t < 3; ++t)
      for (int64_t o = 0; o < 5; ++o)
        EXPECT_EQ(y(t, o), chain_8(
                               k, pairs_, [&](int64_t i) { return x(t, i); },
                               [&](int64_t i) { return w(o, i); }))
            << k;
  }
}

// A piece goes through the outputs of all weights; the first one begins at what is stored.
TEST_P(Chain8, JoinsEightChainsOfAnInputsGradient) {
  Numbers dy1 = Numbers::random(3, 21, compute_, 1), w1 = Numbers::random(21, 4, compute_, 2);
  Numbers dy2 = Numbers::random(3, 50, compute_, 3), w2 = Numbers::random(50, 4, compute_, 4);
  const Numbers before = Numbers::random(3, 4, DType::kF32, 5);
  Numbers dx = before;
  const Projection parts[] = {{dy1.view(), w1.view(), {}}, {dy2.view(), w2.view(), {}}};
  run(LinearBackwardInput{{dx.view(), true, true}, parts});
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t i = 0; i < 4; ++i) {
      float pieces[8];
      for (int64_t p = 0; p < 8; ++p) {
        pieces[p] = p == 0 ? before(t, i) : 0;
        for (const auto& [dy, w] : {std::pair{&dy1, &w1}, std::pair{&dy2, &w2}})
          pieces[p] = chain(
              pieces[p], border(p, dy->cols), border(p + 1, dy->cols), pairs_,
              [&, dy = dy](int64_t o) { return (*dy)(t, o); },
              [&, w = w](int64_t o) { return (*w)(o, i); });
        pieces[p] += 0.0f;
      }
      EXPECT_EQ(dx(t, i), joined(pieces));
    }
}

TEST_P(Chain8, JoinsTheSumOfALossOverTheVocabulary) {
  constexpr int64_t kVocabulary = 77, kWidth = 10;
  constexpr float kLog2E = 1.44269504088896340736f;
  Numbers x = Numbers::random(2, kWidth, compute_, 1);
  Numbers w = Numbers::random(kVocabulary, kWidth, compute_, 2), loss(2, 1);
  int32_t targets[2] = {70, -1};
  run(LinearCrossEntropy{loss.view(), x.view(), w.view(), {targets, DType::kI32, 2, 1}});
  std::vector<float> z(kVocabulary);
  for (int64_t j = 0; j < kVocabulary; ++j)
    z[j] = chain_8(
        kWidth, pairs_, [&](int64_t i) { return x(0, i); }, [&](int64_t i) { return w(j, i); });
  const float mc = *std::max_element(z.begin(), z.end()) * kLog2E;
  const float l = sum_8(kVocabulary, [&](int64_t j) { return exp2(std::fma(z[j], kLog2E, -mc)); });
  EXPECT_EQ(loss(0, 0), -0.693147180559945309417f * std::fma(z[70], kLog2E, -(mc + log2(l))));
  EXPECT_EQ(loss(1, 0), 0.0f);
}

// Tokens are not divided: a weight's gradient is one chain, as in chain-1.
TEST_P(Chain8, LeavesSumsOverTokensAlone) {
  Numbers dy = Numbers::random(34, 3, compute_, 1), x = Numbers::random(34, 4, compute_, 2);
  Numbers dw(3, 4), other(3, 4);
  run(LinearBackwardWeight{{dw.view(), true, false}, dy.view(), x.view()});
  ASSERT_TRUE(make_reference(DType::kF32)
                  ->submit(LinearBackwardWeight{{other.view(), true, false}, dy.view(), x.view()})
                  .ok());
  EXPECT_EQ(dw.values(), other.values());
}

// --- ranks ---------------------------------------------------------------------------------------

// What one of `ranks` ranks gives for its share of a width, in fp32.
using Share = std::function<std::vector<float>(Kernels&, int64_t rank, int64_t ranks)>;

// Each rank owns 8 / ranks neighbouring pieces and joins its own; the upper part of the same tree
// joins the ranks.
void expect_the_same_bits(const Share& share) {
  const std::vector<float> whole = share(*make_reference(DType::kF32, kChain8), 0, 1);
  EXPECT_NE(whole, share(*make_reference(DType::kF32, kChain1), 0, 1));
  for (const int64_t ranks : {1, 2, 4, 8}) {
    const auto kernels = make_reference(DType::kF32, {"a rank's part", {}, 8 / ranks});
    std::vector<std::vector<float>> sums;
    for (int64_t rank = 0; rank < ranks; ++rank) sums.push_back(share(*kernels, rank, ranks));
    for (size_t step = 1; step < sums.size(); step *= 2)
      for (size_t i = 0; i < sums.size(); i += 2 * step)
        for (size_t j = 0; j < whole.size(); ++j) sums[i][j] += sums[i + step][j];
    EXPECT_EQ(sums[0], whole) << ranks << " ranks";
  }
}

TEST_P(Chain8, RanksThatShareInputsGiveTheBitsOfOne) {
  const Numbers x = Numbers::random(3, 112, compute_, 1), w = Numbers::random(5, 112, compute_, 2);
  expect_the_same_bits([&](Kernels& kernels, int64_t rank, int64_t ranks) {
    Numbers own_x = x.columns(rank, ranks), own_w = w.columns(rank, ranks), y(3, 5);
    const Projection part{y.view(), own_w.view(), {}};
    EXPECT_TRUE(kernels.submit(Linear{{&part, 1}, own_x.view()}).ok());
    return y.values();
  });
}

TEST_P(Chain8, RanksThatShareOutputsGiveTheBitsOfOne) {
  const Numbers dy = Numbers::random(3, 48, compute_, 1), w = Numbers::random(48, 4, compute_, 2);
  const Numbers dz = Numbers::random(3, 80, compute_, 3), v = Numbers::random(80, 4, compute_, 4);
  expect_the_same_bits([&](Kernels& kernels, int64_t rank, int64_t ranks) {
    Numbers own_dy = dy.columns(rank, ranks), own_w = w.lines(rank, ranks);
    Numbers own_dz = dz.columns(rank, ranks), own_v = v.lines(rank, ranks), dx(3, 4);
    const Projection parts[] = {{own_dy.view(), own_w.view(), {}},
                                {own_dz.view(), own_v.view(), {}}};
    EXPECT_TRUE(kernels.submit(LinearBackwardInput{{dx.view(), true, false}, parts}).ok());
    return dx.values();
  });
}

TEST_P(Chain8, RanksThatShareHeadsGiveTheBitsOfOne) {
  constexpr int64_t kHeads = 16, kWidth = 6, kTokens = 70;
  const Numbers dy = Numbers::random(kTokens, kHeads * kWidth, compute_, 1);
  const Numbers x = Numbers::random(kTokens, kHeads * kWidth, compute_, 2);
  const Numbers rstd = Numbers::random(kTokens, kHeads, DType::kF32, 3);
  const Numbers w = Numbers::random(1, kWidth, compute_, 4);
  expect_the_same_bits([&](Kernels& kernels, int64_t rank, int64_t ranks) {
    Numbers own_dy = dy.columns(rank, ranks), own_x = x.columns(rank, ranks);
    Numbers own_rstd = rstd.columns(rank, ranks), weight = w, dw(1, kWidth);
    NormArguments arguments;
    arguments.heads = kHeads / ranks;
    const RmsNormBackward op{{},       {},           {dw.view(), true, false}, own_dy.view(),
                             {},       own_x.view(), own_rstd.view(),          weight.view(),
                             arguments};
    EXPECT_TRUE(kernels.submit(op).ok());
    return dw.values();
  });
}

// One token, whose sums over the unit's width and over noise heads are the gradients themselves.
TEST_P(Chain8, RanksThatShareAUnitsWidthGiveTheBitsOfOne) {
  const Numbers dy = Numbers::random(1, 1120, compute_, 1),
                gate = Numbers::random(1, 1120, compute_, 2);
  const Numbers up = Numbers::random(1, 1120, compute_, 3), w = Numbers::random(1, 3, compute_, 4);
  expect_the_same_bits([&](Kernels& kernels, int64_t rank, int64_t ranks) {
    Numbers own_dy = dy.columns(rank, ranks), own_gate = gate.columns(rank, ranks);
    Numbers own_up = up.columns(rank, ranks), weight = w, bias(1, 1, compute_), db(1, 1);
    Numbers rstd = Numbers::random(1, 3, DType::kF32, 5);
    const PolyNormGatedBackward op{{},
                                   {},
                                   {},
                                   {db.view(), true, false},
                                   own_dy.view(),
                                   rstd.view(),
                                   own_gate.view(),
                                   own_up.view(),
                                   weight.view(),
                                   bias.view()};
    EXPECT_TRUE(kernels.submit(op).ok());
    return db.values();
  });
}

TEST_P(Chain8, RanksThatShareNoiseHeadsGiveTheBitsOfOne) {
  const Numbers dy = Numbers::random(1, 960, compute_, 1),
                noise = Numbers::random(1, 480, compute_, 2);
  expect_the_same_bits([&](Kernels& kernels, int64_t rank, int64_t ranks) {
    Numbers own_dy = dy.columns(rank, ranks), own_noise = noise.columns(rank, ranks);
    Numbers factor(1, 1), dfactor(1, 1);
    const SubtractSharedBackward op{
        {}, {}, {dfactor.view(), true, false}, own_dy.view(), own_noise.view(), factor.view(), 3};
    EXPECT_TRUE(kernels.submit(op).ok());
    return dfactor.values();
  });
}

INSTANTIATE_TEST_SUITE_P(Types, Chain8, testing::Values(DType::kF32, DType::kBf16),
                         [](const testing::TestParamInfo<DType>& info) {
                           return std::string(dtype_name(info.param));
                         });

}  // namespace
}  // namespace naite::kernels
