// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a run comes from: what a check is about to read is brought to the run's directory first.
// This one brings nothing, as the run lies there; verify/mirror.h fetches over HTTP.
#include <filesystem>
#include <optional>
#include <string>

#include "data/manifest.h"
#include "ledger/model_signature.h"
#include "record/history.h"
#include "verify/rebuild.h"

namespace naite::verify {

class RunSource {
 public:
  RunSource() = default;
  RunSource(RunSource&&) = default;
  virtual ~RunSource() = default;

  // How a report calls the run that lies in `directory`.
  virtual std::string name_of(const std::filesystem::path& directory) const {
    return directory.string();
  }
  // Whether everything is there from the start, so that all files can be looked at before anything
  // in them is read, and whatever is missing was removed.
  virtual bool is_whole() const { return true; }
  // What to say and do where a file is missing, if that is no contradiction: it may be elsewhere.
  virtual std::optional<std::string> if_missing() const { return std::nullopt; }

  virtual Status fetch_log() { return {}; }
  virtual Status fetch_publisher() { return {}; }
  virtual Status fetch_claims(const record::RunHistory&) { return {}; }
  virtual Status fetch_data(const data::Manifest&) { return {}; }
  virtual Status fetch_state(const record::RunHistory&, const record::StoredState&, const Expect&) {
    return {};
  }
  virtual Status fetch_cosignature(const record::StoredState&, const ledger::ModelKey&) {
    return {};
  }
};

}  // namespace naite::verify
