// SPDX-License-Identifier: Apache-2.0
#pragma once
// A local copy of a run that is published over HTTP (docs/LEDGER.md, "A published run"): the same
// layout, brought piece by piece, so that whatever checks a run's directory can check it. Nothing
// gets its final name before it is whole and is what the log, the manifest or a record promises:
//
//   .mirror       the address that it is a copy of
//   .fetching/    the same paths: what is on its way; it goes on there after a cut or a kill
//   evidence/     signed heads, with their tiles, that contradict an earlier one
//
// The server is distrusted. The log's key is the one that was seen first (ledger/vkey) and does not
// change any more; a head that it has not signed changes nothing. What is fetched is bounded by
// what the log and the manifest say, and names are plain ones only.
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "ledger/http.h"
#include "ledger/ledger.h"
#include "record/published.h"
#include "record/run_directory.h"
#include "verify/run_source.h"

namespace naite::verify {

class Mirror final : public RunSource {
 public:
  // Makes the directory, or opens one that was made for this address, and locks it. Of `options`,
  // `progress` is not used.
  using Progress = std::function<void(const std::string& file, int64_t done, int64_t total)>;
  static Result<Mirror> open(const std::string& url, const std::filesystem::path& directory,
                             ledger::HttpOptions options, Progress progress);
  // The address that a directory is a copy of; empty if it is none.
  static std::string address_of(const std::filesystem::path& directory);
  // Where `naite verify URL` keeps it if nothing else is said.
  static std::filesystem::path default_directory(const std::string& url);

  const std::filesystem::path& path() const { return run_.path(); }
  const std::string& url() const { return url_; }

  std::string name_of(const std::filesystem::path&) const override { return url_; }
  bool is_whole() const override { return false; }
  std::optional<std::string> if_missing() const override;

  // A head was seen that contradicts an earlier one.
  bool contradicted() const { return contradicted_; }

  // The newest head with all tiles, if it goes on from the head that was here. An error that names
  // both heads if it does not; the other one is then kept as evidence.
  Status fetch_log() override;
  Status fetch_publisher() override;  // the same for the log of runs
  // What the log answers for: recipe.toml, tokenizer.json, tokenizer_config.json, the manifest.
  Status fetch_claims(const record::RunHistory& history) override;
  Status fetch_data(const data::Manifest& manifest) override;
  // The directory of one state, made again but for its tensors, which are fetched, and its
  // signature.
  Status fetch_state(const record::RunHistory& history, const record::StoredState& state,
                     const Expect& expect) override;
  // The key's co-signature of a state that is here already, if there is one.
  Status fetch_cosignature(const record::StoredState& state, const ledger::ModelKey& key) override;

 private:
  // A head as a server has it.
  struct Offer {
    std::string text;
    ledger::Head head;
  };

  Mirror(std::string url, const std::filesystem::path& directory, FileLock lock)
      : url_(std::move(url)), run_(directory), lock_(std::move(lock)) {}
  std::filesystem::path staging(const std::string& path) const {
    return path_of(".fetching", path);
  }
  std::filesystem::path path_of(const std::string& folder, const std::string& path) const {
    return run_.path() / folder / path;
  }
  std::string url_of(const std::string& path) const;
  // What comes next is so many files of so many bytes in all: from what was checked before.
  void allow(int64_t bytes, int64_t files);

  Result<ledger::Verifier> signer();
  Result<Offer> offered_head(const std::string& log, const ledger::Verifier& signer);
  Status update_log(const std::string& log, const ledger::Verifier& signer);
  Status stage_tiles(const std::string& log, const Offer& offer, bool afresh);
  Result<ledger::LogContent> staged_log(const std::string& log, const Offer& offer, bool& afresh);
  Error contradiction(const std::string& log, const ledger::Head& ours, const Offer& offer);
  Status adopt_log(const std::string& log, const Offer& offer, bool afresh);
  Status fetch_file(const record::PublishedFile& file);
  Result<std::vector<record::PublishedFile>> begin_state(const record::StoredState& state,
                                                         const Expect& expect);
  Status fetch_signature(const record::RunHistory& history, const record::StoredState& state);
  bool has_state(const record::RunHistory& history, const record::StoredState& state,
                 const Expect& expect) const;

  std::string url_;
  record::RunDirectory run_;
  FileLock lock_;
  std::shared_ptr<std::string> file_ = std::make_shared<std::string>();  // under way
  ledger::HttpClient client_;
  bool contradicted_ = false;
  std::set<std::string> known_;  // files and states that have been compared since it was opened
};

}  // namespace naite::verify
