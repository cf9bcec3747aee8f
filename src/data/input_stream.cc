// SPDX-License-Identifier: Apache-2.0
#include "data/input_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "data/unicode.h"

namespace naite::data {

namespace fs = std::filesystem;

namespace {

constexpr int kWindowLogMax = 31;  // 2 GiB, the most that zstd makes (--long=31)

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return text;
}

const char* name_of(Packing packing) { return packing == Packing::kGzip ? "gzip" : "zstd"; }

bool begins_as(Packing packing, std::string_view bytes) {
  if (packing == Packing::kGzip) return bytes.starts_with("\x1f\x8b");
  const bool frame = bytes.starts_with("\x28\xb5\x2f\xfd");
  const bool skippable = bytes.size() >= 4 &&
                         (static_cast<unsigned char>(bytes[0]) & 0xf0) == 0x50 &&
                         bytes.substr(1).starts_with("\x2a\x4d\x18");
  return frame || skippable;
}

}  // namespace

Packing packing_of(const fs::path& path) {
  const std::string ending = lower(path.extension().string());
  if (ending == ".gz") return Packing::kGzip;
  return ending == ".zst" ? Packing::kZstd : Packing::kNone;
}

std::string ending_of(const fs::path& path) {
  const fs::path name = path.filename();
  const bool packed = packing_of(name) != Packing::kNone;
  return lower((packed ? name.stem() : name).extension().string());
}

struct InputStream::State {
  fs::path path;
  int descriptor = -1;
  Sha256 sha;
  int64_t bytes_in = 0, bytes_out = 0;
  Packing packing = Packing::kNone;
  std::vector<char> packed;
  size_t packed_at = 0, packed_size = 0;
  bool file_ended = false;
  z_stream gzip{};
  bool gzip_open = false;
  bool inside = false;   // of a compressed member or frame
  int64_t finished = 0;  // members or frames
  ZSTD_DCtx* zstd = nullptr;

  ~State() {
    if (descriptor >= 0) ::close(descriptor);
    if (gzip_open) ::inflateEnd(&gzip);
    ZSTD_freeDCtx(zstd);
  }

  Result<size_t> read_file(char* to, size_t size) {
    ssize_t n = 0;
    do n = ::read(descriptor, to, size);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail("cannot read {}: {}", path.string(), std::strerror(errno));
    sha.update(to, static_cast<size_t>(n));
    bytes_in += n;
    return static_cast<size_t>(n);
  }

  // Makes packed bytes available, if there are any more.
  Status refill() {
    if (packed_at < packed_size || file_ended) return {};
    const bool first = bytes_in == 0;
    NAITE_ASSIGN(packed_size, read_file(packed.data(), packed.size()));
    packed_at = 0;
    file_ended = packed_size == 0;
    const std::string_view bytes(packed.data(), packed_size);
    if (first && !file_ended && !begins_as(packing, bytes)) return not_packed(bytes);
    return {};
  }

  // Makes packed bytes available that belong to a member or frame. Files are padded with zeros to
  // the blocks of a tape or disk, which `gzip` accepts too.
  Status refill_behind_padding() {
    NAITE_TRY(refill());
    while (!inside && finished > 0 && !file_ended && packed[packed_at] == '\0') {
      ++packed_at;
      NAITE_TRY(refill());
    }
    return {};
  }

  Error not_packed(std::string_view bytes) const {
    const std::string not_this = fmt::format("{} is not {} data, although its name says so",
                                             path.string(), name_of(packing));
    if (const std::optional<ForeignFile> file = what_is(bytes))
      return fail("{}: it is {}: {}", not_this, file->what, file->advice);
    if (find_invalid_utf8(bytes) + 3 >= bytes.size() && bytes.find('\0') == std::string_view::npos)
      return fail("{}: it is plain text: rename it to {}", not_this,
                  path.filename().stem().string());
    return fail("{}: look at it with `file`, and rename it to what it is", not_this);
  }
  Error truncated() const {
    return fail("{}: the compressed file ends in the middle; it was cut off: fetch it again",
                path.string());
  }
  Error damaged(const char* reason) const {
    return fail("{}: damaged compressed data ({}): fetch it again", path.string(),
                reason == nullptr ? "unknown" : reason);
  }
  Error other_bytes_behind() const {
    return fail(
        "{}: behind the end of the {} data come other bytes: if they are not wanted, unpack it "
        "without them: `{} -dc FILE > NEW`",
        path.string(), name_of(packing), name_of(packing));
  }

  Error zstd_error(size_t code) const;
  Result<size_t> read_gzip(std::span<char> buffer);
  Result<size_t> read_zstd(std::span<char> buffer);
};

Result<size_t> InputStream::State::read_gzip(std::span<char> buffer) {
  gzip.next_out = reinterpret_cast<Bytef*>(buffer.data());
  gzip.avail_out = static_cast<uInt>(buffer.size());
  while (gzip.avail_out == buffer.size()) {
    NAITE_TRY(refill_behind_padding());
    if (file_ended) {
      if (inside) return truncated();
      return size_t{0};
    }
    if (!inside && packed[packed_at] != '\x1f') return other_bytes_behind();
    if (!inside && ::inflateReset(&gzip) != Z_OK) return damaged(gzip.msg);
    inside = true;
    gzip.next_in = reinterpret_cast<Bytef*>(packed.data() + packed_at);
    gzip.avail_in = static_cast<uInt>(packed_size - packed_at);
    const int code = ::inflate(&gzip, Z_NO_FLUSH);
    packed_at = packed_size - gzip.avail_in;
    if (code == Z_STREAM_END) {
      inside = false;  // another member may follow
      ++finished;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return damaged(gzip.msg);
    }
  }
  return buffer.size() - gzip.avail_out;
}

Error InputStream::State::zstd_error(size_t code) const {
  switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_dictionary_wrong:
      return fail(
          "{}: zstd data that needs the dictionary it was made with: unpack it with "
          "`zstd -d -D DICTIONARY FILE -o NEW`",
          path.string());
    case ZSTD_error_frameParameter_windowTooLarge:
      return fail("{}: zstd data with a window above {} GiB: pack it anew, with --long=31 at most",
                  path.string(), (int64_t{1} << kWindowLogMax) >> 30);
    case ZSTD_error_memory_allocation:
      return fail(
          "{}: not enough memory for the window of this zstd data (up to {} GiB): unpack "
          "it on another machine with `zstd -d --long={} FILE -o NEW`",
          path.string(), (int64_t{1} << kWindowLogMax) >> 30, kWindowLogMax);
    case ZSTD_error_prefix_unknown:
      if (finished > 0) return other_bytes_behind();
      [[fallthrough]];
    default:
      return damaged(ZSTD_getErrorName(code));
  }
}

Result<size_t> InputStream::State::read_zstd(std::span<char> buffer) {
  ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
  while (out.pos == 0) {
    NAITE_TRY(refill_behind_padding());
    if (file_ended && !inside) return size_t{0};
    ZSTD_inBuffer in{packed.data() + packed_at, file_ended ? 0 : packed_size - packed_at, 0};
    const size_t code = ZSTD_decompressStream(zstd, &out, &in);
    if (ZSTD_isError(code)) return zstd_error(code);
    packed_at += in.pos;
    inside = code != 0;
    finished += !inside;
    if (file_ended && inside && out.pos == 0) return truncated();
  }
  return out.pos;
}

Result<int64_t> open_regular(const fs::path& path, int& descriptor) {
  descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fail("cannot read {}: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode))
    return fail("cannot read {}: it is not a regular file", path.string());
  return static_cast<int64_t>(info.st_size);
}

Result<InputStream> InputStream::open(const fs::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  NAITE_TRY(open_regular(path, state->descriptor));
  state->packing = packing_of(path);
  if (state->packing == Packing::kGzip) {
    constexpr int kGzipFormat = 16 + MAX_WBITS;
    if (::inflateInit2(&state->gzip, kGzipFormat) != Z_OK) return state->damaged("no memory");
    state->gzip_open = true;
  } else if (state->packing == Packing::kZstd) {
    state->zstd = ZSTD_createDCtx();
    ZSTD_DCtx_setParameter(state->zstd, ZSTD_d_windowLogMax, kWindowLogMax);
  }
  if (state->packing != Packing::kNone) state->packed.resize(1 << 18);
  return InputStream(std::move(state));
}

InputStream::InputStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
InputStream::InputStream(InputStream&&) noexcept = default;
InputStream::~InputStream() = default;

Result<size_t> InputStream::read(std::span<char> buffer) {
  State& state = *state_;
  if (state.packing == Packing::kNone) return state.read_file(buffer.data(), buffer.size());
  Result<size_t> count =
      state.packing == Packing::kGzip ? state.read_gzip(buffer) : state.read_zstd(buffer);
  if (!count) return count;
  state.bytes_out += static_cast<int64_t>(*count);
  if (state.bytes_out > kExpansionFree && state.bytes_out / kExpansionMax > state.bytes_in)
    return fail(
        "{}: expands more than {} times, which text does not; refused as a decompression "
        "bomb: unpack it yourself if it is genuine",
        state.path.string(), kExpansionMax);
  return count;
}

int64_t InputStream::file_bytes() const { return state_->bytes_in; }
std::string InputStream::sha256() { return state_->sha.hex(); }
int64_t InputStream::unpacking_bytes() const {
  return state_->zstd == nullptr ? 0 : static_cast<int64_t>(ZSTD_sizeof_DCtx(state_->zstd));
}

}  // namespace naite::data
