// SPDX-License-Identifier: Apache-2.0
// tools/gpu_check: what a GPU machine can say about this build, in one short table; it needs
// nothing but the driver. Every operation that the GPU has is run on values that include
// subnormals, infinities and NaN, and compared with the reference bit by bit.
#include <bit>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/cuda/elementwise.h"

namespace naite::kernels::cuda {
namespace {

constexpr int kSkipped = 77;  // for CTest: there is no GPU
constexpr int64_t kElements = int64_t{1} << 24;
constexpr int kRounds = 20;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Every exponent and sign, from the counter-based generator of the contract.
std::vector<float> any_floats(uint32_t stream) {
  std::vector<float> out(static_cast<size_t>(kElements));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = std::bit_cast<float>(
        static_cast<uint32_t>(random_below(uint64_t{1} << 32, 1, Purpose::kSampling, i, stream)));
  return out;
}

// NaN is NaN: which of its bits survive an addition is nobody's contract.
bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (a != a && b != b);
}

class Check {
 public:
  explicit Check(Device& device) : device_(device) {}

  Status run() {
    const std::vector<float> a = any_floats(1), b = any_floats(2);
    NAITE_ASSIGN(const View da, uploaded(a));
    NAITE_ASSIGN(const View db, uploaded(b));
    NAITE_ASSIGN(const View dy, uploaded(std::vector<float>(a.size())));
    NAITE_TRY(copies(a, da));
    constexpr float kFactor = 1.7f;
    NAITE_TRY(operation(
        "add", 3, dy, [&](size_t i) { return a[i] + b[i]; },
        [&] {
          return cuda::run(device_, Add{{dy, da, db}});
        }));
    NAITE_TRY(operation(
        "scale", 2, dy, [&](size_t i) { return a[i] * kFactor; },
        [&] {
          return cuda::run(device_, Scale{dy, da, kFactor});
        }));
    fmt::print("{:<24} {} of {}; training needs all\n", "operations on the GPU", done_,
               Operations::kSize);
    fmt::print("{:<24} {}\n", "kernels launched", device_.launches());
    for (const View& view : {da, db, dy}) NAITE_TRY(device_.release(view.data));
    return wrong_ == 0 ? Status() : fail("{} of {} operations differ", wrong_, done_);
  }

 private:
  Result<View> uploaded(const std::vector<float>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
    NAITE_ASSIGN(void* const memory, device_.allocate(bytes));
    NAITE_TRY(device_.upload(memory, values.data(), bytes));
    return View{memory, DType::kF32, 1, static_cast<int64_t>(values.size())};
  }

  Status copies(const std::vector<float>& values, const View& on_device) {
    std::vector<float> back(values.size());
    const double begin = seconds();
    NAITE_TRY(device_.download(back.data(), on_device.data, on_device.bytes()));
    const double rate = static_cast<double>(on_device.bytes()) / (seconds() - begin) / 1e9;
    bool same = true;
    for (size_t i = 0; i < back.size(); ++i) same = same && same_bits(back[i], values[i]);
    fmt::print("{:<24} {}, {:.1f} GB/s back\n", "copies", same ? "same bytes" : "OTHER BYTES",
               rate);
    return same ? Status() : fail("what came back from the GPU is not what went there");
  }

  Status operation(const char* name, int streams, const View& y,
                   const std::function<float(size_t)>& expected,
                   const std::function<Status()>& launch) {
    NAITE_TRY(launch());
    std::vector<float> found(static_cast<size_t>(y.size()));
    NAITE_TRY(device_.download(found.data(), y.data, y.bytes()));
    int64_t different = 0;
    for (size_t i = 0; i < found.size(); ++i) different += !same_bits(found[i], expected(i));
    const double begin = seconds();
    for (int round = 0; round < kRounds; ++round) NAITE_TRY(launch());
    NAITE_TRY(device_.synchronize());
    const double rate =
        kRounds * streams * static_cast<double>(y.bytes()) / (seconds() - begin) / 1e9;
    fmt::print("{:<24} {}, {:.0f} GB/s\n", name,
               different == 0 ? "same bits as the reference"
                              : fmt::format("{} of {} bits DIFFER", different, y.size()),
               rate);
    ++done_;
    wrong_ += different != 0;
    return {};
  }

  Device& device_;
  int done_ = 0, wrong_ = 0;
};

int check_all() {
  set_float_mode();
  const int count = Device::count();
  if (count == 0) {
    fmt::print("no GPU here: nothing was checked\n");
    return kSkipped;
  }
  for (int i = 0; i < count; ++i) {
    const Result<std::unique_ptr<Device>> device = Device::open(i);
    if (device.ok()) fmt::print("{:<24} {}\n", fmt::format("GPU {}", i), (*device)->name());
    const Status status = device.ok() ? Check(**device).run() : Status(device.error());
    if (status.ok()) continue;
    fmt::print(stderr, "gpu_check: GPU {}: {}\n", i, status.error().message);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace naite::kernels::cuda

int main() { return naite::kernels::cuda::check_all(); }
