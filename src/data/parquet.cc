// SPDX-License-Identifier: Apache-2.0
#include "data/parquet.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "data/input_stream.h"
#include "data/parquet_footer.h"
#include "data/parquet_plugin.h"
#include "data/unicode.h"

namespace naite::data {

namespace fs = std::filesystem;

namespace {

// From a source tree; docs/DATA.md says the same.
constexpr std::string_view kHowToGet =
    "python3 -m venv .cache/pyarrow && .cache/pyarrow/bin/pip install pyarrow && "
    "cmake --preset release -DNAITE_PARQUET=.cache/pyarrow && cmake --build --preset release";

// Some hundred bytes for each column of each row group.
constexpr int64_t kFooterMax = int64_t{64} << 20;

fs::path plugin_path() {
  if (const char* named = std::getenv("NAITE_PARQUET_PLUGIN")) return named;
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path() / kParquetPluginName;
}

Result<const ParquetPlugin*> load_plugin() {
  const fs::path path = plugin_path();
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    return fail("Parquet is read by {}, which is not there; in Naite's source tree: {}",
                path.string(), kHowToGet);
  // Loaded once and never unloaded: Arrow keeps things for the life of the process.
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr)
    return fail("cannot load the Parquet plugin ({}); in Naite's source tree: {}", ::dlerror(),
                kHowToGet);
  void* const symbol = ::dlsym(library, kParquetPluginSymbol);
  if (symbol == nullptr)
    return fail(
        "{} is of another build of Naite; in its source tree: cmake --build --preset "
        "release --target naite_parquet",
        path.string());
  return reinterpret_cast<decltype(&naite_parquet_plugin_1)>(symbol)();
}

Result<std::string> read_at(int descriptor, const fs::path& path, int64_t offset, size_t size) {
  std::string bytes(size, '\0');
  const ssize_t n = ::pread(descriptor, bytes.data(), size, offset);
  if (n < 0) return fail("cannot read {}: {}", path.string(), std::strerror(errno));
  bytes.resize(static_cast<size_t>(n));
  return bytes;
}

// A file begins with "PAR1" and ends with its footer, the footer's length and "PAR1".
constexpr int64_t kMark = 4, kEnd = 8;

// What a file is that is no Parquet, or not all of it: known without the plugin. The last bytes.
Result<std::string> check_ends(int descriptor, const fs::path& path, int64_t size) {
  const std::string name = path.string();
  NAITE_ASSIGN(const std::string head, read_at(descriptor, path, 0, kForeignBytes));
  if (size == 0) return fail("{}: an empty file, not Parquet: fetch it again", name);
  if (!head.starts_with("PAR1") && !head.starts_with("PARE")) {
    if (const std::optional<ForeignFile> foreign = what_is(head))
      return fail("{}: not Parquet, but {}: {}", name, foreign->what, foreign->advice);
    return fail("{}: not Parquet, although its name says so: it does not begin with PAR1", name);
  }
  NAITE_ASSIGN(std::string tail, read_at(descriptor, path, std::max(size - kEnd, kMark), kEnd));
  if (tail.size() != kEnd || !(tail.ends_with("PAR1") || tail.ends_with("PARE")))
    return fail("{}: the Parquet file ends in the middle; it was cut off: fetch it again", name);
  if (head.starts_with("PARE") || tail.ends_with("PARE"))
    return fail("{}: encrypted Parquet, which is not read: write it without encryption", name);
  return tail;
}

Status check_file(int descriptor, const fs::path& path, int64_t size) {
  NAITE_ASSIGN(const std::string tail, check_ends(descriptor, path, size));
  const std::string name = path.string();
  uint32_t footer = 0;
  std::memcpy(&footer, tail.data(), sizeof footer);
  if (footer == 0 || footer > size - kMark - kEnd)
    return fail("{}: damaged Parquet: its footer claims {} bytes: fetch it again", name, footer);
  if (footer > kFooterMax)
    return fail("{}: a Parquet footer of {} MiB; {} are read: write it with larger row groups",
                name, footer >> 20, kFooterMax >> 20);
  NAITE_ASSIGN(const std::string bytes, read_at(descriptor, path, size - kEnd - footer, footer));
  if (const Status sound = check_parquet_footer(bytes); !sound)
    return fail("{}: {}", name, sound.error().message);
  return {};
}

}  // namespace

struct ParquetFile::State {
  fs::path path;
  int descriptor = -1;
  int64_t bytes_in = 0, bytes_out = 0;
  const ParquetPlugin* plugin = nullptr;
  ParquetPluginFile* file = nullptr;

  ~State() {
    if (file != nullptr) plugin->close(file);
    if (descriptor >= 0) ::close(descriptor);
  }
};

ParquetFile::ParquetFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
ParquetFile::ParquetFile(ParquetFile&&) noexcept = default;
ParquetFile::~ParquetFile() = default;
int64_t ParquetFile::file_bytes() const { return state_->bytes_in; }

Result<ParquetFile> ParquetFile::open(const fs::path& path, const std::string& text_key) {
  auto state = std::make_unique<State>();
  state->path = path;
  NAITE_ASSIGN(state->bytes_in, open_regular(path, state->descriptor));
  if (packing_of(path) != Packing::kNone)
    return fail("{}: Parquet is packed inside, and read only unpacked: unpack it first",
                path.string());
  NAITE_TRY(check_file(state->descriptor, path, state->bytes_in));
  const Result<const ParquetPlugin*> plugin = load_plugin();
  if (!plugin) return fail("{}: {}", path.string(), plugin.error().message);
  state->plugin = *plugin;
  ParquetPluginError error{};
  state->file = state->plugin->open(state->descriptor, text_key.c_str(), &error);
  if (state->file == nullptr) return fail("{}: {}", path.string(), error.text);
  return ParquetFile(std::move(state));
}

Result<std::optional<ParquetRow>> ParquetFile::next() {
  State& state = *state_;
  ParquetPluginRow row{};
  ParquetPluginError error{};
  const ParquetPluginResult result = state.plugin->next(state.file, &row, &error);
  if (result == ParquetPluginResult::kEnd) return std::optional<ParquetRow>();
  if (result != ParquetPluginResult::kRow) return fail("{}: {}", state.path.string(), error.text);
  // Even a row of nothing counts, or a few bytes could stand for rows without end.
  constexpr int64_t kRowBytes = 16;
  state.bytes_out += static_cast<int64_t>(row.bytes) + kRowBytes;
  if (state.bytes_out > kExpansionFree && state.bytes_out / kExpansionMax > state.bytes_in)
    return fail(
        "{}: expands more than {} times, which text does not; refused as a decompression "
        "bomb: write it as .jsonl yourself if it is genuine",
        state.path.string(), kExpansionMax);
  ParquetRow out{row.number, {row.text, row.bytes}, row.null, {}};
  if (row.null) out.problem = "no text: the value is null";
  if (const size_t bad = find_invalid_utf8(out.text); bad < out.text.size())
    out.problem = fmt::format("not UTF-8 at byte {} of the value", bad);
  return std::optional<ParquetRow>(std::move(out));
}

}  // namespace naite::data
