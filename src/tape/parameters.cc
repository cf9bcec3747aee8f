// SPDX-License-Identifier: Apache-2.0
#include "tape/parameters.h"

namespace naite::tape {

Block::Block(Kernels& kernels, int64_t bytes)
    : kernels_(&kernels), data_(kernels.allocate(bytes)), bytes_(bytes) {}

Block::Block(Block&& other) noexcept { *this = std::move(other); }

Block& Block::operator=(Block&& other) noexcept {
  std::swap(kernels_, other.kernels_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Block::~Block() {
  if (data_ != nullptr) kernels_->release(data_, bytes_);
}

SlabLayout::SlabLayout(const std::vector<ParameterSpec>& specs, DType dtype) : dtype_(dtype) {
  for (const ParameterSpec& spec : specs) {
    offsets_.push_back(bytes_);
    shapes_.emplace_back(spec.rows, spec.cols);
    const int64_t bytes = spec.size() * kernels::dtype_bytes(dtype);
    bytes_ += (bytes + 63) / 64 * 64;
  }
}

View SlabLayout::view(const Block& slab, int parameter) const {
  const auto [rows, cols] = shapes_[parameter];
  return {static_cast<std::byte*>(slab.data()) + offsets_[parameter], dtype_, rows, cols};
}

View SlabLayout::whole(const Block& slab) const {
  return {slab.data(), dtype_, 1, bytes_ / kernels::dtype_bytes(dtype_)};
}

namespace {
DType master_dtype(DType compute) { return compute == DType::kF64 ? DType::kF64 : DType::kF32; }
}  // namespace

Parameters::Parameters(Kernels& kernels, DType compute, std::vector<ParameterSpec> specs,
                       Block masters)
    : kernels_(kernels),
      compute_(compute),
      specs_(std::move(specs)),
      layout_(specs_, master_dtype(compute)),
      masters_(masters ? std::move(masters) : Block(kernels, layout_.bytes())) {
  NAITE_CHECK(masters_.bytes() == layout_.bytes(), "{} bytes of masters, not {}", masters_.bytes(),
              layout_.bytes());
}

void Parameters::add_use(int parameter, Use use) {
  const auto key = std::make_pair(parameter, use);
  if (prepared_.contains(key)) return;
  const ParameterSpec& spec = specs_[parameter];
  const int64_t bytes = kernels_.prepared_bytes(use, compute_, spec.rows, spec.cols);
  prepared_[key] = bytes > 0 ? Block(kernels_, bytes) : Block();
}

View Parameters::prepared(int parameter, Use use) const {
  const Block& block = prepared_.at({parameter, use});
  View view = master(parameter);
  if (!block) return view;
  return {block.data(), compute_, view.rows, view.cols};
}

Status Parameters::prepare_all() {
  for (const auto& [key, block] : prepared_) {
    const auto& [parameter, use] = key;
    if (!block) continue;
    NAITE_TRY(kernels_.submit(kernels::Prepare{prepared(parameter, use), master(parameter), use}));
  }
  return {};
}

int64_t Parameters::prepared_bytes() const {
  int64_t bytes = 0;
  for (const auto& [key, block] : prepared_) bytes += block.bytes();
  return bytes;
}

}  // namespace naite::tape
