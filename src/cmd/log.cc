// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "ledger/ledger.h"
#include "record/run_ledger.h"
#include "record/run_list.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct LogArguments {
  std::string directory, vkey, entry_file, output, reason, keys;
  std::vector<std::string> heads, witnesses;
  int64_t index = -1;
  bool as_json = false;
};

// A run stands for its log.
fs::path log_directory(const std::string& path) {
  std::error_code code;
  return fs::exists(fs::path(path) / "ledger", code) ? fs::path(path) / "ledger" : fs::path(path);
}

// The key that a caller trusts, or the one that lies beside the log.
Result<ledger::Verifier> verifier_of(const LogArguments& arguments, const fs::path& directory) {
  std::string vkey = arguments.vkey;
  if (vkey.empty()) {
    const fs::path file = directory / "vkey";
    std::error_code code;
    if (!fs::exists(file, code))
      return fail("{} has no file vkey: give the log's public key with --vkey", directory.string());
    NAITE_ASSIGN(vkey, read_file(file));
    while (vkey.ends_with('\n')) vkey.pop_back();
  }
  return ledger::Verifier::parse(vkey);
}

// Reads the log whole and checks who signed its head.
Result<ledger::LogContent> signed_log(const LogArguments& arguments, const fs::path& directory) {
  NAITE_ASSIGN(ledger::LogContent log, ledger::read_log(directory));
  NAITE_ASSIGN(const ledger::Verifier verifier, verifier_of(arguments, directory));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(log.note, verifier));
  if (!is_signed || log.head.origin != verifier.name)
    return fail("{} is not signed by {}", (directory / ledger::kHeadFile).string(),
                verifier.vkey());
  return log;
}

// Of a run or of a publisher's runs, by the first entry.
bool lists_runs(const ledger::LogContent& log) {
  const Result<json> first = log.entries.empty()
                                 ? Result<json>(json())
                                 : ledger::parse_canonical_json(log.entries[0], "log entry 0");
  return first.ok() && first->is_object() && first->value("type", json()) == "run";
}

// That the entries are those of a run or of a publisher's runs, each where it may stand.
Status check_entries(const ledger::LogContent& log) {
  if (lists_runs(log)) {
    NAITE_ASSIGN([[maybe_unused]] const record::RunList list,
                 record::RunList::parse(log.entries, log.head.origin));
    return {};
  }
  NAITE_ASSIGN(const record::RunHistory history, record::RunHistory::parse(log.entries));
  if (history.num_entries == 0 || history.commitment.origin == log.head.origin) return {};
  return fail("the log is {}, its commitment was made for {}", log.head.origin,
              history.commitment.origin);
}

Status show(const LogArguments& arguments) {
  const fs::path directory = log_directory(arguments.directory);
  NAITE_ASSIGN(const ledger::LogContent log, signed_log(arguments, directory));
  if (!arguments.as_json)
    put("{}: {} entries, root {}\n", log.head.origin, log.head.size, ledger::to_hex(log.head.root));
  const std::vector<record::EntryRule>& rules =
      lists_runs(log) ? record::list_rules() : record::run_rules();
  for (size_t i = 0; i < log.entries.size(); ++i) {
    const std::string where = fmt::format("log entry {}:", i);
    NAITE_ASSIGN(const json entry, ledger::parse_canonical_json(log.entries[i], where));
    if (arguments.as_json) {
      put_json_text(log.entries[i]);
      continue;
    }
    // Anybody may have written it: one of another form is shown as it stands.
    const bool has_form = record::check_entry(entry, rules, where).ok();
    put("{:>5}  {:<10}  {}\n", i, has_form ? entry["type"].get<std::string>() : "(no entry)",
        has_form ? record::entry_summary(entry) : json_text(entry));
  }
  return {};
}

Status prove(const LogArguments& arguments) {
  const fs::path directory = log_directory(arguments.directory);
  NAITE_ASSIGN(const ledger::LogContent log, signed_log(arguments, directory));
  if (arguments.index >= log.head.size)
    return fail("--index {}: the log has {} entries, numbered from 0", arguments.index,
                log.head.size);
  NAITE_ASSIGN(const std::string head, read_file(directory / ledger::kHeadFile));
  const ledger::LogProof proof{std::nullopt, arguments.index,
                               ledger::inclusion_proof(log.leaves, arguments.index), head};
  if (!arguments.entry_file.empty())
    NAITE_TRY(write_file(arguments.entry_file, log.entries[static_cast<size_t>(arguments.index)]));
  if (!arguments.output.empty()) return write_file(arguments.output, proof.text());
  put("{}", Layout{proof.text()});
  return {};
}

// A proof file against an entry, by the key alone.
Status check_proof(const LogArguments& arguments) {
  if (arguments.vkey.empty() || arguments.entry_file.empty())
    return fail("to check the proof {}, give --entry FILE and --vkey KEY", arguments.directory);
  NAITE_ASSIGN(const std::string text, read_file(arguments.directory));
  NAITE_ASSIGN(const ledger::LogProof proof, ledger::LogProof::parse(text, arguments.directory));
  NAITE_ASSIGN(const ledger::Verifier verifier, ledger::Verifier::parse(arguments.vkey));
  NAITE_ASSIGN(const std::string entry, read_file(arguments.entry_file));
  NAITE_TRY(proof.verify(entry, verifier));
  put("proved: entry {} of {}\n", proof.index, verifier.name);
  return {};
}

// The log itself, and that every saved head is a beginning of it.
Status check_log(const LogArguments& arguments) {
  const fs::path directory = log_directory(arguments.directory);
  NAITE_ASSIGN(const ledger::LogContent log, signed_log(arguments, directory));
  NAITE_ASSIGN(const ledger::Verifier verifier, verifier_of(arguments, directory));
  for (const std::string& file : arguments.heads) {
    NAITE_ASSIGN(const std::string text, read_file(file));
    NAITE_ASSIGN(const ledger::Note note, ledger::Note::parse(text, file));
    NAITE_ASSIGN(const bool is_signed, ledger::verify_note(note, verifier));
    NAITE_ASSIGN(const ledger::Head head, ledger::Head::parse(note.text, file));
    if (!is_signed) return fail("{} is not signed by {}", file, verifier.vkey());
    if (head.origin != log.head.origin)
      return fail("{} is a head of {}, not of {}", file, head.origin, log.head.origin);
    if (head.size > log.head.size)
      return fail("{} has {} entries, the log has {}: it was cut off", file, head.size,
                  log.head.size);
    if (ledger::tree_root(std::span(log.leaves).first(static_cast<size_t>(head.size))) != head.root)
      return fail("{} is no beginning of this log: {} signed two histories", file, head.origin);
    put("consistent: {} ({} entries)\n", file, head.size);
  }
  NAITE_TRY(check_entries(log));
  put("whole: {}, {} entries, signed by {}\n", log.head.origin, log.head.size, verifier.vkey());
  return {};
}

// Shows the head as it stands to witnesses and keeps what they sign. All are asked, whatever one
// of them says.
Status witness(const LogArguments& arguments) {
  const fs::path directory = log_directory(arguments.directory);
  NAITE_ASSIGN(
      const FileLock lock,
      FileLock::acquire(fs::absolute(directory).parent_path() / ".lock", arguments.directory));
  NAITE_ASSIGN(ledger::LogContent log, signed_log(arguments, directory));
  std::vector<ledger::Witness> witnesses;
  for (const std::string& text : arguments.witnesses) {
    NAITE_ASSIGN(ledger::Witness one, ledger::Witness::parse(text));
    witnesses.push_back(std::move(one));
  }
  Status first;
  for (const ledger::Witness& one : witnesses) {
    NAITE_ASSIGN(const std::string note, read_file(directory / ledger::kHeadFile));
    const ledger::ShownHead shown{note, log.head, log.leaves};
    const Result<std::string> line = ledger::WitnessClient(one, {}).cosign(shown);
    if (!line.ok() && first.ok()) first = line.error();
    if (!line) continue;
    if (!line->empty()) NAITE_TRY(ledger::add_cosignature(directory, log.head, *line));
    put("cosigned by {}: {} entries\n", one.key.name, log.head.size);
  }
  return first;
}

Status abandon(const LogArguments& arguments) {
  const record::RunDirectory directory(arguments.directory);
  if (!fs::exists(directory.ledger())) return fail("{} has no log", arguments.directory);
  NAITE_ASSIGN(const FileLock lock,
               FileLock::acquire(directory.path() / ".lock", arguments.directory));
  NAITE_ASSIGN(const std::unique_ptr<record::RunLedger> log,
               record::RunLedger::open(directory, arguments.keys, ""));
  NAITE_TRY(log->abandon(arguments.reason));
  put("entered: {} is abandoned\n", arguments.directory);
  return {};
}

}  // namespace

void add_log(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("log", "Read, prove and check signed logs");
  command->require_subcommand(1);
  auto add = [&](const char* name, const char* what, auto run) {
    auto arguments = std::make_shared<LogArguments>();
    CLI::App* sub = command->add_subcommand(name, what);
    sub->add_option("directory", arguments->directory,
                    "Run or log directory (check: also a proof file)")
        ->required();
    sub->callback([arguments, run, &exit_code] {
      const Status status = run(*arguments);
      exit_code = status.ok() ? 0 : report_error(status.error());
    });
    return std::pair(sub, arguments);
  };
  auto [showing, shown] = add("show", "List the entries, after checking the whole log", show);
  showing->add_flag("--json", shown->as_json, "The entries themselves, one JSON object a line");
  showing->add_option("--vkey", shown->vkey, "The log's public key (default: the file vkey in it)");
  showing->footer("Example: naite log show runs/quickstart");
  auto [proving, proved] = add("prove", "Write a proof that an entry is in the log", prove);
  proving->add_option("--index", proved->index, "Number of the entry, from 0")
      ->required()
      ->check(CLI::Range(int64_t{0}, INT64_MAX));
  proving->add_option("--output", proved->output, "File for the proof (default: print it)");
  proving->add_option("--entry", proved->entry_file, "Also write the entry into this file");
  proving->add_option("--vkey", proved->vkey, "The log's public key");
  proving->footer("Example: naite log prove runs/quickstart --index 0 --entry commitment.json");
  auto check = [](const LogArguments& arguments) {
    std::error_code code;
    return fs::is_regular_file(arguments.directory, code) ? check_proof(arguments)
                                                          : check_log(arguments);
  };
  auto [checking, checked] =
      add("check", "Check a log and saved heads against it, or a proof", check);
  checking->add_option("--head", checked->heads, "A saved checkpoint file of this log");
  checking->add_option("--entry", checked->entry_file, "The entry that a proof is about");
  checking->add_option("--vkey", checked->vkey, "The log's public key");
  checking->footer(
      "Example: naite log check runs/quickstart --head yesterday.checkpoint\n"
      "Example: naite log check entry.tlog-proof --entry entry.json --vkey KEY");
  auto [showing_to, shown_to] =
      add("witness", "Have witnesses cosign the head as it stands", witness);
  showing_to->add_option("--witness", shown_to->witnesses, "A witness as URL+KEY; may be repeated")
      ->required()
      ->allow_extra_args(false);
  showing_to->add_option("--vkey", shown_to->vkey, "The log's public key");
  showing_to->footer(
      "Example: naite log witness runs/quickstart \\\n"
      "           --witness https://witness.example+witness.example+1234abcd+BAb...\n"
      "Training asks the witnesses that machine.toml or --witness names by itself.");
  auto [leaving, left] = add("abandon", "Enter that a run will not be finished", abandon);
  leaving->add_option("--reason", left->reason, "Why, in a few words")->required();
  leaving->add_option("--keys", left->keys, "Directory of the keys that sign the log");
  leaving->footer("Example: naite log abandon runs/first --reason \"diverged at step 300\"");
}

}  // namespace naite::cmd
