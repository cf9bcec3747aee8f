// SPDX-License-Identifier: Apache-2.0
#include "data/input_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace naite::data {

namespace fs = std::filesystem;

struct InputStream::State {
  fs::path path;
  int descriptor = -1;
  Sha256 sha;
  int64_t bytes_in = 0, bytes_out = 0;
  enum class Kind { kPlain, kGzip, kZstd } kind = Kind::kPlain;
  std::vector<char> packed;
  size_t packed_at = 0, packed_size = 0;
  bool file_ended = false;
  z_stream gzip{};
  bool gzip_open = false;
  bool inside = false;  // of a compressed member or frame
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
    NAITE_ASSIGN(packed_size, read_file(packed.data(), packed.size()));
    packed_at = 0;
    file_ended = packed_size == 0;
    return {};
  }

  Error truncated() const {
    return fail("{}: the compressed file ends in the middle; it was cut off: fetch it again",
                path.string());
  }
  Error damaged(const char* reason) const {
    return fail("{}: damaged compressed data ({}): fetch it again", path.string(),
                reason == nullptr ? "unknown" : reason);
  }

  Result<size_t> read_gzip(std::span<char> buffer);
  Result<size_t> read_zstd(std::span<char> buffer);
};

Result<size_t> InputStream::State::read_gzip(std::span<char> buffer) {
  gzip.next_out = reinterpret_cast<Bytef*>(buffer.data());
  gzip.avail_out = static_cast<uInt>(buffer.size());
  while (gzip.avail_out == buffer.size()) {
    NAITE_TRY(refill());
    if (file_ended) {
      if (inside) return truncated();
      return size_t{0};
    }
    if (!inside && ::inflateReset(&gzip) != Z_OK) return damaged(gzip.msg);
    inside = true;
    gzip.next_in = reinterpret_cast<Bytef*>(packed.data() + packed_at);
    gzip.avail_in = static_cast<uInt>(packed_size - packed_at);
    const int code = ::inflate(&gzip, Z_NO_FLUSH);
    packed_at = packed_size - gzip.avail_in;
    if (code == Z_STREAM_END) {
      inside = false;  // another member may follow
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return damaged(gzip.msg);
    }
  }
  return buffer.size() - gzip.avail_out;
}

Result<size_t> InputStream::State::read_zstd(std::span<char> buffer) {
  ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
  while (out.pos == 0) {
    NAITE_TRY(refill());
    if (file_ended && !inside) return size_t{0};
    ZSTD_inBuffer in{packed.data() + packed_at, file_ended ? 0 : packed_size - packed_at, 0};
    const size_t code = ZSTD_decompressStream(zstd, &out, &in);
    if (ZSTD_isError(code)) return damaged(ZSTD_getErrorName(code));
    packed_at += in.pos;
    inside = code != 0;
    if (file_ended && inside && out.pos == 0) return truncated();
  }
  return out.pos;
}

Result<InputStream> InputStream::open(const fs::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (state->descriptor < 0) return fail("cannot read {}: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (::fstat(state->descriptor, &info) != 0 || !S_ISREG(info.st_mode))
    return fail("cannot read {}: it is not a regular file", path.string());
  const std::string extension = path.extension().string();
  if (extension == ".gz") {
    state->kind = State::Kind::kGzip;
    constexpr int kGzipFormat = 16 + MAX_WBITS;
    if (::inflateInit2(&state->gzip, kGzipFormat) != Z_OK) return state->damaged("no memory");
    state->gzip_open = true;
  } else if (extension == ".zst") {
    state->kind = State::Kind::kZstd;
    state->zstd = ZSTD_createDCtx();
    constexpr int kWindowLogMax = 27;  // 128 MiB, what the zstd tool allows without asking
    ZSTD_DCtx_setParameter(state->zstd, ZSTD_d_windowLogMax, kWindowLogMax);
  }
  if (state->kind != State::Kind::kPlain) state->packed.resize(1 << 18);
  return InputStream(std::move(state));
}

InputStream::InputStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
InputStream::InputStream(InputStream&&) noexcept = default;
InputStream::~InputStream() = default;

Result<size_t> InputStream::read(std::span<char> buffer) {
  State& state = *state_;
  if (state.kind == State::Kind::kPlain) return state.read_file(buffer.data(), buffer.size());
  Result<size_t> count =
      state.kind == State::Kind::kGzip ? state.read_gzip(buffer) : state.read_zstd(buffer);
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

}  // namespace naite::data
