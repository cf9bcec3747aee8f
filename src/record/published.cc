// SPDX-License-Identifier: Apache-2.0
#include "record/published.h"

#include <algorithm>
#include <map>
#include <set>

#include "ledger/model_signature.h"

namespace naite::record {

namespace {

constexpr int64_t kTextBytesMax = int64_t{256} << 20;  // tokenizer, manifest: as verify reads them
constexpr int64_t kTensorBytes = 20;                   // weights, masters, moments of one parameter
constexpr int64_t kShardTokensMax = int64_t{1} << 40;  // and documents: times 8 they fit
constexpr size_t kFilesMax = 1000;
constexpr size_t kNameMax = 128;

// One or two plain names.
bool is_plain_path(std::string_view path) {
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos) return is_plain_name(path);
  return is_plain_name(path.substr(0, slash)) && is_plain_name(path.substr(slash + 1));
}

std::string shortened(const std::string& name) {
  std::string out;
  for (const char c : name.substr(0, 60)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

std::vector<PublishedFile> published_claims(const RunHistory& history) {
  const Commitment amended = history.amended();
  return {{"recipe.toml", amended.recipe_sha256, kTextBytesMax},
          {"tokenizer.json", amended.tokenizer_sha256, kTextBytesMax},
          {"tokenizer_config.json", amended.tokenizer_config_sha256, kTextBytesMax},
          {"data/manifest.json", amended.manifest_sha256, kTextBytesMax}};
}

Result<std::vector<PublishedFile>> published_shards(const data::Manifest& manifest) {
  std::vector<PublishedFile> out;
  std::set<std::string> names = {"manifest.json"};
  for (const data::ManifestSource& source : manifest.sources)
    for (const data::ManifestSplit* split : {&source.train, &source.validation})
      for (const data::ManifestShard& shard : split->shards) {
        const std::string starts = data::starts_name(shard.file);
        const std::string weights = data::weights_name(shard.file);
        for (const std::string& name : {shard.file, starts, weights})
          // A source may be named in any script; what leads elsewhere is refused.
          if (name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos ||
              name[0] == '.' || name.size() > 255 || !names.insert(name).second)
            return fail("data/manifest.json names the shard {}, twice or not plainly",
                        shortened(name));
        if (shard.tokens > kShardTokensMax || shard.documents > kShardTokensMax)
          return fail("data/{}: more tokens than this program verifies", shortened(shard.file));
        out.push_back({"data/" + shard.file, shard.sha256, shard.tokens * manifest.token_bytes});
        out.push_back({"data/" + starts, shard.starts_sha256, shard.documents * 8});
        if (shard.has_weights())
          out.push_back({"data/" + weights, shard.weights_sha256, shard.tokens * 4});
      }
  return out;
}

Result<std::vector<PublishedFile>> published_state(const formats::Record& record,
                                                   int64_t parameters, const std::string& where) {
  const std::map<std::string, std::string>& files = record.files;
  if (files.size() > kFilesMax) return fail("{} lists {} files, too many", where, files.size());
  std::vector<PublishedFile> out;
  for (const auto& [name, sha256] : files) {
    const bool is_other =
        name == "record.json" || name == "provenance.json" || name == ledger::kModelSignatureFile;
    const bool is_folder = std::any_of(
        files.begin(), files.end(),
        [&folder = name](const auto& file) { return file.first.starts_with(folder + "/"); });
    if (!is_plain_path(name) || is_other || is_folder)
      return fail("{} lists {}, which is no plain name of a file of a checkpoint", where,
                  shortened(name));
    const bool tensors = name.ends_with(".safetensors");
    out.push_back(
        {name, sha256, tensors ? kTensorBytes * parameters + (int64_t{16} << 20) : kTextBytesMax});
  }
  return out;
}

}  // namespace naite::record
