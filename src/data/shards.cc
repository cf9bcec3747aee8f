// SPDX-License-Identifier: Apache-2.0
#include "data/shards.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace naite::data {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kShardTokensMax = int64_t{1} << 28;
constexpr size_t kBufferBytes = size_t{1} << 20;

Error changed(const fs::path& path, std::string_view what) {
  return fail(
      "{}: its {} is not what manifest.json says: the file was changed or damaged; remove the "
      "folder {} to pack the text again",
      path.string(), what, path.parent_path().string());
}

// The size first: a file may seem to have any number of bytes and take no place on the disk.
Status check_file(const fs::path& path, int64_t bytes, const std::string& sha256,
                  const std::atomic<bool>* stop) {
  std::error_code code;
  const uintmax_t size = fs::file_size(path, code);
  if (code) return system_error(code.value(), "cannot read {}", path.string());
  if (size != static_cast<uintmax_t>(bytes)) return changed(path, "size");
  NAITE_ASSIGN(const std::string found, sha256_file(path, stop));
  return found == sha256 ? Status() : changed(path, "SHA-256");
}

}  // namespace

Status SplitWriter::open_shard() {
  shard_ = {};
  shard_.file = shard_name(stem_, split_.shards.size());
  NAITE_ASSIGN(FileWriter tokens, FileWriter::create(directory_ / shard_.file));
  NAITE_ASSIGN(FileWriter starts, FileWriter::create(directory_ / starts_name(shard_.file)));
  open_.emplace(Open{std::move(tokens), std::move(starts), {}, {}, {}, {}});
  if (!with_weights_) return {};
  NAITE_ASSIGN(FileWriter weights, FileWriter::create(directory_ / weights_name(shard_.file)));
  open_->weights.emplace(std::move(weights));
  return {};
}

Status SplitWriter::flush() {
  NAITE_TRY(open_->tokens.write(buffer_.data(), buffer_.size()));
  open_->tokens_sha.update(buffer_.data(), buffer_.size());
  buffer_.clear();
  return {};
}

Status SplitWriter::close_shard() {
  NAITE_TRY(flush());
  NAITE_TRY(open_->tokens.commit());
  kill_point("data-shard");
  NAITE_TRY(open_->starts.commit());
  shard_.sha256 = open_->tokens_sha.hex();
  shard_.starts_sha256 = open_->starts_sha.hex();
  if (open_->weights) {
    NAITE_TRY(open_->weights->commit());
    shard_.weights_sha256 = open_->weights_sha.hex();
  }
  split_.shards.push_back(shard_);
  open_.reset();
  return {};
}

Status SplitWriter::put(std::span<const int32_t> tokens, std::span<const float> weights) {
  NAITE_CHECK(weights.size() == (with_weights_ ? tokens.size() : 0), "{} weights for {} tokens",
              weights.size(), tokens.size());
  if (with_weights_) {
    NAITE_TRY(open_->weights->write(weights.data(), weights.size_bytes()));
    open_->weights_sha.update(weights.data(), weights.size_bytes());
  }
  for (const int32_t token : tokens) {
    const uint32_t value = static_cast<uint32_t>(token);
    const char bytes[4] = {static_cast<char>(value), static_cast<char>(value >> 8),
                           static_cast<char>(value >> 16), static_cast<char>(value >> 24)};
    buffer_.insert(buffer_.end(), bytes, bytes + token_bytes_);
  }
  shard_.tokens += static_cast<int64_t>(tokens.size());
  split_.tokens += static_cast<int64_t>(tokens.size());
  if (buffer_.size() >= kBufferBytes) return flush();
  return {};
}

Status SplitWriter::begin_document(int32_t end_of_document, float weight) {
  if (open_ && shard_.tokens >= kShardTokensMax) NAITE_TRY(close_shard());
  if (!open_) NAITE_TRY(open_shard());
  const uint64_t start = static_cast<uint64_t>(split_.tokens);
  NAITE_TRY(open_->starts.write(&start, sizeof start));
  open_->starts_sha.update(&start, sizeof start);
  ++shard_.documents;
  ++split_.documents;
  return put({&end_of_document, 1}, {&weight, with_weights_ ? size_t{1} : size_t{0}});
}

Status SplitWriter::add(std::span<const int32_t> tokens, int64_t text_bytes,
                        std::span<const float> weights) {
  split_.bytes += text_bytes;
  return put(tokens, weights);
}

Result<ManifestSplit> SplitWriter::finish() {
  if (open_) NAITE_TRY(close_shard());
  return std::move(split_);
}

Result<SplitReader> SplitReader::open(const fs::path& directory, const ManifestSplit& split,
                                      int token_bytes) {
  SplitReader reader;
  reader.token_bytes_ = token_bytes;
  const auto map = [&](const std::string& file, int64_t expected,
                       std::vector<MappedFile>& out) -> Status {
    const fs::path path = directory / file;
    NAITE_ASSIGN(MappedFile mapped, MappedFile::open(path));
    if (static_cast<int64_t>(mapped.bytes().size()) != expected)
      return fail(
          "{}: {} bytes instead of {}: the file was changed or cut off; remove the folder "
          "{} to pack the text again",
          path.string(), mapped.bytes().size(), expected, directory.string());
    out.push_back(std::move(mapped));
    return {};
  };
  const bool has_weights = !split.shards.empty() && split.shards[0].has_weights();
  for (const ManifestShard& shard : split.shards) {
    NAITE_TRY(map(shard.file, shard.tokens * token_bytes, reader.tokens_));
    NAITE_TRY(map(starts_name(shard.file), shard.documents * 8, reader.starts_));
    if (shard.has_weights() != has_weights)
      return fail("{}: some shards of a split have weights, {} is not as the first",
                  directory.string(), shard.file);
    if (has_weights) NAITE_TRY(map(weights_name(shard.file), shard.tokens * 4, reader.weights_));
    reader.begins_.push_back(reader.begins_.back() + shard.tokens);
    reader.document_begins_.push_back(reader.document_begins_.back() + shard.documents);
  }
  return reader;
}

template <class Part>
void SplitReader::each_shard(int64_t first, size_t all, const Part& part) const {
  NAITE_CHECK(first >= 0 && first + static_cast<int64_t>(all) <= num_tokens(),
              "tokens {} + {} of {}", first, all, num_tokens());
  size_t shard = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), first) -
                                     begins_.begin() - 1);
  for (size_t done = 0; done < all; ++shard) {
    const int64_t at = first + static_cast<int64_t>(done);
    const size_t count =
        static_cast<size_t>(std::min(begins_[shard + 1] - at, static_cast<int64_t>(all - done)));
    part(shard, at - begins_[shard], count, done);
    done += count;
  }
}

void SplitReader::copy(int64_t first, std::span<int32_t> out) const {
  each_shard(first, out.size(), [&](size_t shard, int64_t at, size_t count, size_t done) {
    const char* from = tokens_[shard].bytes().data() + at * token_bytes_;
    for (size_t i = 0; i < count; ++i) {
      uint32_t value = 0;
      std::memcpy(&value, from + i * static_cast<size_t>(token_bytes_),
                  static_cast<size_t>(token_bytes_));
      out[done + i] = static_cast<int32_t>(value);
    }
  });
}

void SplitReader::copy(int64_t first, std::span<float> out) const {
  if (!has_weights()) {
    std::fill(out.begin(), out.end(), 1.0f);
    return;
  }
  each_shard(first, out.size(), [&](size_t shard, int64_t at, size_t count, size_t done) {
    std::memcpy(&out[done], weights_[shard].bytes().data() + at * 4, count * 4);
  });
}

int64_t SplitReader::document_start(int64_t document) const {
  NAITE_CHECK(document >= 0 && document < num_documents(), "document {} of {}", document,
              num_documents());
  const size_t shard = static_cast<size_t>(
      std::upper_bound(document_begins_.begin(), document_begins_.end(), document) -
      document_begins_.begin() - 1);
  uint64_t start = 0;
  std::memcpy(&start, starts_[shard].bytes().data() + (document - document_begins_[shard]) * 8, 8);
  return static_cast<int64_t>(start);
}

int64_t SplitReader::document_end(int64_t document) const {
  return document + 1 == num_documents() ? num_tokens() : document_start(document + 1);
}

Status check_shards(const fs::path& directory, const Manifest& manifest, ThreadPool& pool,
                    const std::atomic<bool>* stop) {
  struct Check {
    fs::path path;
    int64_t bytes;
    const std::string* sha256;
  };
  std::vector<Check> checks;
  for (const ManifestSource& source : manifest.sources)
    for (const ManifestSplit* split : {&source.train, &source.validation})
      for (const ManifestShard& shard : split->shards) {
        checks.push_back(
            {directory / shard.file, shard.tokens * manifest.token_bytes, &shard.sha256});
        checks.push_back(
            {directory / starts_name(shard.file), shard.documents * 8, &shard.starts_sha256});
        if (shard.has_weights())
          checks.push_back(
              {directory / weights_name(shard.file), shard.tokens * 4, &shard.weights_sha256});
      }
  std::vector<Status> found(checks.size());
  pool.run(static_cast<int64_t>(checks.size()), [&](int64_t task, int) {
    const Check& check = checks[static_cast<size_t>(task)];
    found[static_cast<size_t>(task)] = check_file(check.path, check.bytes, *check.sha256, stop);
  });
  for (const Status& status : found) NAITE_TRY(status);
  return {};
}

}  // namespace naite::data
