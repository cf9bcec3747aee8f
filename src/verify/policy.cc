// SPDX-License-Identifier: Apache-2.0
#include "verify/policy.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

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

// Of those that count, each is somebody else.
void reject_doubles(Table& table, std::string_view key, const std::vector<ledger::Verifier>& all) {
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (all[i].key == all[j].key || all[i].name == all[j].name)
        table.adopt(fail("{} `{}`: {} and {} have the same {}: leave one out", table.where(), key,
                         all[j].vkey(), all[i].vkey(), all[i].key == all[j].key ? "key" : "name"));
}

// A publisher vouches for its own runs already.
void reject_publishers(Table& table, std::string_view key,
                       const std::vector<ledger::Verifier>& others,
                       const std::vector<ledger::Verifier>& publishers) {
  for (const ledger::Verifier& other : others)
    for (const ledger::Verifier& publisher : publishers)
      if (other.key == publisher.key)
        table.adopt(fail("{} `{}`: {} has the key of the publisher {}, who cannot vouch for itself",
                         table.where(), key, other.vkey(), publisher.name));
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
      if (other.key.hint() == found->key.hint() || other.name == found->name)
        table.adopt(fail("{} `organisations`: {} and {} are the same {}", table.where(), other.name,
                         found->name, other.name == found->name ? "name" : "key"));
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
  reject_doubles(table, "witnesses", out.witnesses);
  reject_doubles(table, "verifiers", out.verifiers);
  reject_publishers(table, "witnesses", out.witnesses, out.publishers);
  reject_publishers(table, "verifiers", out.verifiers, out.publishers);
  NAITE_TRY(table.finish());
  if (out.publishers.empty()) return fail("{}: name at least one key under `publishers`", name);
  return out;
}

std::string cosigners_named(const std::vector<Cosigner>& cosigners) {
  std::string out;
  for (const Cosigner& one : cosigners)
    out += fmt::format("{} {} at {:%Y-%m-%dT%H:%M:%SZ}", out.empty() ? ";" : ",", one.name,
                       fmt::gmtime(static_cast<std::time_t>(one.time)));
  return out;
}

Result<std::vector<Cosigner>> Policy::cosigners(const ledger::Verifier& signer,
                                                const ledger::Note& head, int64_t earliest,
                                                int64_t now) const {
  std::vector<Cosigner> out;
  std::set<Digest> keys = {signer.key};
  std::set<std::string> names;
  for (const ledger::Verifier& witness : witnesses) {
    NAITE_ASSIGN(const std::optional<uint64_t> time, ledger::verify_cosignature(head, witness));
    const bool is_sane = time && *time > 0 && *time <= static_cast<uint64_t>(now + kClockSkew) &&
                         static_cast<int64_t>(*time) >= earliest - kClockSkew;
    if (is_sane && keys.insert(witness.key).second && names.insert(witness.name).second)
      out.push_back({witness.name, static_cast<int64_t>(*time)});
  }
  return out;
}

Result<std::vector<Cosigner>> Policy::accept(const ledger::Verifier& signer,
                                             const ledger::Note& head, int64_t earliest,
                                             int64_t now) const {
  const bool known =
      std::any_of(publishers.begin(), publishers.end(), [&](const ledger::Verifier& publisher) {
        return publisher.key == signer.key && signer.name.starts_with(publisher.name + "/");
      });
  if (!known) return refused("signed by {}, whom the policy does not trust", signer.vkey());
  NAITE_ASSIGN(std::vector<Cosigner> cosigned, cosigners(signer, head, earliest, now));
  if (static_cast<int64_t>(cosigned.size()) < quorum)
    return refused(
        "{} of the policy's witnesses have cosigned the head of {} at a time between its "
        "commitment and now, it asks for {}",
        cosigned.size(), signer.name, quorum);
  return cosigned;
}

}  // namespace naite::verify
