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
    shapes_.emplace_back(spec.count * spec.rows, spec.cols);
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

View matrix_of(const View& stack, const ParameterSpec& spec, int64_t index) {
  const int64_t bytes = stack.bytes() / spec.count;
  return {stack.as<std::byte>() + index * bytes, stack.dtype, spec.rows, spec.cols};
}

namespace {}  // namespace

Parameters::Parameters(Kernels& kernels, DType compute, std::vector<ParameterSpec> specs,
                       Block masters)
    : kernels_(kernels),
      compute_(compute),
      specs_(std::move(specs)),
      layout_(specs_, wide_of(compute)),
      masters_(masters ? std::move(masters) : Block(kernels, layout_.bytes())) {
  NAITE_CHECK(masters_.bytes() == layout_.bytes(), "{} bytes of masters, not {}", masters_.bytes(),
              layout_.bytes());
}

void Parameters::add_use(int parameter, Use use) {
  const auto key = std::make_pair(parameter, use);
  if (prepared_.contains(key)) return;
  const ParameterSpec& spec = specs_[parameter];
  const int64_t bytes = kernels_.prepared_bytes(use, compute_, spec.rows, spec.cols);
  prepared_[key].block = bytes > 0 ? Block(kernels_, spec.count * bytes) : Block();
}

View Parameters::prepared(int parameter, Use use) const {
  const Block& block = prepared_.at({parameter, use}).block;
  View view = master(parameter);
  if (!block) return view;
  return {block.data(), compute_, view.rows, view.cols};
}

Status Parameters::prepare(int parameter, Use use, Copy& copy) {
  if (copy.block) {
    const ParameterSpec& spec = specs_[parameter];
    const View masters = master(parameter), copies = prepared(parameter, use);
    const int64_t stride = copy.block.bytes() / spec.count;
    for (int64_t i = 0; i < spec.count; ++i) {
      const View one{copies.as<std::byte>() + i * stride, compute_, spec.rows, spec.cols};
      NAITE_TRY(kernels_.submit(kernels::Prepare{one, matrix_of(masters, spec, i), use}));
    }
  }
  copy.is_ready = true;
  return {};
}

int64_t Parameters::bytes() const {
  int64_t bytes = masters_.bytes();
  for (const auto& [key, copy] : prepared_) bytes += copy.block.bytes();
  return bytes;
}

Status Parameters::prepare_all() {
  for (auto& [key, copy] : prepared_) NAITE_TRY(prepare(key.first, key.second, copy));
  return {};
}

Status Parameters::prepare_new() {
  for (auto& [key, copy] : prepared_)
    if (!copy.is_ready) NAITE_TRY(prepare(key.first, key.second, copy));
  return {};
}

}  // namespace naite::tape
