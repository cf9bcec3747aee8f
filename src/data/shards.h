// SPDX-License-Identifier: Apache-2.0
#pragma once
// Writing and reading the token files that manifest.h describes.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"
#include "data/manifest.h"

namespace naite::data {

// Writes one split of one source, shard by shard. Every file is complete or absent.
class SplitWriter {
 public:
  // Files are named `stem`-00000.tokens and so on. `token_bytes` is 2 or 4. `with_weights`: add()
  // is given one for each token.
  SplitWriter(std::filesystem::path directory, std::string stem, int token_bytes,
              bool with_weights = false)
      : directory_(std::move(directory)),
        stem_(std::move(stem)),
        token_bytes_(token_bytes),
        with_weights_(with_weights) {}

  Status begin_document(int32_t end_of_document, float weight = 1);
  Status add(std::span<const int32_t> tokens, int64_t text_bytes,
             std::span<const float> weights = {});
  Result<ManifestSplit> finish();

 private:
  struct Open {
    FileWriter tokens, starts;
    Sha256 tokens_sha, starts_sha;
    std::optional<FileWriter> weights;
    Sha256 weights_sha;
  };
  Status open_shard();
  Status close_shard();
  Status put(std::span<const int32_t> tokens, std::span<const float> weights);
  Status flush();

  std::filesystem::path directory_;
  std::string stem_;
  int token_bytes_;
  bool with_weights_;
  ManifestSplit split_;
  std::optional<Open> open_;
  ManifestShard shard_;
  std::vector<char> buffer_;
};

// All shards of one split, mapped: its tokens as one stream.
class SplitReader {
 public:
  static Result<SplitReader> open(const std::filesystem::path& directory,
                                  const ManifestSplit& split, int token_bytes);

  int64_t num_tokens() const { return begins_.back(); }
  int64_t num_documents() const { return document_begins_.back(); }
  // Copies tokens [first, first + out.size()), which must exist.
  void copy(int64_t first, std::span<int32_t> out) const;
  // The same of their weights; 1 where the split has none.
  void copy(int64_t first, std::span<float> out) const;
  bool has_weights() const { return !weights_.empty(); }
  // The index of a document's first token, its end-of-document token.
  int64_t document_start(int64_t document) const;
  // One past its last token.
  int64_t document_end(int64_t document) const;

 private:
  // Calls part(shard, first token in the shard, count, done) for pieces that lie in one shard each.
  template <class Part>
  void each_shard(int64_t first, size_t count, const Part& part) const;

  int token_bytes_ = 2;
  std::vector<MappedFile> tokens_, starts_, weights_;
  std::vector<int64_t> begins_ = {0};           // first token of each shard, and the end
  std::vector<int64_t> document_begins_ = {0};  // first document of each shard, and the end
};

// Compares every shard with its size and then with its checksums. Once `stop`, if given, is set, it
// ends with an error.
Status check_shards(const std::filesystem::path& directory, const Manifest& manifest,
                    ThreadPool& pool, const std::atomic<bool>* stop = nullptr);

}  // namespace naite::data
