// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "formats/foreign_models.h"

namespace naite::formats {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 32;
constexpr uint64_t kAlignmentMax = 1 << 20;
constexpr uint32_t kRankMax = 4;
constexpr size_t kNameBytesMax = 64;  // of a tensor; llama.cpp's buffer
constexpr int kArrayDepthMax = 4;
constexpr std::string_view kAlignmentKey = "general.alignment";

constexpr std::array<std::pair<StoredType, uint32_t>, 11> kTensorTypes = {{
    {StoredType::kF32, 0},
    {StoredType::kF16, 1},
    {StoredType::kQ8_0, 8},
    {StoredType::kQ4K, 12},
    {StoredType::kQ6K, 14},
    {StoredType::kI8, 24},
    {StoredType::kI16, 25},
    {StoredType::kI32, 26},
    {StoredType::kI64, 27},
    {StoredType::kF64, 28},
    {StoredType::kBf16, 30},
}};

uint64_t padded(uint64_t bytes, uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// Bytes of a value of fixed size; 0 for texts and arrays.
uint64_t fixed_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kText:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

template <class T>
T load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// Walks the header. The first error sticks, and every later read gives zeros.
class Cursor {
 public:
  Cursor(std::string_view file, std::string_view name) : file_(file), rest_(file), name_(name) {}

  template <class T>
  T plain() {
    const std::string_view bytes = take(sizeof(T));
    return bytes.empty() ? T{} : load<T>(bytes);
  }
  std::string_view take(uint64_t bytes) {
    if (error_ || bytes > rest_.size()) {
      stop("truncated");
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::string_view text() { return take(plain<uint64_t>()); }
  GgufType type() {
    const auto type = plain<uint32_t>();
    if (type > 12) stop(fmt::format("value type {} is unknown", type));
    return ok() ? static_cast<GgufType>(type) : GgufType::kU8;
  }
  GgufValue value() {
    GgufValue out;
    out.type = out.element = type();
    if (out.type == GgufType::kArray) {
      out.element = type();
      out.count = plain<uint64_t>();
    }
    const std::string_view before = rest_;
    skip(out.element, out.count, 1);
    out.bytes = before.substr(0, before.size() - rest_.size());
    return out;
  }

  void stop(std::string_view what) {
    if (!error_) error_ = fail("{}: {} (at byte {})", name_, what, position());
  }
  bool ok() const { return !error_; }
  const Error& error() const { return *error_; }
  uint64_t position() const { return file_.size() - rest_.size(); }
  uint64_t left() const { return rest_.size(); }

 private:
  void skip(GgufType element, uint64_t count, int depth) {
    const uint64_t bytes = fixed_bytes(element);
    if (bytes != 0) {
      if (count > rest_.size() / bytes) return stop("truncated in an array");
      take(count * bytes);
      return;
    }
    if (depth > kArrayDepthMax) return stop("arrays nested too deep");
    // A text takes at least 8 bytes and an array 12, so the loop is bounded by the file.
    if (count > rest_.size() / 8) return stop("truncated in an array");
    for (uint64_t i = 0; i < count && ok(); ++i) {
      if (element == GgufType::kText) {
        text();
      } else {
        const GgufType inner = type();
        const auto inner_count = plain<uint64_t>();
        if (ok()) skip(inner, inner_count, depth + 1);
      }
    }
  }

  std::string_view file_, rest_;
  std::string_view name_;
  std::optional<Error> error_;
};

struct Placed {
  StoredTensor tensor;
  uint64_t offset = 0, end = 0;
};

Placed read_tensor(Cursor& cursor) {
  Placed out;
  out.tensor.name = cursor.text();
  const auto rank = cursor.plain<uint32_t>();
  if (rank > kRankMax) cursor.stop(fmt::format("a tensor of {} dimensions; at most 4", rank));
  for (uint32_t i = 0; i < rank && cursor.ok(); ++i) {
    const auto size = cursor.plain<uint64_t>();
    if (size > INT64_MAX) cursor.stop("a dimension beyond 63 bits");
    out.tensor.shape.insert(out.tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto type = cursor.plain<uint32_t>();
  out.offset = cursor.plain<uint64_t>();
  if (!cursor.ok()) return out;
  for (const auto& [stored, number] : kTensorTypes)
    if (number == type) {
      out.tensor.type = stored;
      return out;
    }
  cursor.stop(fmt::format("tensor {} has type {}; F32, F16, BF16, Q8_0, Q4_K, Q6_K can be read",
                          shown_name(out.tensor.name), type));
  return out;
}

// Tensors lie inside the data, aligned, and none overlaps another.
Status place_tensors(std::vector<Placed>& tensors, std::string_view data, uint64_t alignment,
                     std::string_view name) {
  for (Placed& placed : tensors) {
    const std::string shown = shown_name(placed.tensor.name);
    const Result<int64_t> bytes = stored_bytes(placed.tensor.type, placed.tensor.shape);
    if (!bytes) return fail("{}: tensor {}: {}", name, shown, bytes.error().message);
    const auto size = static_cast<uint64_t>(*bytes);
    if (placed.offset % alignment != 0)
      return fail("{}: tensor {} lies at {}, not a multiple of {}", name, shown, placed.offset,
                  alignment);
    if (placed.offset > data.size() || size > data.size() - placed.offset)
      return fail("{}: truncated: tensor {} lies at {} with {} bytes, outside the data ({} bytes)",
                  name, shown, placed.offset, size, data.size());
    placed.tensor.bytes = data.substr(placed.offset, size);
    placed.end = placed.offset + size;
  }
  std::sort(tensors.begin(), tensors.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.offset, a.end) < std::pair(b.offset, b.end);
  });
  for (size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].offset < tensors[i - 1].end)
      return fail("{}: tensors {} and {} overlap", name, shown_name(tensors[i - 1].tensor.name),
                  shown_name(tensors[i].tensor.name));
  return {};
}

Result<uint64_t> alignment_of(const GgufHeader& header, std::string_view name) {
  const auto it = header.values.find(kAlignmentKey);
  if (it == header.values.end()) return kAlignment;
  const bool right_type = it->second.type == GgufType::kU32;
  const uint64_t alignment = right_type ? load<uint32_t>(it->second.bytes) : 0;
  if (alignment < 8 || alignment > kAlignmentMax || !std::has_single_bit(alignment))
    return fail("{}: {} is not a power of two from 8 to {}", name, kAlignmentKey, kAlignmentMax);
  return alignment;
}

std::optional<int64_t> as_integer(GgufType type, std::string_view bytes) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return load<uint8_t>(bytes);
    case GgufType::kI8:
      return load<int8_t>(bytes);
    case GgufType::kU16:
      return load<uint16_t>(bytes);
    case GgufType::kI16:
      return load<int16_t>(bytes);
    case GgufType::kU32:
      return load<uint32_t>(bytes);
    case GgufType::kI32:
      return load<int32_t>(bytes);
    case GgufType::kI64:
      return load<int64_t>(bytes);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(bytes);
      if (value > INT64_MAX) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

// gguf-split writes models in parts: each has its number, the first one the model's keys.
Status expect_whole(const GgufHeader& header, std::string_view name) {
  const auto get = [&](std::string_view key) -> int64_t {
    const auto it = header.values.find(key);
    if (it == header.values.end() || it->second.type == GgufType::kArray) return 0;
    return as_integer(it->second.type, it->second.bytes).value_or(0);
  };
  const int64_t count = get("split.count");
  if (count <= 1) return {};
  return fail(
      "{}: is part {} of {} of a split model: merge the parts with `llama-gguf-split --merge "
      "FIRST-PART NEW.gguf`",
      name, get("split.no") + 1, count);
}

// The double nearest to the shortest decimal that names this float: 1e-6f is read as 1e-6, which is
// what the config said before it was squeezed into 32 bits.
double shortest_decimal(float value) {
  char text[32];
  const auto [end, failed] = std::to_chars(text, text + sizeof text, value);
  double out = value;
  std::from_chars(text, end, out);
  return out;
}

template <class T>
void append_plain(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append_plain(out, uint64_t{text.size()});
  out += text;
}

Result<uint32_t> tensor_type_number(StoredType type) {
  for (const auto& [stored, number] : kTensorTypes)
    if (stored == type) return number;
  return fail("GGUF files do not hold {}", stored_type_info(type).name);
}

// The header of a new file, padded so that the data begin aligned.
Result<std::string> header_of(const GgufKeys& keys, const std::vector<TensorSpec>& specs) {
  std::string out(kMagic);
  append_plain(out, kVersion);
  append_plain(out, uint64_t{specs.size()});
  append_plain(out, keys.count());
  out += keys.bytes();
  uint64_t offset = 0;
  std::set<std::string_view> names;
  for (const TensorSpec& spec : specs) {
    if (spec.name.size() >= kNameBytesMax || !names.insert(spec.name).second)
      return fail("tensor name {} is used twice or longer than {} bytes", shown_name(spec.name),
                  kNameBytesMax - 1);
    if (spec.shape.empty() || spec.shape.size() > kRankMax)
      return fail("tensor {} of shape {}: GGUF files hold ranks 1 to 4", spec.name,
                  shape_text(spec.shape));
    NAITE_ASSIGN(const int64_t bytes, stored_bytes(spec.type, spec.shape));
    NAITE_ASSIGN(const uint32_t type, tensor_type_number(spec.type));
    append_text(out, spec.name);
    append_plain(out, static_cast<uint32_t>(spec.shape.size()));
    for (size_t i = spec.shape.size(); i-- > 0;)
      append_plain(out, static_cast<uint64_t>(spec.shape[i]));
    append_plain(out, type);
    append_plain(out, offset);
    offset += padded(static_cast<uint64_t>(bytes), kAlignment);
  }
  out.resize(padded(out.size(), kAlignment), '\0');
  return out;
}

}  // namespace

Result<GgufHeader> parse_gguf(std::string_view file, std::string_view name) {
  NAITE_TRY(expect_gguf(file, name));
  Cursor cursor(file, name);
  cursor.take(kMagic.size());
  const auto version = cursor.plain<uint32_t>();
  if (cursor.ok() && version != 2 && version != kVersion)
    return fail("{}: GGUF version {} is not supported; versions 2 and 3 are", name, version);
  const auto num_tensors = cursor.plain<uint64_t>();
  const auto num_keys = cursor.plain<uint64_t>();
  // A key takes at least 13 bytes and a tensor 24, so both counts are bounded by the file.
  if (num_keys > cursor.left() / 13 || num_tensors > cursor.left() / 24)
    cursor.stop(
        fmt::format("truncated: {} keys and {} tensors are announced", num_keys, num_tensors));

  GgufHeader header;
  for (uint64_t i = 0; i < num_keys && cursor.ok(); ++i) {
    const std::string key(cursor.text());
    const GgufValue value = cursor.value();
    if (cursor.ok() && !header.values.emplace(key, value).second)
      cursor.stop(fmt::format("the key {} appears twice", shown_name(key)));
  }
  std::vector<Placed> tensors;
  for (uint64_t i = 0; i < num_tensors && cursor.ok(); ++i) tensors.push_back(read_tensor(cursor));
  if (!cursor.ok()) return cursor.error();

  NAITE_TRY(expect_whole(header, name));
  NAITE_ASSIGN(const uint64_t alignment, alignment_of(header, name));
  const uint64_t start = std::min(padded(cursor.position(), alignment), uint64_t{file.size()});
  NAITE_TRY(place_tensors(tensors, file.substr(start), alignment, name));
  for (Placed& placed : tensors) header.tensors.push_back(std::move(placed.tensor));
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < header.tensors.size(); ++i)
    if (header.tensors[i].name == header.tensors[i - 1].name)
      return fail("{}: tensor {} appears twice", name, shown_name(header.tensors[i].name));
  return header;
}

Result<Gguf> Gguf::open(const fs::path& path) {
  NAITE_ASSIGN(MappedFile file, MappedFile::open(path));
  NAITE_ASSIGN(GgufHeader header, parse_gguf(file.bytes(), path.string()));
  return Gguf(path.string(), std::move(file), std::move(header));
}

const StoredTensor* Gguf::find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors().begin(), tensors().end(), name,
      [](const StoredTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != tensors().end() && it->name == name ? &*it : nullptr;
}

std::vector<std::string_view> Gguf::keys() const {
  std::vector<std::string_view> out;
  for (const auto& [key, value] : header_.values) out.push_back(key);
  return out;
}

Result<GgufValue> Gguf::value(std::string_view key, bool array) const {
  const auto it = header_.values.find(key);
  if (it == header_.values.end()) return fail("{}: has no key {}", name_, key);
  if ((it->second.type == GgufType::kArray) != array)
    return fail("{}: the key {} is {}an array", name_, key, array ? "not " : "");
  return it->second;
}

Result<std::string> Gguf::text(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, false));
  if (found.type != GgufType::kText) return fail("{}: the key {} is not a text", name_, key);
  return std::string(found.bytes.substr(8));
}

Result<int64_t> Gguf::integer(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, false));
  const std::optional<int64_t> integer = as_integer(found.type, found.bytes);
  if (!integer) return fail("{}: the key {} is not an integer", name_, key);
  return *integer;
}

Result<double> Gguf::number(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, false));
  if (found.type == GgufType::kF32) return shortest_decimal(load<float>(found.bytes));
  if (found.type == GgufType::kF64) return load<double>(found.bytes);
  NAITE_ASSIGN(const int64_t whole, integer(key));
  return static_cast<double>(whole);
}

Result<bool> Gguf::boolean(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, false));
  if (found.type != GgufType::kBool) return fail("{}: the key {} is not true or false", name_, key);
  return load<uint8_t>(found.bytes) != 0;
}

Result<std::vector<std::string_view>> Gguf::texts(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, true));
  if (found.element != GgufType::kText)
    return fail("{}: the key {} is not a list of texts", name_, key);
  std::vector<std::string_view> out;
  out.reserve(found.count);
  Cursor cursor(found.bytes, name_);
  for (uint64_t i = 0; i < found.count; ++i) out.push_back(cursor.text());
  return out;
}

Result<std::vector<int64_t>> Gguf::integers(std::string_view key) const {
  NAITE_ASSIGN(const GgufValue found, value(key, true));
  const uint64_t bytes = fixed_bytes(found.element);
  std::vector<int64_t> out;
  out.reserve(bytes == 0 ? 0 : found.count);
  for (uint64_t i = 0; i < found.count; ++i) {
    std::optional<int64_t> integer;
    if (bytes != 0) integer = as_integer(found.element, found.bytes.substr(i * bytes, bytes));
    if (!integer) return fail("{}: the key {} is not a list of integers", name_, key);
    out.push_back(*integer);
  }
  return out;
}

void GgufKeys::open(std::string_view key, GgufType type) {
  append_text(bytes_, key);
  append_plain(bytes_, static_cast<uint32_t>(type));
  ++count_;
}

void GgufKeys::open_array(std::string_view key, GgufType element, uint64_t count) {
  open(key, GgufType::kArray);
  append_plain(bytes_, static_cast<uint32_t>(element));
  append_plain(bytes_, count);
}

void GgufKeys::text(std::string_view key, std::string_view value) {
  open(key, GgufType::kText);
  append_text(bytes_, value);
}

void GgufKeys::u32(std::string_view key, uint32_t value) {
  open(key, GgufType::kU32);
  append_plain(bytes_, value);
}

void GgufKeys::f32(std::string_view key, float value) {
  open(key, GgufType::kF32);
  append_plain(bytes_, value);
}

void GgufKeys::boolean(std::string_view key, bool value) {
  open(key, GgufType::kBool);
  append_plain(bytes_, static_cast<uint8_t>(value));
}

void GgufKeys::texts(std::string_view key, const std::vector<std::string>& values) {
  open_array(key, GgufType::kText, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
}

void GgufKeys::i32s(std::string_view key, const std::vector<int32_t>& values) {
  open_array(key, GgufType::kI32, values.size());
  for (const int32_t value : values) append_plain(bytes_, value);
}

void GgufKeys::f32s(std::string_view key, const std::vector<float>& values) {
  open_array(key, GgufType::kF32, values.size());
  for (const float value : values) append_plain(bytes_, value);
}

Status write_gguf(const fs::path& path, const GgufKeys& keys, const std::vector<TensorSpec>& specs,
                  const TensorSource& source) {
  NAITE_ASSIGN(const std::string header, header_of(keys, specs));
  NAITE_ASSIGN(FileWriter writer, FileWriter::create(path));
  NAITE_TRY(writer.write(header));
  const std::string zeros(kAlignment, '\0');
  for (const TensorSpec& spec : specs) {
    NAITE_ASSIGN(const int64_t size, stored_bytes(spec.type, spec.shape));
    const auto bytes = static_cast<uint64_t>(size);
    uint64_t written = 0;
    NAITE_TRY(source(spec, [&](const void* data, size_t count) -> Status {
      written += count;
      NAITE_CHECK(written <= bytes, "tensor {} delivers more than {} bytes", spec.name, bytes);
      return writer.write(data, count);
    }));
    NAITE_CHECK(written == bytes, "tensor {} delivers {} of {} bytes", spec.name, written, bytes);
    NAITE_TRY(writer.write(zeros.data(), padded(bytes, kAlignment) - bytes));
  }
  return writer.commit();
}

}  // namespace naite::formats
