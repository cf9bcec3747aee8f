// SPDX-License-Identifier: Apache-2.0
#include "kernels/counting.h"

#include <gtest/gtest.h>

namespace naite::kernels {
namespace {

TEST(Counting, CountsWhatIsAliveAndWhatWasAtTheMost) {
  const std::unique_ptr<Kernels> real = make_reference(DType::kF32);
  const std::unique_ptr<CountingKernels> counting = make_counting(*real);
  constexpr int64_t kMore = int64_t{1} << 50;  // than any machine has
  void* const large = counting->allocate(kMore);
  void* const small = counting->allocate(100);
  void* const empty = counting->allocate(0);
  EXPECT_TRUE(large != nullptr && small != nullptr && empty != nullptr);
  EXPECT_TRUE(large != small && small != empty);
  EXPECT_EQ(counting->live_bytes(), kMore + 100);
  counting->release(large, kMore);
  EXPECT_EQ(counting->live_bytes(), 100);
  counting->release(counting->allocate(50), 50);
  EXPECT_EQ(counting->live_bytes(), 100);
  EXPECT_EQ(counting->peak_bytes(), kMore + 100);
}

TEST(Counting, AnswersSizesAsTheRealOneAndComputesNothing) {
  set_float_mode();
  ThreadPool pool(3);
  Result<std::unique_ptr<Kernels>> made = make_cpu(pool, "");
  ASSERT_TRUE(made.ok()) << made.error().message;
  const Kernels& real = **made;
  const std::unique_ptr<CountingKernels> counting = make_counting(real);
  EXPECT_EQ(counting->fixed_bytes(), real.fixed_bytes());
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    EXPECT_EQ(counting->prepared_bytes(Use::kMatrix, compute, 70, 33),
              real.prepared_bytes(Use::kMatrix, compute, 70, 33));
    const View q{nullptr, compute, 128, 64};
    Attention attention;
    attention.q = attention.k = attention.v = q;
    attention.arguments = {4, 4, 16, 16, 0.25, 0};
    EXPECT_GT(real.workspace_bytes(attention), 0);
    EXPECT_EQ(counting->workspace_bytes(attention), real.workspace_bytes(attention));
  }
  const View x{counting->allocate(64), DType::kF32, 4, 4};
  EXPECT_TRUE(counting->submit(Add{{x, x, x}}).ok());
  float host[16] = {1};
  EXPECT_TRUE(counting->upload(x.data, host, 64).ok());
  EXPECT_TRUE(counting->download(host, x.data, 64).ok());
  EXPECT_EQ(host[0], 0);
}

}  // namespace
}  // namespace naite::kernels
