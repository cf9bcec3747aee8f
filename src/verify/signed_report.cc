// SPDX-License-Identifier: Apache-2.0
#include "verify/signed_report.h"

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "ledger/canonical_json.h"
#include "ledger/encoding.h"

namespace naite::verify {

using nlohmann::json;

namespace {

constexpr int64_t kFormat = 1;

Status read_checks(const json& checks, SignedReport& out) {
  const Error malformed = fail("`checks` must list name, outcome and detail of each check");
  if (!checks.is_array() || checks.empty()) return malformed;
  for (const json& check : checks) {
    if (!check.is_array() || check.size() != 3 || !check[0].is_string() || !check[2].is_string() ||
        (check[1] != "holds" && check[1] != "fails" && check[1] != "open"))
      return malformed;
    if (check[1] == "fails" && out.failure.empty())
      out.failure = fmt::format("{}: {}", check[0].get<std::string>(), check[2].get<std::string>());
  }
  return {};
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
  table.integer("time", std::nullopt, -kLastSecond, kLastSecond);
  out.num_intervals = table.integer("intervals", std::nullopt, 0, INT64_MAX);
  const json* const checks = table.raw("checks");
  const json* const replays = table.raw("replays");
  table.raw("verifier");
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
