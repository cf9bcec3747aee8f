// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table of docs/LEDGER.md, "Entries", as data: which entries a log has, where each may stand,
// and what its values look like. What a value must be, given the entries before it, is
// record/history.h and record/run_list.h. Whoever writes an entry is held to the same table as
// whoever reads it.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::record {

// How far the log of a run is. Each follows the one before it.
enum class Phase : uint8_t {
  kEmpty,        // no entry
  kCommitted,    // the commitment
  kSeeded,       // the seed, and some of the initial tensors perhaps
  kInitialised,  // all initial tensors
  kUnderWay,     // the first checkpoint
  kOver,         // the end, or that there will be none
};

// What a value looks like.
enum class Form : uint8_t {
  kFormat,    // 1
  kCount,     // 0 to 2^53
  kPositive,  // 1 to 2^53
  kTime,      // seconds since 1970; a clock may be wrong
  kLine,      // a line that shows what it says, of at most 1024 bytes
  kName,      // such a line that names a file, of at most 128
  kAnyText,   // judged by what it stands for
  kNonce,     // 32 hexadecimal digits
  kDigest,    // 64
  kHex,       // 2 to 1024, an even number
  kDecimal,   // a number below 2^63 as text
  kSeedKind,  // "trainer" or "beacon"
  kVersion,   // of Naite, such as "0.1.0"
  kCommit,    // of Naite's source: digits, -dirty behind them perhaps, or "unknown"
  kObject,    // judged by its own table
  kBranch,    // null, or such an object
  kList,      // not empty
};

struct EntryField {
  std::string_view key;
  Form form;
  bool may_be_absent = false;
};

struct EntryRule {
  std::string_view type;
  Phase first, last;               // it may stand in these phases and between them
  std::vector<EntryField> fields;  // beside `type`; there are no others
};

const std::vector<EntryRule>& run_rules();   // the log of a run
const std::vector<EntryRule>& list_rules();  // a publisher's log of runs

// The rule of the entry, which has exactly the keys and forms of it. `where` begins messages.
Result<const EntryRule*> check_entry(const nlohmann::json& entry,
                                     const std::vector<EntryRule>& rules, const std::string& where);
// Whether an entry may follow what the log has.
Status check_phase(const EntryRule& rule, Phase phase, const std::string& where);
// Values that are objects: a plan for so many stages, the changes of an amendment.
Status check_plan(const nlohmann::json& plan, size_t num_stages, const std::string& where);
Status check_changes(const nlohmann::json& changes, size_t num_stages, const std::string& where);

// Whether an amendment may change this of the commitment: what decides no bit.
bool may_change(std::string_view key);

// What an entry that passed check_entry() says, in one line for people.
std::string entry_summary(const nlohmann::json& entry);

}  // namespace naite::record
