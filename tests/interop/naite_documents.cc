// SPDX-License-Identifier: Apache-2.0
// naite_documents KEY FILE...: reads every file as a source does and writes, for each, one line of
// JSON: its documents, the rows left out, the error.
// naite_documents --mutate COUNT SECONDS KEY FILE...: reads COUNT damaged copies of the files, as
// many as SECONDS allow, and says what came of them. Documents or one line of error are right;
// anything else ends the program.
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "data/documents.h"
#include "data/unicode.h"

namespace naite::data {
namespace {

using nlohmann::json;

struct Outcome {
  std::vector<std::string> documents;
  ReadCounts counts;
  ManifestFile file;
  std::string error;
};

Outcome outcome_of(const std::filesystem::path& path, const std::string& key) {
  Outcome out;
  const Result<InputFiles> inputs = find_inputs(path.string(), {});
  if (!inputs) return {{}, {}, {}, inputs.error().message};
  SourceOptions source;
  source.text_key = key;
  for (const InputFile& file : inputs->files) {
    const Status status = read_documents(
        file, source, false,
        [&](const Document& document) -> Result<bool> {
          if (document.begins) out.documents.emplace_back();
          out.documents.back() += document.text;
          return true;
        },
        out.counts, &out.file);
    if (!status) out.error = status.error().message;
  }
  return out;
}

int print_documents(const std::string& key, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const Outcome out = outcome_of(path, key);
    const json line = {{"documents", out.documents},
                       {"skipped", out.counts.lines_skipped},
                       {"empty", out.counts.empty_documents},
                       {"sha256", out.file.sha256},
                       {"bytes", out.file.bytes},
                       {"error", out.error}};
    fmt::print("{}\n", line.dump());
  }
  return 0;
}

// Bytes that are changed, lost, doubled or zero, a few times over; half of them near the end, where
// the footer is, which says where everything else lies.
std::string damaged(std::string bytes, std::mt19937_64& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  for (uint64_t times = 1 + below(4); times > 0 && bytes.size() > 16; --times) {
    const size_t at = below(2) == 0
                          ? below(bytes.size())
                          : bytes.size() - 9 - below(std::min<size_t>(bytes.size() - 9, 600));
    const size_t length = std::min<size_t>(1 + below(16), bytes.size() - at);
    switch (below(8)) {
      case 0:
        bytes.erase(at, length);
        break;
      case 1:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 2:
        bytes.replace(at, length, length, '\0');
        break;
      case 3:
        bytes.replace(at, length, length, '\xff');
        break;
      case 4:
        bytes[at] = static_cast<char>(random());
        break;
      default:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
    }
  }
  return bytes;
}

int mutate(int64_t count, int64_t seconds, const std::string& key,
           const std::vector<std::string>& paths) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  const std::filesystem::path path = fmt::format("/dev/shm/naite-mutated-{}.parquet", ::getpid());
  std::mt19937_64 random(1);
  int64_t tried = 0, refused = 0;
  for (; tried < count && Clock::now() < end; ++tried) {
    const Result<std::string> whole = read_file(paths[static_cast<size_t>(tried) % paths.size()]);
    NAITE_CHECK(whole.ok(), "{}", whole.error().message);
    NAITE_CHECK(write_file(path, damaged(*whole, random)).ok(), "cannot write {}", path.string());
    const Outcome out = outcome_of(path, key);
    refused += !out.error.empty();
    NAITE_CHECK(out.error.find('\n') == std::string::npos, "two lines: {}", out.error);
    for (const std::string& text : out.documents)
      NAITE_CHECK(find_invalid_utf8(text) == text.size(), "not UTF-8");
  }
  std::filesystem::remove(path);
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print(
      "{}\n",
      json({{"tried", tried}, {"refused", refused}, {"mebibytes", usage.ru_maxrss >> 10}}).dump());
  return 0;
}

int run(std::vector<std::string> arguments) {
  const bool mutating = arguments.size() > 3 && arguments[0] == "--mutate";
  const size_t first = mutating ? 3 : 0;
  if (arguments.size() < first + 2) {
    fmt::print(stderr, "usage: naite_documents [--mutate COUNT SECONDS] KEY FILE...\n");
    return 2;
  }
  const std::string key = arguments[first];
  const std::vector<std::string> paths(arguments.begin() + static_cast<int64_t>(first) + 1,
                                       arguments.end());
  if (!mutating) return print_documents(key, paths);
  return mutate(std::stoll(arguments[1]), std::stoll(arguments[2]), key, paths);
}

}  // namespace
}  // namespace naite::data

int main(int argc, char** argv) { return naite::data::run({argv + 1, argv + argc}); }
