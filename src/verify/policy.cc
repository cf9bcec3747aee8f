// SPDX-License-Identifier: Apache-2.0
#include "verify/policy.h"

#include <nlohmann/json.hpp>

namespace naite::verify {

namespace {

std::vector<ledger::Verifier> read_keys(Table& table, std::string_view key,
                                        ledger::KeyType expected) {
  std::vector<ledger::Verifier> out;
  for (const std::string& text : table.strings(key)) {
    const Result<ledger::Verifier> verifier = ledger::Verifier::parse(text);
    if (!verifier)
      table.adopt(fail("{} `{}`: {}", table.where(), key, verifier.error().message));
    else if (verifier->type != expected)
      table.adopt(fail("{} `{}`: {} is a key of the other kind", table.where(), key, text));
    else
      out.push_back(*verifier);
  }
  return out;
}

}  // namespace

Result<Policy> Policy::load(const std::filesystem::path& path) {
  NAITE_ASSIGN(const std::string text, read_file(path));
  return parse(text, path.string());
}

Result<Policy> Policy::parse(std::string_view text, const std::string& name) {
  NAITE_ASSIGN(const nlohmann::json value, parse_toml(text, name));
  Table table(value, name + ":");
  Policy out;
  out.publishers = read_keys(table, "publishers", ledger::KeyType::kEd25519);
  out.witnesses = read_keys(table, "witnesses", ledger::KeyType::kCosignature);
  out.quorum = table.integer("quorum", static_cast<int64_t>(out.witnesses.size()), 0,
                             static_cast<int64_t>(out.witnesses.size()));
  NAITE_TRY(table.finish());
  if (out.publishers.empty()) return fail("{}: name at least one key under `publishers`", name);
  return out;
}

}  // namespace naite::verify
