// SPDX-License-Identifier: Apache-2.0
#include "cmd/machine.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "base/machine_limits.h"

namespace naite::cmd {

namespace fs = std::filesystem;

namespace {

Result<std::vector<ledger::Witness>> read_witnesses(Table& table) {
  std::vector<ledger::Witness> out;
  const nlohmann::json* const value = table.raw("witness");
  if (value == nullptr) return out;
  if (!value->is_array())
    return fail("{} write each witness as a table of its own under [[witness]]", table.where());
  for (const nlohmann::json& item : *value) {
    Table witness(item, fmt::format("{} [[witness]] number {}:", table.where(), out.size() + 1));
    const std::string url = witness.string("url"), vkey = witness.string("vkey");
    NAITE_TRY(witness.finish());
    const Result<ledger::Witness> made = ledger::Witness::make(url, vkey);
    if (!made) return fail("{} {}", witness.where(), made.error().message);
    out.push_back(*made);
  }
  return out;
}

}  // namespace

Result<MachineSettings> MachineSettings::load(const fs::path& path) {
  MachineSettings settings;
  const fs::path file = path.empty() ? fs::path("machine.toml") : path;
  if (path.empty() && !fs::exists(file)) return settings;
  NAITE_ASSIGN(const std::string text, read_file(file, kToml.bytes));
  NAITE_ASSIGN(const nlohmann::json value, parse_toml(text, file.string()));
  Table table(value, file.string() + ":");
  settings.threads = static_cast<int>(table.integer("threads", 0, 0, 4096));
  settings.virtual_ranks = static_cast<int>(table.integer("virtual_ranks", 1, 1, 1024));
  settings.recompute = table.boolean("recompute", false);
  settings.memory_gib = table.number("memory_gib", 0, 0, 1e9);
  settings.watts = table.number("watts", 0, 0, 1e9);
  NAITE_ASSIGN(settings.witnesses, read_witnesses(table));
  NAITE_TRY(table.finish());
  return settings;
}

int64_t MachineSettings::memory_bytes() const {
  const int64_t usable = usable_memory_bytes();
  const double own = memory_gib * 1024 * 1024 * 1024;
  return memory_gib > 0 && own < static_cast<double>(usable) ? static_cast<int64_t>(own) : usable;
}

Result<Machine> make_machine(int num_threads) {
  Machine machine;
  machine.pool = std::make_unique<ThreadPool>(num_threads > 0 ? num_threads
                                                              : ThreadPool::default_num_threads());
  const char* isa = std::getenv("NAITE_ISA");
  NAITE_ASSIGN(machine.kernels, kernels::make_cpu(*machine.pool, isa == nullptr ? "" : isa));
  return machine;
}

}  // namespace naite::cmd
