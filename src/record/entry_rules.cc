// SPDX-License-Identifier: Apache-2.0
#include "record/entry_rules.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/names.h"
#include "base/shown.h"
#include "ledger/encoding.h"

namespace naite::record {

using nlohmann::json;

namespace {

constexpr int64_t kMax = int64_t{1} << 53;
constexpr size_t kLineBytesMax = 1024, kHexDigitsMax = 1024;

bool is_integer(const json& value, int64_t minimum) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(kMax))
    return false;
  return value.get<int64_t>() >= minimum && value.get<int64_t>() <= kMax;
}

bool is_text(const json& value, bool (*fits)(const std::string&)) {
  return value.is_string() && fits(value.get_ref<const std::string&>());
}

bool is_hex(const std::string& text, size_t digits) {
  return text.size() == digits && ledger::from_hex(text).has_value();
}

bool is_version(const std::string& text) {
  // Three numbers.
  size_t at = 0;
  for (int part = 0; part < 3; ++part) {
    const size_t end = std::min(text.find('.', at), text.size());
    if (end - at > 9 || !ledger::from_decimal(text.substr(at, end - at))) return false;
    if ((part == 2) != (end == text.size())) return false;
    at = end + 1;
  }
  return true;
}

bool is_commit(const std::string& text) {
  constexpr std::string_view kDirty = "-dirty";
  const size_t digits = text.size() - (text.ends_with(kDirty) ? kDirty.size() : 0);
  return text == "unknown" || (digits == 40 && is_hex(text.substr(0, digits), digits));
}

struct FormRule {
  Form form;
  std::string_view expected;  // "KEY must be ..."
  bool (*fits)(const json&);
};

const std::vector<FormRule>& forms() {
  static const std::vector<FormRule> kForms = {
      {Form::kFormat, "1", [](const json& v) { return v.is_number_integer() && v == 1; }},
      {Form::kCount, "an integer from 0 to 2^53", [](const json& v) { return is_integer(v, 0); }},
      {Form::kPositive, "an integer from 1 to 2^53",
       [](const json& v) { return is_integer(v, 1); }},
      {Form::kTime, "seconds since 1970", [](const json& v) { return is_integer(v, -kMax); }},
      {Form::kLine, "a short line of plain text",
       [](const json& v) {
         return is_text(v, [](const std::string& text) {
           return text.size() <= kLineBytesMax && is_plain_line(text);
         });
       }},
      {Form::kName, "a short name of plain text",
       [](const json& v) {
         return is_text(v, [](const std::string& text) { return is_file_name(text); });
       }},
      {Form::kAnyText, "a text", [](const json& v) { return v.is_string(); }},
      {Form::kNonce, "32 hexadecimal digits",
       [](const json& v) {
         return is_text(v, [](const std::string& text) { return is_hex(text, 32); });
       }},
      {Form::kDigest, "a SHA-256 in hexadecimal",
       [](const json& v) {
         return is_text(v, [](const std::string& text) { return is_hex(text, 64); });
       }},
      {Form::kHex, "hexadecimal digits",
       [](const json& v) {
         return is_text(v, [](const std::string& text) {
           return !text.empty() && text.size() <= kHexDigitsMax && is_hex(text, text.size());
         });
       }},
      {Form::kDecimal, "a number below 2^63 in decimal digits",
       [](const json& v) {
         return is_text(
             v, [](const std::string& text) { return ledger::from_decimal(text).has_value(); });
       }},
      {Form::kSeedKind, "trainer or beacon",
       [](const json& v) { return v == "trainer" || v == "beacon"; }},
      {Form::kVersion, "a version of Naite", [](const json& v) { return is_text(v, is_version); }},
      {Form::kCommit, "a commit of Naite's source",
       [](const json& v) { return is_text(v, is_commit); }},
      {Form::kObject, "an object", [](const json& v) { return v.is_object(); }},
      {Form::kBranch, "null or an object",
       [](const json& v) { return v.is_null() || v.is_object(); }},
      {Form::kList, "a list", [](const json& v) { return v.is_array() && !v.empty(); }},
  };
  return kForms;
}

void check_field(Table& table, const EntryField& field) {
  const json* value = table.raw(field.key);
  if (value == nullptr && field.may_be_absent) return;
  const FormRule& rule = forms()[static_cast<size_t>(field.form)];
  NAITE_CHECK(rule.form == field.form, "the forms are out of order");
  if (value == nullptr || !rule.fits(*value)) table.reject(field.key, rule.expected);
}

constexpr std::string_view kPhaseNames[] = {"nothing",
                                            "the commitment",
                                            "the seed",
                                            "the last of the initial tensors",
                                            "the first checkpoint",
                                            "the end of the run"};

bool is_percentage(const json& value) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  return text.size() >= 2 && text.size() <= 16 && text.back() == '%' &&
         text.find_first_not_of("0123456789.") == text.size() - 1;
}

std::vector<EntryField> stored_fields() {
  return {{"step", Form::kCount},     {"first_token", Form::kCount}, {"end_token", Form::kCount},
          {"directory", Form::kLine}, {"manifest", Form::kDigest},   {"weights", Form::kDigest},
          {"state", Form::kDigest},   {"metrics", Form::kObject}};
}

std::vector<EntryField> commitment_fields() {
  return {{"format", Form::kFormat},
          {"origin", Form::kLine},
          {"vkey", Form::kLine},
          {"model_key", Form::kAnyText},
          {"nonce", Form::kNonce},
          {"time", Form::kTime},
          {"name", Form::kName},
          {"training", Form::kObject},
          {"training_digest", Form::kDigest},
          {"arithmetic", Form::kLine},
          {"architecture", Form::kLine},
          {"parameters", Form::kPositive},
          {"steps", Form::kPositive},
          {"tokens", Form::kPositive},
          {"tokenizer_sha256", Form::kDigest},
          {"tokenizer_config_sha256", Form::kDigest},
          {"data_digest", Form::kDigest},
          {"manifest_sha256", Form::kDigest},
          {"recipe_sha256", Form::kDigest},
          {"plan", Form::kList},
          {"branch", Form::kBranch},
          {"version", Form::kVersion},
          {"source_commit", Form::kCommit}};
}

const std::vector<EntryField>& changeable() {
  static const std::vector<EntryField> kFields = {{"name", Form::kName, true},
                                                  {"manifest_sha256", Form::kDigest, true},
                                                  {"recipe_sha256", Form::kDigest, true},
                                                  {"plan", Form::kList, true},
                                                  {"version", Form::kVersion, true},
                                                  {"source_commit", Form::kCommit, true}};
  return kFields;
}

}  // namespace

const std::vector<EntryRule>& run_rules() {
  using enum Phase;
  static const std::vector<EntryRule> kRules = {
      {"commitment", kEmpty, kEmpty, commitment_fields()},
      {"seed",
       kCommitted,
       kCommitted,
       {{"kind", Form::kSeedKind},
        {"seed", Form::kDecimal},
        {"value", Form::kHex, true},
        {"cosignatures", Form::kList, true}}},
      {"initial",
       kSeeded,
       kSeeded,
       {{"first", Form::kCount}, {"total", Form::kPositive}, {"tensors", Form::kObject}}},
      {"checkpoint", kInitialised, kUnderWay, stored_fields()},
      {"state", kUnderWay, kUnderWay, stored_fields()},
      {"steps", kUnderWay, kUnderWay, {{"first", Form::kPositive}, {"steps", Form::kList}}},
      {"amendment",
       kCommitted,
       kUnderWay,
       {{"step", Form::kCount}, {"changes", Form::kObject}, {"time", Form::kTime}}},
      {"end",
       kUnderWay,
       kUnderWay,
       {{"step", Form::kPositive}, {"state", Form::kDigest}, {"time", Form::kTime}}},
      {"abandoned",
       kCommitted,
       kUnderWay,
       {{"step", Form::kCount}, {"reason", Form::kLine}, {"time", Form::kTime}}}};
  return kRules;
}

const std::vector<EntryRule>& list_rules() {
  static const std::vector<EntryRule> kRules = {
      {"run",
       Phase::kEmpty,
       Phase::kOver,
       {{"origin", Form::kLine}, {"commitment", Form::kDigest}, {"time", Form::kTime}}},
      {"end",
       Phase::kEmpty,
       Phase::kOver,
       {{"origin", Form::kLine}, {"size", Form::kPositive}, {"root", Form::kDigest}}}};
  return kRules;
}

Result<const EntryRule*> check_entry(const json& entry, const std::vector<EntryRule>& rules,
                                     const std::string& where) {
  Table table(entry, where);
  std::vector<std::string> types;
  for (const EntryRule& rule : rules) types.emplace_back(rule.type);
  const std::string type = table.choice("type", std::nullopt, types);
  const auto rule =
      std::find_if(rules.begin(), rules.end(), [&](const EntryRule& r) { return r.type == type; });
  if (rule == rules.end()) return table.finish(true).error();
  for (const EntryField& field : rule->fields) check_field(table, field);
  NAITE_TRY(table.finish());
  return &*rule;
}

Status check_phase(const EntryRule& rule, Phase phase, const std::string& where) {
  if (phase >= rule.first && phase <= rule.last) return {};
  return fail("{} `{}` cannot follow {}", where, rule.type,
              kPhaseNames[static_cast<size_t>(phase)]);
}

Status check_plan(const json& plan, size_t num_stages, const std::string& where) {
  if (!plan.is_array() || plan.size() != num_stages)
    return fail("{} `plan` must have one entry for each of {} stages", where, num_stages);
  for (const json& stage : plan) {
    Table table(stage, where + " `plan`");
    for (const char* key : {"every", "audit_every"}) {
      const json* value = table.raw(key);
      const bool may_be_absent = std::string_view(key) == "audit_every";
      if (value == nullptr ? !may_be_absent : !is_percentage(*value))
        table.reject(key, "a percentage such as \"10%\"");
    }
    NAITE_TRY(table.finish());
  }
  return {};
}

Status check_changes(const json& changes, size_t num_stages, const std::string& where) {
  Table table(changes, where + " `changes`");
  for (const EntryField& field : changeable()) check_field(table, field);
  NAITE_TRY(table.finish());
  if (changes.empty()) return fail("{} `changes` is empty", where);
  return changes.contains("plan") ? check_plan(changes["plan"], num_stages, where) : Status();
}

bool may_change(std::string_view key) {
  return std::any_of(changeable().begin(), changeable().end(),
                     [&](const EntryField& field) { return field.key == key; });
}

namespace {

std::string short_digest(const json& entry, const char* key) {
  return entry.at(key).get<std::string>().substr(0, 16);
}

}  // namespace

std::string entry_summary(const json& entry) {
  const auto text = [&](const char* key) { return entry.at(key).get<std::string>(); };
  const auto number = [&](const char* key) { return entry.at(key).get<int64_t>(); };
  const std::string type = text("type");
  if (type == "commitment")
    return fmt::format("{} steps, {} tokens, {} parameters, {}, training {}, data {}",
                       number("steps"), number("tokens"), number("parameters"),
                       text("architecture"), short_digest(entry, "training_digest"),
                       short_digest(entry, "data_digest"));
  if (type == "seed")
    return fmt::format(
        "{} {}", text("seed"),
        text("kind") == "beacon" ? "from the beacon's value" : "chosen by the trainer");
  if (type == "initial")
    return fmt::format("{} of {} initial tensors", entry.at("tensors").size(), number("total"));
  if (type == "steps")
    return fmt::format("{} to {}", number("first"),
                       number("first") + static_cast<int64_t>(entry.at("steps").size()) - 1);
  if (type == "checkpoint" || type == "state")
    return fmt::format("after step {}: {}, state {}", number("step"), text("directory"),
                       short_digest(entry, "state"));
  if (type == "amendment")
    return fmt::format("after step {}: {}", number("step"),
                       entry.at("changes").dump(-1, ' ', true, json::error_handler_t::replace));
  if (type == "run") return text("origin");
  return entry.dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace naite::record
