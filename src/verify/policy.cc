// SPDX-License-Identifier: Apache-2.0
#include "verify/policy.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ledger/cosignatures.h"

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

Result<Organisation> read_organisation(const std::string& text,
                                       const std::filesystem::path& folder) {
  const bool inline_text = text.starts_with("-----BEGIN");
  const std::filesystem::path file = folder / text;
  std::string pem = text;
  if (!inline_text) {
    NAITE_ASSIGN(pem, read_file(file));
  }
  const Result<ledger::ModelKey> key = ledger::ModelKey::parse_public(pem);
  if (!key)
    return fail("{}: {}", inline_text ? "an organisation" : file.string(), key.error().message);
  return Organisation{inline_text ? ledger::cosignature_id(*key) : file.stem().string(), *key};
}

std::vector<Organisation> read_organisations(Table& table, const std::filesystem::path& folder) {
  std::vector<Organisation> out;
  for (const std::string& text : table.strings("organisations")) {
    const Result<Organisation> found = read_organisation(text, folder);
    if (!found) {
      table.adopt(fail("{} `organisations`: {}", table.where(), found.error().message));
      continue;
    }
    for (const Organisation& other : out)
      if (other.key.hint() == found->key.hint())
        table.adopt(fail("{} `organisations`: {} and {} are the same key", table.where(),
                         other.name, found->name));
    out.push_back(*found);
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
  out.organisations = read_organisations(table, std::filesystem::path(name).parent_path());
  const auto organisations = static_cast<int64_t>(out.organisations.size());
  out.organisation_quorum = table.integer("organisation_quorum", organisations, 0, organisations);
  out.verifiers = read_keys(table, "verifiers", ledger::KeyType::kEd25519);
  NAITE_TRY(table.finish());
  if (out.publishers.empty()) return fail("{}: name at least one key under `publishers`", name);
  return out;
}

Result<int64_t> Policy::accept(const ledger::Verifier& signer, const ledger::Note& head) const {
  const bool known =
      std::any_of(publishers.begin(), publishers.end(), [&](const ledger::Verifier& publisher) {
        return publisher.key == signer.key && signer.name.starts_with(publisher.name + "/");
      });
  if (!known) return refused("signed by {}, whom the policy does not trust", signer.vkey());
  int64_t cosigned = 0;
  for (const ledger::Verifier& witness : witnesses) {
    NAITE_ASSIGN(const std::optional<uint64_t> time, ledger::verify_cosignature(head, witness));
    cosigned += time.has_value();
  }
  if (cosigned < quorum)
    return refused("{} of the policy's witnesses have cosigned the head of {}, it asks for {}",
                   cosigned, signer.name, quorum);
  return cosigned;
}

}  // namespace naite::verify
