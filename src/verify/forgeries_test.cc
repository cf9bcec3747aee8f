// SPDX-License-Identifier: Apache-2.0
#include "verify/forgeries_testing.h"

#include <algorithm>
#include <cstring>

namespace naite::verify {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// Each gives a description of what it did; empty: nothing of that kind can be done here.
using Change = std::string (*)(ForgedRun&, Dice&);

constexpr std::array kNames = {"adapter_config.json",
                               "adapter_model.safetensors",
                               "added_tokens.json",
                               "chat_template.jinja",
                               "config.json",
                               "generation_config.json",
                               "LICENSE",
                               "merges.txt",
                               "model-00001-of-00002.safetensors",
                               "model-00002-of-00002.safetensors",
                               "model.gguf",
                               "model.safetensors",
                               "model.safetensors.index.json",
                               "modeling_naite.py",
                               "pytorch_model.bin",
                               "README.ko.md",
                               "special_tokens_map.json",
                               "tokenizer.json",
                               "tokenizer.model",
                               "vocab.json",
                               ".hidden",
                               "a name with spaces",
                               "\xed\x95\x9c\xea\xb8\x80.txt",
                               "bom.cdx.json",
                               "branch.json",
                               "cursor.json",
                               "model.sig"};
constexpr std::array kTexts = {"", "{}", "[]", "null", "{\"a\": 1}\n", "GGUF", "\x80\x02}q\x00."};

std::string any_file(const ForgedRun& run, Dice& dice) {
  auto it = run.files.begin();
  std::advance(it, static_cast<int64_t>(dice.below(run.files.size())));
  return it->first;
}

std::string any_file(const ForgedRun& run, Dice& dice, const char* end) {
  std::vector<std::string> found;
  for (const auto& [path, text] : run.files)
    if (path.ends_with(end) && !text.empty()) found.push_back(path);
  return found.empty() ? "" : dice.among(found);
}

std::string any_state(const ForgedRun& run, Dice& dice) {
  const std::vector<std::string> states = run.states();
  return states.empty() ? "" : dice.among(states);
}

std::string any_folder(const ForgedRun& run, Dice& dice) {
  std::vector<std::string> folders = {"",
                                      "autosave/",
                                      "autosave/step0000000003/",
                                      "audit/",
                                      "checkpoints/",
                                      "data/",
                                      "evidence/x/",
                                      "ledger/",
                                      "ledger/tile/0/",
                                      "checkpoints/stage1-step0000000003-tokens0000000000000096/"};
  for (const std::string& state : run.states())
    for (const char* inner : {"/", "/", "/", "/state/", "/cosignatures/", "/original/", "/a/b/"})
      folders.push_back(state + inner);
  return dice.among(folders);
}

// Files, as they lie on the disk.

std::string change_bytes(ForgedRun& run, Dice& dice) {
  const std::string path = any_file(run, dice);
  std::string& text = run.files[path];
  if (text.empty()) return "";
  const size_t at = dice.below(text.size());
  const uint64_t kind = dice.below(6);
  if (kind <= 1) text[at] = static_cast<char>(text[at] ^ (1 << dice.below(8)));
  if (kind == 2) text.insert(at, 1, static_cast<char>(dice.below(256)));
  if (kind == 3) text.erase(at, 1 + dice.below(9));
  if (kind == 4) text.resize(at);
  if (kind == 5) text += dice.among(std::array{"\n", " ", "x", "\n# more\n"});
  return fmt::format("{}: bytes, kind {} at {}", path, kind, at);
}

std::string replace_file(ForgedRun& run, Dice& dice) {
  const std::string a = any_file(run, dice), b = any_file(run, dice);
  switch (dice.below(5)) {
    case 0:
      std::swap(run.files[a], run.files[b]);
      return fmt::format("{} and {} swapped", a, b);
    case 1:
      run.files[a] = run.files[b];
      return fmt::format("{} is {}", a, b);
    case 2:
      run.files[a].clear();
      return a + " emptied";
    case 3:
      run.files.erase(a);
      return a + " removed";
    default: {
      // The same file of another state.
      const std::string from = any_state(run, dice), to = any_state(run, dice);
      const std::vector<std::string> names = run.names_below(from + "/");
      if (names.empty()) return "";
      const std::string& name = dice.among(names);
      run.files[to + "/" + name] = run.files[from + "/" + name];
      return fmt::format("{} of {} in {}", name, from, to);
    }
  }
}

std::string add_file(ForgedRun& run, Dice& dice) {
  const std::string path = any_folder(run, dice) + dice.among(kNames);
  if (run.files.contains(path)) return "";
  run.files[path] = dice.one_in(2) ? run.files[any_file(run, dice)] : dice.among(kTexts);
  return path + " added";
}

std::string add_folder(ForgedRun& run, Dice& dice) {
  std::string path = any_folder(run, dice) + dice.among(std::array{"x", "original", "state2"});
  run.folders.insert(path);
  return path + " added, an empty folder";
}

std::string rename_file(ForgedRun& run, Dice& dice) {
  const std::string from = any_file(run, dice);
  const size_t slash = from.rfind('/');
  const std::string to = (slash == std::string::npos ? "" : from.substr(0, slash + 1)) +
                         std::string(dice.among(kNames));
  if (run.files.contains(to)) return "";
  const bool copied = dice.one_in(2);
  run.files[to] = run.files[from];
  if (!copied) run.files.erase(from);
  return fmt::format("{} {} {}", from, copied ? "copied to" : "renamed", to);
}

// JSON.

std::string change_json(ForgedRun& run, Dice& dice) {
  const std::string path = any_file(run, dice, ".json");
  if (path.empty()) return "";
  std::string& text = run.files[path];
  ordered_json value = ordered_json::parse(text, nullptr, false);
  if (value.is_discarded()) return "";
  const bool pretty = text == value.dump(2) + "\n";
  const std::string what = change_value(value, dice);
  text = pretty ? value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n"
                : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  return fmt::format("{}: {}", path, what);
}

std::string respell_json(ForgedRun& run, Dice& dice) {
  const std::string path = any_file(run, dice, ".json");
  if (path.empty()) return "";
  const std::string what = respell(run.files[path], dice);
  return what.empty() ? "" : fmt::format("{}: {}", path, what);
}

std::string change_recipe(ForgedRun& run, Dice& dice) {
  if (!run.files.contains("recipe.toml")) return "";
  std::string& text = run.files["recipe.toml"];
  std::vector<size_t> lines;
  for (size_t at = 0; at != std::string::npos; at = text.find("\n", at + 1))
    if (text.find(" = ", at) != std::string::npos) lines.push_back(text.find(" = ", at));
  if (lines.empty()) return "";
  const size_t at = dice.among(lines) + 3, end = std::min(text.find('\n', at), text.size());
  const std::string value = text.substr(at, end - at);
  std::string other = dice.among(std::array{"0", "1", "true", "false", "\"x\"", "0.5", "[]"});
  if (dice.one_in(2) && value.find_first_of("0123456789") != std::string::npos) {
    other = value;
    char& digit = other[other.find_first_of("0123456789")];
    digit = digit == '9' ? '1' : static_cast<char>(digit + 1);
  }
  if (dice.one_in(5)) other = value + "  # said otherwise";
  text.replace(at, end - at, other);
  return fmt::format("recipe.toml at {}: {} becomes {}", at, value.substr(0, 60), other);
}

// Tensors.

std::string change_tensors(ForgedRun& run, Dice& dice) {
  const std::string path = any_file(run, dice, ".safetensors");
  if (path.empty()) return "";
  TensorParts parts = TensorParts::parse(run.files[path]);
  const std::string what = change_tensors(parts, dice);
  run.files[path] = parts.text();
  return what.empty() ? "" : fmt::format("{}: {}", path, what);
}

// The weights in two files. The index is right, or tells less than the files hold.
std::string split_weights(ForgedRun& run, Dice& dice) {
  const std::string state = any_state(run, dice), file = state + "/model.safetensors";
  if (!run.files.contains(file)) return "";
  const TensorParts whole = TensorParts::parse(run.files[file]);
  const std::string one = "model-00001-of-00002.safetensors",
                    two = "model-00002-of-00002.safetensors";
  TensorParts first = whole, second = whole;
  const size_t half = 1 + dice.below(whole.tensors.size() - 1);
  first.tensors.resize(half);
  second.tensors.erase(second.tensors.begin(), second.tensors.begin() + static_cast<int64_t>(half));
  ordered_json places = ordered_json::object();
  for (const auto& tensor : first.tensors) places[tensor.name] = one;
  for (const auto& tensor : second.tensors) places[tensor.name] = two;
  const bool shadowed = dice.one_in(2);
  if (shadowed) {
    second.tensors.push_back(first.tensors[0]);
    std::string& bytes = second.tensors.back().bytes;
    bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 0x80);
  }
  run.files[state + "/" + one] = first.text();
  run.files[state + "/" + two] = second.text();
  const bool kept = dice.one_in(3);
  if (!kept) run.files.erase(file);
  if (!dice.one_in(4))
    run.files[state + "/model.safetensors.index.json"] =
        ordered_json{{"metadata", {{"total_size", 1}}}, {"weight_map", places}}.dump(2) + "\n";
  return fmt::format("{}: weights in two files{}{}", state, shadowed ? ", one shadowed" : "",
                     kept ? " beside the one" : "");
}

// Whole states.

void move_state(ForgedRun& run, const std::string& from, const std::string& to, bool keep) {
  for (const std::string& name : run.names_below(from + "/")) {
    run.files[to + "/" + name] = run.files[from + "/" + name];
    if (!keep) run.files.erase(from + "/" + name);
  }
}

std::string change_state(ForgedRun& run, Dice& dice) {
  const std::string state = any_state(run, dice), other = any_state(run, dice);
  if (state.empty()) return "";
  const std::string to =
      dice.among(std::array{"checkpoints/stage1-step0000000003-tokens0000000000000096",
                            "checkpoints/stage2-step0000000002-tokens0000000000000064",
                            "audit/step0000000002", "audit/step0000000003", "checkpoints/best",
                            "autosave/step0000000003", "checkpoints/.tmp-stage1-step0000000009"});
  switch (dice.below(5)) {
    case 0:
      move_state(run, state, to, true);
      return fmt::format("{} copied to {}", state, to);
    case 1:
      move_state(run, state, to, false);
      run.edit_entries([&](json& entry) {
        if (entry.value("directory", "") != state) return;
        entry["directory"] = to;
        entry["type"] = to.starts_with("audit/") ? "state" : "checkpoint";
      });
      return fmt::format("{} renamed to {}", state, to);
    case 2:
      for (const std::string& name : run.names_below(state + "/"))
        run.files.erase(state + "/" + name);
      return state + " removed";
    case 3:
      for (const std::string& name : run.names_below(state + "/"))
        run.files.erase(state + "/" + name);
      std::erase_if(run.log.entries,
                    [&](const std::string& text) { return text.find(state) != std::string::npos; });
      return state + " removed with its entries";
    default:
      if (state == other) return "";
      move_state(run, state, other, true);
      return fmt::format("{} in the place of {}", state, other);
  }
}

// Entries of the run's log.

constexpr std::array kEntries = {
    R"({"changes":{},"step":0,"time":1,"type":"amendment"})",
    R"({"changes":{"name":"x"},"step":2,"time":1790000000,"type":"amendment"})",
    R"({"changes":{"training_digest":"0"},"step":9999999,"time":1,"type":"amendment"})",
    R"({"changes":{"version":"9"},"step":1,"time":1790000000,"type":"amendment"})",
    R"({"kind":"trainer","seed":"7","type":"seed"})",
    R"({"first":0,"tensors":{},"total":1,"type":"initial"})",
    R"({"first":1,"steps":[],"type":"steps"})",
    R"({"reason":"x","step":2,"time":1,"type":"abandoned"})",
    R"({"note":"audited","type":"report"})",
    R"({})",
    R"([])",
    R"("x")",
    R"(1)"};

std::string change_entry(ForgedRun& run, Dice& dice) {
  if (run.log.entries.empty()) return "";
  const size_t number = dice.below(run.log.entries.size());
  ordered_json value = ordered_json::parse(run.log.entries[number], nullptr, false);
  if (value.is_discarded()) return "";
  const std::string what = change_value(value, dice);
  const json plain = json::parse(value.dump(-1, ' ', false, ordered_json::error_handler_t::replace),
                                 nullptr, false);
  const Result<std::string> text = ledger::canonical_json(plain);
  if (!text.ok()) return "";
  run.log.entries[number] = *text;
  return fmt::format("entry {}: {}", number, what);
}

std::string respell_entry(ForgedRun& run, Dice& dice) {
  const size_t number = dice.below(run.log.entries.size());
  const std::string what = respell(run.log.entries[number], dice);
  return what.empty() ? "" : fmt::format("entry {}: {}", number, what);
}

std::string arrange(std::vector<std::string>& entries, Dice& dice) {
  if (entries.empty()) return "";
  const auto a = static_cast<int64_t>(dice.below(entries.size()));
  const auto b = static_cast<int64_t>(dice.below(entries.size()));
  const std::string text = entries[static_cast<size_t>(a)];
  switch (dice.below(6)) {
    case 0:
      entries.erase(entries.begin() + a);
      return fmt::format("entry {} left out", a);
    case 1:
      entries.insert(entries.begin() + b, text);
      return fmt::format("entry {} again at {}", a, b);
    case 2:
      std::swap(entries[static_cast<size_t>(a)], entries[static_cast<size_t>(b)]);
      return fmt::format("entries {} and {} swapped", a, b);
    case 3:
      entries.resize(static_cast<size_t>(a));
      return fmt::format("cut after {} entries", a);
    case 4: {
      // A second entry about a state, which says something else.
      ordered_json value = ordered_json::parse(text, nullptr, false);
      if (!value.is_object() || !value.contains("directory")) return "";
      const std::string what = change_value(value, dice);
      const Result<std::string> other = ledger::canonical_json(
          json::parse(value.dump(-1, ' ', false, ordered_json::error_handler_t::replace)));
      if (!other.ok()) return "";
      entries.insert(entries.begin() + a + static_cast<int64_t>(dice.below(2)), *other);
      return fmt::format("entry {} twice: {}", a, what);
    }
    default:
      entries.insert(entries.begin() + b, dice.among(kEntries));
      return fmt::format("{} inserted at {}", entries[static_cast<size_t>(b)], b);
  }
}

std::string arrange_entries(ForgedRun& run, Dice& dice) { return arrange(run.log.entries, dice); }

// Entries of steps split and joined elsewhere, which a run that was killed may have done.
std::string arrange_steps(ForgedRun& run, Dice& dice) {
  std::vector<size_t> found;
  for (size_t i = 0; i < run.log.entries.size(); ++i)
    if (run.log.entries[i].find(R"("type":"steps")") != std::string::npos) found.push_back(i);
  if (found.empty()) return "";
  const size_t number = dice.among(found);
  json entry = json::parse(run.log.entries[number]);
  if (entry["steps"].size() >= 2) {
    json rest = entry;
    rest["first"] = entry["first"].get<int64_t>() + 1;
    rest["steps"].erase(0);
    entry["steps"] = json::array({entry["steps"][0]});
    run.log.entries[number] = *ledger::canonical_json(entry);
    run.log.entries.insert(run.log.entries.begin() + static_cast<int64_t>(number) + 1,
                           *ledger::canonical_json(rest));
    return fmt::format("entry {} split", number);
  }
  // A step is entered after the state that it leads to, or long before.
  const size_t other = dice.below(run.log.entries.size());
  std::swap(run.log.entries[number], run.log.entries[other]);
  return fmt::format("steps of entry {} moved to {}", number, other);
}

// The publisher's log.

std::string change_runs(ForgedRun& run, Dice& dice) {
  constexpr std::array kRuns = {
      R"({"commitment":"00","origin":"example.org/team/x-1","time":1,"type":"run"})",
      R"({"origin":"example.org/team/x-1","root":"00","size":1,"type":"end"})",
      R"({"note":"x","origin":"example.org/team/x-1","type":"run"})",
      R"({"commitment":1,"origin":2,"time":"x","type":"run"})",
      R"({"type":"audited"})",
      R"([])"};
  if (dice.one_in(3)) {
    const size_t at = dice.below(run.runs.entries.size() + 1);
    run.runs.entries.insert(run.runs.entries.begin() + static_cast<int64_t>(at), dice.among(kRuns));
    return fmt::format("log of runs: {} at {}", run.runs.entries[at], at);
  }
  if (dice.one_in(2)) return "log of runs: " + arrange(run.runs.entries, dice);
  const size_t number = dice.below(run.runs.entries.size());
  ordered_json value = ordered_json::parse(run.runs.entries[number], nullptr, false);
  if (value.is_discarded()) return "";
  const std::string what = change_value(value, dice);
  const Result<std::string> text = ledger::canonical_json(
      json::parse(value.dump(-1, ' ', false, ordered_json::error_handler_t::replace)));
  if (text.ok()) run.runs.entries[number] = *text;
  return fmt::format("log of runs, entry {}: {}", number, what);
}

// Heads, signed anew.
std::string change_heads(ForgedRun& run, Dice& dice) {
  ForgedLog& log = dice.one_in(3) ? run.runs : run.log;
  static const ledger::Signer stranger = *ledger::Signer::make("stranger.example");
  switch (dice.below(3)) {
    case 0:
      log.extension = dice.among(std::array{"audited\n", "x\ny\n", " \n"});
      return "a line more in a head: " + log.extension;
    case 1:
      log.others = stranger.signature_line("something else\n");
      return "a stranger's signature under a head";
    default:
      log.others = dice.among(std::array{"x\n", "\n", "\xe2\x80\x94 a b\n"});
      return "rubbish under a head";
  }
}

// Files of the logs, and the signatures of states, with nothing sealed.
std::string change_ledger(ForgedRun& run, Dice& dice) {
  auto it = run.ledger.begin();
  std::advance(it, static_cast<int64_t>(dice.below(run.ledger.size())));
  const std::string path = it->first;
  std::string& text = it->second;
  const size_t at = dice.below(text.size());
  switch (dice.below(5)) {
    case 0:
      text.resize(at);
      return path + " cut";
    case 1:
      text.insert(at, "x");
      return path + ": a byte more";
    case 2:
      run.ledger[path + dice.among(std::array{"0", ".bak", "x/1"})] = text;
      return path + " copied beside itself";
    case 3:
      run.ledger.erase(it);
      return path + " removed";
    default:
      text[at] = static_cast<char>(text[at] ^ (1 << dice.below(8)));
      return fmt::format("{}: a bit at {}", path, at);
  }
}

// A state's signature over a statement that says something else, by the right key.
std::string change_signature(ForgedRun& run, Dice& dice) {
  const std::string path = any_file(run, dice, "/model.sig");
  if (path.empty()) return "";
  Result<ledger::ModelSignature> found = ledger::ModelSignature::parse(run.files[path], path);
  if (!found.ok()) return "";
  if (dice.one_in(3)) {
    const std::string what = respell(run.files[path], dice);
    return what.empty() ? "" : fmt::format("{}: {}", path, what);
  }
  ordered_json statement = ordered_json::parse(found->payload);
  const std::string what = change_value(statement, dice);
  found->payload = statement.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  constexpr const char* kType = "application/vnd.in-toto+json";
  found->signature = *run.keys().model.sign(fmt::format(
      "DSSEv1 {} {} {} {}", std::strlen(kType), kType, found->payload.size(), found->payload));
  const Result<std::string> text = found->text();
  if (!text.ok()) return "";
  run.files[path] = *text;
  return fmt::format("{}, signed anew: {}", path, what);
}

struct Kind {
  Change change;
  int weight;
};

// What comes before everything is sealed, and before logs are.
constexpr Kind kFiles[] = {{change_bytes, 3},  {replace_file, 3},  {add_file, 4},
                           {add_folder, 1},    {rename_file, 2},   {change_json, 8},
                           {respell_json, 3},  {change_recipe, 2}, {change_tensors, 6},
                           {split_weights, 2}, {change_state, 3}};
constexpr Kind kLogs[] = {{change_entry, 6},    {respell_entry, 2}, {arrange_entries, 5},
                          {arrange_steps, 1},   {change_runs, 2},   {change_heads, 1},
                          {change_signature, 2}};

template <size_t n>
std::string do_one(const Kind (&kinds)[n], ForgedRun& run, Dice& dice) {
  int total = 0;
  for (const Kind& kind : kinds) total += kind.weight;
  auto at = static_cast<int>(dice.below(static_cast<uint64_t>(total)));
  for (const Kind& kind : kinds)
    if ((at -= kind.weight) < 0) return kind.change(run, dice);
  return "";
}

}  // namespace

Forgery forgery_of(const ForgedRun& honest, uint64_t number) {
  Dice dice(number);
  Forgery out{honest, ""};
  const uint64_t plan = dice.below(20);
  const bool sealed = plan >= 3;  // else by somebody without keys
  std::vector<std::string> done;
  if (plan >= 1 && plan < 13) done.push_back(do_one(kFiles, out.run, dice));
  if (plan >= 11 && plan < 13) done.push_back(do_one(kFiles, out.run, dice));
  if (sealed && plan < 13) {
    const bool deep = !dice.one_in(4);
    out.run.seal_claims(deep);
    out.run.seal_states();
    done.emplace_back(deep ? "sealed" : "sealed but for copies in the states");
  }
  if (plan >= 12) done.push_back(do_one(kLogs, out.run, dice));
  if (plan == 19) done.push_back(do_one(kLogs, out.run, dice));
  if (sealed) out.run.seal_logs();
  if (plan == 0) done.push_back(change_ledger(out.run, dice));
  std::erase(done, "");
  out.description = fmt::format("forgery {}: {}", number, fmt::join(done, "; "));
  return out;
}

}  // namespace naite::verify
