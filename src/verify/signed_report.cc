// SPDX-License-Identifier: Apache-2.0
#include "verify/signed_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/shown.h"
#include "ledger/canonical_json.h"
#include "ledger/encoding.h"

namespace naite::verify {

using nlohmann::json;

namespace {

constexpr int64_t kFormat = 1;

// The checks of a verification, and which of them must hold for its replays to say something of the
// run. The others may be open: without a policy, say.
struct KnownCheck {
  std::string_view name;
  enum { kMustHold, kMustBeThere, kMayBeThere } need;
};
constexpr KnownCheck kChecks[] = {
    {"files", KnownCheck::kMustHold},        {"log", KnownCheck::kMustHold},
    {"bytes", KnownCheck::kMayBeThere},      {"signature", KnownCheck::kMustBeThere},
    {"publisher", KnownCheck::kMustBeThere}, {"recipe", KnownCheck::kMustHold},
    {"plan", KnownCheck::kMustBeThere},      {"seed", KnownCheck::kMustBeThere},
    {"data", KnownCheck::kMustHold},         {"batches", KnownCheck::kMustHold},
    {"text", KnownCheck::kMayBeThere},       {"states", KnownCheck::kMustHold},
    {"autosave", KnownCheck::kMayBeThere},   {"reports", KnownCheck::kMayBeThere},
    {"cosigned", KnownCheck::kMayBeThere},   {"distinct", KnownCheck::kMustBeThere},
    {"end", KnownCheck::kMustBeThere},       {"memory", KnownCheck::kMustHold},
    {"initial", KnownCheck::kMustHold},      {"replay", KnownCheck::kMustHold}};

const Outcome* outcome_named(const json& name) {
  static constexpr Outcome kOutcomes[] = {Outcome::kHolds, Outcome::kFails, Outcome::kOpen};
  for (const Outcome& outcome : kOutcomes)
    if (name.is_string() && name == outcome_name(outcome)) return &outcome;
  return nullptr;
}

Status read_checks(const json& checks, SignedReport& out) {
  const Error malformed = fail("`checks` must list name, outcome and detail of each check");
  if (!checks.is_array() || checks.empty()) return malformed;
  for (const json& check : checks) {
    const Outcome* outcome =
        check.is_array() && check.size() == 3 ? outcome_named(check[1]) : nullptr;
    if (outcome == nullptr || !check[0].is_string() || !check[2].is_string()) return malformed;
    const auto name = check[0].get<std::string>();
    if (std::none_of(std::begin(kChecks), std::end(kChecks),
                     [&](const KnownCheck& known) { return known.name == name; }))
      return fail("`checks` has {}, which is no check", name);
    if (!out.checks.emplace(name, *outcome).second) return fail("`checks` has {} twice", name);
    if (*outcome == Outcome::kFails && out.failure.empty())
      out.failure = fmt::format("{}: {}", name, check[2].get<std::string>());
  }
  return {};
}

Status read_verifier(Table table, SignedReport& out) {
  out.version = table.string("version");
  for (const char* key : {"source_commit", "compiler", "binary_sha256"})
    if (!is_plain_line(table.string(key))) table.reject(key, "plain text");
  return table.finish();
}

Status read_replays(const json& replays, SignedReport& out) {
  const Error malformed = fail("`replays` must list first and last step and whether bits agree");
  if (!replays.is_array()) return malformed;
  for (const json& replay : replays) {
    if (!replay.is_array() || replay.size() != 3 || !replay[0].is_number_integer() ||
        !replay[1].is_number_integer() || !replay[2].is_boolean())
      return malformed;
    out.replays.push_back({replay[0].get<int64_t>(), replay[1].get<int64_t>(),
                           replay[2].get<bool>(), "by " + out.signer.name});
  }
  return {};
}

Result<SignedReport> read_report(const json& value, const std::string& where) {
  Table table(value, where);
  SignedReport out;
  table.integer("format", std::nullopt, kFormat, kFormat);
  table.choice("type", std::nullopt, {"verification"});
  const std::string vkey = table.string("vkey"), root = table.string("root");
  out.head.origin = table.string("origin");
  out.head.size = table.integer("size", std::nullopt, 1, INT64_MAX);
  out.commitment = table.string("commitment");
  out.time = table.integer("time", std::nullopt, 1, kLastSecond);
  out.num_intervals = table.integer("intervals", std::nullopt, 0, INT64_MAX);
  const json* const checks = table.raw("checks");
  const json* const replays = table.raw("replays");
  table.adopt(read_verifier(table.table("verifier"), out));
  NAITE_TRY(table.finish());
  const Result<ledger::Verifier> signer = ledger::Verifier::parse(vkey);
  const std::optional<Digest> digest = ledger::digest_from_hex(root);
  if (!signer || signer->type != ledger::KeyType::kEd25519 || !digest)
    return fail("{} `vkey` must be an Ed25519 key and `root` a SHA-256", where);
  out.signer = *signer;
  out.head.root = *digest;
  Status status = read_checks(checks == nullptr ? json() : *checks, out);
  if (status.ok()) status = read_replays(replays == nullptr ? json() : *replays, out);
  if (!status) return fail("{} {}", where, status.error().message);
  return out;
}

}  // namespace

Result<SignedReport> SignedReport::load(const std::filesystem::path& file) {
  std::error_code code;
  const uintmax_t size = std::filesystem::file_size(file, code);
  if (code) return fail("cannot read the report {}", file.string());
  if (size > kReportBytesMax)
    return fail("{} has {} bytes, a report at most {}", file.string(), size, kReportBytesMax);
  NAITE_ASSIGN(const std::string text, read_file(file));
  NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, file.string(), kReportBytesMax));
  NAITE_ASSIGN(const json value, ledger::parse_canonical_json(
                                     std::string_view(note.text).substr(0, note.text.size() - 1),
                                     file.string() + ":"));
  NAITE_ASSIGN(const SignedReport report, read_report(value, file.string() + ":"));
  const Result<bool> is_signed = ledger::verify_note(note, report.signer);
  if (!is_signed || !*is_signed)
    return fail("{} is not signed by {}, whom it names", file.string(), report.signer.vkey());
  return report;
}

Status SignedReport::check_complete(bool is_branch) const {
  for (const KnownCheck& known : kChecks) {
    if (known.need == KnownCheck::kMayBeThere) continue;
    const auto found = checks.find(std::string(known.name));
    if (found == checks.end()) return fail("the check `{}` is not in it", known.name);
    const bool may_be_open =
        known.need == KnownCheck::kMustBeThere || (is_branch && known.name == "initial");
    if (!may_be_open && found->second != Outcome::kHolds)
      return fail("its check `{}` does not hold", known.name);
  }
  return {};
}

Result<std::string> sign_report(const Report& report, const ledger::Signer& signer) {
  if (report.head.size == 0 || report.commitment.empty())
    return fail("{}: no report to sign, as its log cannot be read", report.run);
  json value = {{"format", kFormat},
                {"type", "verification"},
                {"vkey", signer.verifier().vkey()},
                {"origin", report.head.origin},
                {"size", report.head.size},
                {"root", ledger::to_hex(report.head.root)},
                {"commitment", report.commitment},
                {"time", unix_seconds()},
                {"checks", json::array()},
                {"intervals", report.num_intervals},
                {"replays", json::array()},
                {"verifier", verifier_build()}};
  for (const Check& check : report.checks)
    value["checks"].push_back({check.name, outcome_name(check.outcome), check.detail});
  for (const Replay& replay : report.replays)
    value["replays"].push_back({replay.first_step, replay.end_step, replay.same_bits});
  NAITE_ASSIGN(const std::string line, ledger::canonical_json(value));
  const std::string text = line + "\n";
  return text + "\n" + signer.signature_line(text);
}

}  // namespace naite::verify
