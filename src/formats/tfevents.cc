// SPDX-License-Identifier: Apache-2.0
#include "formats/tfevents.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace naite::formats {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr std::string_view kVersion = "brain.Event:2";
constexpr size_t kFrameBytes = 16;  // length, its checksum, the checksum of the data

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

template <class T>
void append_value(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Protocol buffer fields: a varint key (number << 3 | wire type), then the value.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, uint32_t field, WireType type) {
  append_varint(out, (field << 3) | type);
}

void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_key(out, field, kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

std::string event_head(double wall_time, int64_t step) {
  std::string out;
  append_key(out, 1, kFixed64);
  append_value(out, wall_time);
  append_key(out, 2, kVarint);
  append_varint(out, static_cast<uint64_t>(step));
  return out;
}

std::string event_with_value(double wall_time, int64_t step, std::string_view value) {
  std::string summary;
  append_bytes(summary, 1, value);
  std::string event = event_head(wall_time, step);
  append_bytes(event, 5, summary);
  return event;
}

// TensorBoard shows texts as UTF-8; samples may end inside a character or hold stray bytes.
std::string valid_utf8(std::string_view text) {
  using nlohmann::json;
  const std::string quoted = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(quoted).get<std::string>();
}

// All event files of a directory, oldest first: ten digits of seconds sort by age.
Result<std::vector<fs::path>> event_files(const fs::path& directory) {
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(directory));
  std::vector<fs::path> out;
  for (const std::string& name : names)
    if (name.starts_with(kPrefix)) out.push_back(directory / name);
  return out;
}

// A name that sorts after `newest` (empty: there is none), whatever the clock says.
fs::path new_event_file(const fs::path& directory, const fs::path& newest) {
  constexpr int64_t kTenDigits = 9'999'999'999;
  int64_t seconds = std::min(static_cast<int64_t>(unix_time()), kTenDigits), before = 0;
  const std::string name = newest.filename().string();
  const char* const digits = name.data() + std::min(kPrefix.size(), name.size());
  if (std::from_chars(digits, name.data() + name.size(), before).ec == std::errc())
    seconds = std::max(seconds, std::clamp(before + 1, int64_t{0}, kTenDigits));
  char host[256] = "localhost";
  if (::gethostname(host, sizeof host - 1) != 0) std::strcpy(host, "localhost");
  return directory / fmt::format("{}{:010}.{}.{}.0", kPrefix, seconds, host, ::getpid());
}

// The records of `file` without those of later steps.
std::string kept_records(std::string_view file, int64_t step) {
  std::string out;
  file = file.substr(0, whole_records(file));
  while (!file.empty()) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, file.data(), 8);
    if (step_of_event(file.substr(12, bytes)) <= step) out += file.substr(0, kFrameBytes + bytes);
    file.remove_prefix(kFrameBytes + bytes);
  }
  return out;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

std::string event_record(std::string_view data) {
  std::string out;
  out.reserve(data.size() + kFrameBytes);
  append_value(out, uint64_t{data.size()});
  append_value(out, masked_crc32c(out));
  out += data;
  append_value(out, masked_crc32c(data));
  return out;
}

std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  std::string entry;
  append_bytes(entry, 1, tag);
  append_key(entry, 2, kFixed32);
  append_value(entry, value);
  return event_with_value(wall_time, step, entry);
}

std::string text_event(double wall_time, int64_t step, std::string_view tag,
                       std::string_view text) {
  std::string plugin, metadata, dimension, shape, tensor, entry;
  append_bytes(plugin, 1, "text");
  append_bytes(metadata, 1, plugin);
  append_key(dimension, 1, kVarint);  // one string in a tensor of shape [1]
  append_varint(dimension, 1);
  append_bytes(shape, 2, dimension);
  append_key(tensor, 1, kVarint);
  append_varint(tensor, 7);  // DT_STRING
  append_bytes(tensor, 2, shape);
  append_bytes(tensor, 8, text);
  append_bytes(entry, 1, tag);
  append_bytes(entry, 8, tensor);
  append_bytes(entry, 9, metadata);
  return event_with_value(wall_time, step, entry);
}

std::string session_start_event(double wall_time, int64_t step) {
  std::string session, event = event_head(wall_time, step);
  append_key(session, 1, kVarint);
  append_varint(session, 1);
  append_bytes(event, 7, session);
  return event;
}

int64_t step_of_event(std::string_view event) {
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0; at < event.size() && shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(event[at++]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < event.size()) {
    const uint64_t key = varint(), type = key & 7;
    const uint64_t value = type == kVarint || type == kBytes ? varint() : 0;
    if (key == (2 << 3 | kVarint)) return static_cast<int64_t>(value);
    const uint64_t skipped = type == kVarint    ? 0
                             : type == kBytes   ? value
                             : type == kFixed64 ? 8
                             : type == kFixed32 ? 4
                                                : event.size();
    if (skipped > event.size() - at) break;
    at += skipped;
  }
  return -1;
}

size_t whole_records(std::string_view file) {
  size_t whole = 0;
  while (file.size() - whole >= kFrameBytes) {
    const std::string_view rest = file.substr(whole);
    uint64_t bytes = 0;
    uint32_t length_crc = 0, data_crc = 0;
    std::memcpy(&bytes, rest.data(), 8);
    std::memcpy(&length_crc, rest.data() + 8, 4);
    if (bytes > rest.size() - kFrameBytes || length_crc != masked_crc32c(rest.substr(0, 8))) break;
    std::memcpy(&data_crc, rest.data() + 12 + bytes, 4);
    if (data_crc != masked_crc32c(rest.substr(12, bytes))) break;
    whole += kFrameBytes + bytes;
  }
  return whole;
}

Result<EventWriter> EventWriter::open(const fs::path& directory) {
  NAITE_ASSIGN(const std::vector<fs::path> files, event_files(directory));
  if (files.empty()) return open_file(new_event_file(directory, {}), 0);
  NAITE_ASSIGN(const MappedFile file, MappedFile::open(files.back()));
  return open_file(files.back(), whole_records(file.bytes()));
}

// Goes on after the first `whole` bytes of `path`.
Result<EventWriter> EventWriter::open_file(const fs::path& path, size_t whole) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
  EventWriter writer(path, descriptor);
  if (::ftruncate(descriptor, static_cast<off_t>(whole)) != 0)
    return fail("cannot shorten {}: {}", path.string(), std::strerror(errno));
  if (whole == 0) {
    std::string event;
    append_key(event, 1, kFixed64);
    append_value(event, unix_time());
    append_bytes(event, 3, kVersion);
    NAITE_TRY(writer.append(event));
  }
  return writer;
}

Status EventWriter::rewind(int64_t step) {
  const fs::path directory = path_.parent_path();
  NAITE_ASSIGN(const std::vector<fs::path> files, event_files(directory));
  bool cut = false;
  for (const fs::path& path : files) {
    NAITE_ASSIGN(const MappedFile file, MappedFile::open(path));
    const std::string kept = kept_records(file.bytes(), step);
    if (kept == file.bytes()) continue;
    NAITE_TRY(write_file(path, kept));
    cut = true;
  }
  if (!cut) return {};
  NAITE_ASSIGN(EventWriter next, open_file(new_event_file(directory, files.back()), 0));
  *this = std::move(next);
  return append(session_start_event(unix_time(), step + 1));
}

EventWriter& EventWriter::operator=(EventWriter&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

EventWriter::~EventWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status EventWriter::scalar(int64_t step, std::string_view tag, double value) {
  return append(scalar_event(unix_time(), step, tag, static_cast<float>(value)));
}

Status EventWriter::text(int64_t step, std::string_view tag, std::string_view markdown) {
  return append(text_event(unix_time(), step, tag, valid_utf8(markdown)));
}

Status EventWriter::flush() {
  if (::fsync(descriptor_) != 0)
    return fail("cannot flush {}: {}", path_.string(), std::strerror(errno));
  return {};
}

Status EventWriter::append(std::string_view event) {
  const std::string record = event_record(event);
  std::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t n = ::write(descriptor_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail("cannot write {}: {}", path_.string(), std::strerror(errno));
    rest.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace naite::formats
