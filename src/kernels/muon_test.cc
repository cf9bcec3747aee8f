// SPDX-License-Identifier: Apache-2.0
// What Muon's five steps do to singular values, against the polynomial's own facts.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/numerics.h"

namespace naite::kernels {
namespace {

// The step that Muon takes from `gradient`: parameters start at 0, without decay, at rate -1.
std::vector<float> step(Kernels& k, const std::vector<float>& gradient, int64_t rows,
                        int64_t cols) {
  const int64_t bytes = rows * cols * 4;
  const auto matrix = [&] { return View{k.allocate(bytes), DType::kF32, rows, cols}; };
  kernels::Muon muon{matrix(), matrix(), matrix(), {.momentum = 0.95f, .learning_rate = -1}};
  EXPECT_TRUE(k.upload(muon.gradient.data, gradient.data(), bytes).ok());
  const int64_t workspace = k.workspace_bytes(muon);
  muon.workspace = {static_cast<std::byte*>(k.allocate(workspace)), static_cast<size_t>(workspace)};
  EXPECT_TRUE(k.submit(muon).ok());
  std::vector<float> out(gradient.size());
  EXPECT_TRUE(k.download(out.data(), muon.parameter.data, bytes).ok());
  for (const View& view : {muon.parameter, muon.gradient, muon.m}) k.release(view.data, bytes);
  k.release(muon.workspace.data(), workspace);
  return out;
}

// Where the polynomial takes a singular value, exactly, and how far the roundings to bf16 (u: half
// a unit in the last of eight places) can lead away from it, to first order: those of Z, twice
// before the first step; and in each step those of A, B and Z, carried on by the polynomial's
// slope.
struct Carried {
  double value, error;
};
Carried carried(double s) {
  constexpr double u = 1.0 / 256;
  Carried z{s, 2 * u * s};
  for (const auto& [a, b, c] : kNewtonSchulz) {
    const double A = z.value * z.value, B = c * A * A + b * A;
    const double of_B = std::abs(2 * c * A + b) * A * u + std::abs(B) * u;
    const double slope = std::abs(a + 3 * b * A + 5 * c * A * A);
    const double next = a * z.value + z.value * B;
    z = {next, slope * z.error + z.value * of_B + std::abs(next) * u};
  }
  return z;
}

class Muon : public testing::Test {
 protected:
  void SetUp() override {
    set_float_mode();
    Result<std::unique_ptr<Kernels>> made = make_cpu(pool_, "");
    ASSERT_TRUE(made.ok()) << made.error().message;
    kernels_ = *std::move(made);
  }
  ThreadPool pool_{2};
  std::unique_ptr<Kernels> kernels_;
};

// Singular values relative to the Frobenius norm, which a diagonal shows directly.
TEST_F(Muon, TakesSingularValuesWhereThePolynomialDoes) {
  std::vector<double> relative = {0,    0.5,   0.3,   0.1,   0.05,  0.02,
                                  0.01, 0.006, 0.004, 0.003, 0.002, 0.001};
  double squares = 0;
  for (double s : relative) squares += s * s;
  relative[0] = std::sqrt(1 - squares);
  const auto n = static_cast<int64_t>(relative.size());
  for (const auto& [rows, cols] : {std::pair(n, n + 8), std::pair(n + 5, n)}) {
    std::vector<float> gradient(rows * cols);
    for (int64_t i = 0; i < n; ++i) gradient[i * cols + i] = static_cast<float>(3.7 * relative[i]);
    const std::vector<float> out = step(*kernels_, gradient, rows, cols);
    for (int64_t i = 0; i < rows * cols; ++i) {
      if (i / cols == i % cols) continue;
      EXPECT_EQ(out[i], 0) << i;
    }
    for (int64_t i = 0; i < n; ++i) {
      const Carried expected = carried(relative[i]);
      EXPECT_NEAR(out[i * cols + i], expected.value, expected.error) << relative[i];
      EXPECT_LT(expected.error, 0.12 * expected.value) << relative[i];  // else it says little
    }
  }
}

// M [rows, cols] with every column (or every row) reflected at a plane that its length names.
std::vector<double> reflected(std::vector<double> m, int64_t rows, int64_t cols, bool columns) {
  const int64_t n = columns ? rows : cols, lines = columns ? cols : rows;
  const auto at = [&](int64_t line, int64_t k) -> double& {
    return columns ? m[k * cols + line] : m[line * cols + k];
  };
  std::vector<double> v(n);
  double norm = 0;
  for (int64_t k = 0; k < n; ++k) {
    v[k] = random_unit(static_cast<uint64_t>(n), Purpose::kInitialTensor, k) - 0.5;
    norm += v[k] * v[k];
  }
  for (int64_t line = 0; line < lines; ++line) {
    double dot = 0;
    for (int64_t k = 0; k < n; ++k) dot += v[k] * at(line, k);
    for (int64_t k = 0; k < n; ++k) at(line, k) -= 2 * dot / norm * v[k];
  }
  return m;
}

// A diagonal between two reflections: the products mix everything, and undoing the reflections must
// give a diagonal near one again.
TEST_F(Muon, OrthogonalisesAMatrixThatIsNotDiagonal) {
  constexpr int64_t kRows = 96, kCols = 40;
  const auto both = [](std::vector<double> m) {
    return reflected(reflected(std::move(m), kRows, kCols, true), kRows, kCols, false);
  };
  std::vector<double> diagonal(kRows * kCols);
  for (int64_t i = 0; i < kCols; ++i) diagonal[i * kCols + i] = 1.0 + static_cast<double>(i);
  const std::vector<double> mixed = both(diagonal);
  const std::vector<float> out =
      step(*kernels_, std::vector<float>(mixed.begin(), mixed.end()), kRows, kCols);
  const std::vector<double> back = both(std::vector<double>(out.begin(), out.end()));
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      if (i == j) {
        EXPECT_GE(back[i * kCols + j], 0.93) << i;
        EXPECT_LE(back[i * kCols + j], 1.19) << i;
      } else {
        EXPECT_NEAR(back[i * kCols + j], 0, 0.06) << i << " " << j;
      }
    }
}

}  // namespace
}  // namespace naite::kernels
