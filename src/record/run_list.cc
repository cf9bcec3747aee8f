// SPDX-License-Identifier: Apache-2.0
#include "record/run_list.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ledger/ledger.h"
#include "record/entry_rules.h"

namespace naite::record {

using nlohmann::json;

namespace {

Status add(RunList& list, const json& entry, const std::string& publisher,
           const std::string& where) {
  const auto origin = entry["origin"].get<std::string>();
  if (!origin.starts_with(publisher + "/"))
    return fail("{} {} is no run of {}", where, origin, publisher);
  const auto run = list.runs.find(origin);
  if (entry["type"] == "run") {
    if (run != list.runs.end()) return fail("{} {} is listed a second time", where, origin);
    list.runs[origin] = {entry["commitment"].get<std::string>(), entry["time"].get<int64_t>(), {}};
    return {};
  }
  if (run == list.runs.end()) return fail("{} {} ends without having begun", where, origin);
  if (run->second.end) return fail("{} {} ends a second time", where, origin);
  run->second.end =
      ledger::Head{origin, entry["size"].get<int64_t>(),
                   *ledger::digest_from_hex(entry["root"].get_ref<const std::string&>())};
  return {};
}

}  // namespace

Result<RunList> RunList::parse(const std::vector<std::string>& entries,
                               const std::string& publisher) {
  RunList out;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string where = fmt::format("entry {} of the log of runs:", i);
    NAITE_ASSIGN(const json entry, ledger::parse_canonical_json(entries[i], where));
    NAITE_ASSIGN([[maybe_unused]] const EntryRule* const rule,
                 check_entry(entry, list_rules(), where));
    NAITE_TRY(add(out, entry, publisher, where));
  }
  return out;
}

int64_t RunList::num_ended() const {
  return std::count_if(runs.begin(), runs.end(),
                       [](const auto& run) { return run.second.end.has_value(); });
}

}  // namespace naite::record
