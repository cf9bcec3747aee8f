// SPDX-License-Identifier: Apache-2.0
// TREE/index.html, made from what the tree holds. Every text of a run is escaped.
#include <algorithm>
#include <iterator>
#include <utility>

#include "base/shown.h"
#include "ledger/ledger.h"
#include "record/publish.h"
#include "record/published.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Training runs</title>
<style>
body { font-family: sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: right; }
td:first-child, th:first-child { text-align: left; }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Training runs</h1>
<p>Each run has a signed log of what it did, and all that is needed to check it by training parts of
it again. ADDRESS stands for the address of this page without index.html.</p>
<pre>naite verify ADDRESS/NAME --sample 4
naite follow ADDRESS/NAME FOLDER</pre>
)";

constexpr std::pair<char, std::string_view> kMarks[] = {
    {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};

// As one sees it (base/shown.h), and nothing of it is HTML.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : shown_line(text)) {
    const auto* const mark = std::find_if(std::begin(kMarks), std::end(kMarks),
                                          [c](const auto& m) { return m.first == c; });
    if (mark == std::end(kMarks))
      out += c;
    else
      out += mark->second;
  }
  return out;
}

std::string row_of(const std::string& name, const RunHistory& history, const StoredState& state) {
  const std::string link = escaped(name + "/" + state.directory);
  const std::optional<double> bits = state.bits_per_byte();
  return fmt::format(
      "<tr><td><a href=\"{0}/README.md\">{1}</a></td><td>{2:.1f}%</td><td>{3}</td><td>{4}</td>"
      "<td>{5}</td><td><code title=\"{6}\">{7}</code></td><td><code title=\"{8}\">{9}</code></td>"
      "<td><a href=\"{0}/model.safetensors\">weights</a>{10}</td></tr>\n",
      link, escaped(state.directory.substr(state.directory.find('/') + 1)),
      history.percent_done(state.step), state.step, state.end_token,
      bits ? fmt::format("{:.4f}", *bits) : "", state.weights, state.weights.substr(0, 16),
      state.state, state.state.substr(0, 16),
      history.commitment.model_key.empty()
          ? ", unsigned"
          : fmt::format(", <a href=\"{}/{}\">signature</a>", link, ledger::kModelSignatureFile));
}

// Empty for what is no published run.
std::string section_of(const fs::path& tree, const std::string& name) {
  const Result<ledger::LogContent> log = ledger::read_log(tree / name / "ledger");
  if (!log) return "";
  const Result<RunHistory> history = RunHistory::parse(log->entries);
  if (!history) return "";
  const Commitment& claims = history->commitment;
  const char* end = history->ended ? "ended" : history->abandoned ? "abandoned" : "under way";
  std::string out = fmt::format(
      "<h2>{}</h2>\n<p>{} of {} parameters, {} of {} steps, {}. {} <code>{}</code>.<br>\n"
      "Files: <a href=\"{}/recipe.toml\">recipe</a>, <a href=\"{}/tokenizer.json\">tokenizer</a>, "
      "<a href=\"{}/data/manifest.json\">data</a>, <a href=\"{}/ledger/checkpoint\">head of the "
      "log</a>, {} entries, root <code>{}</code>.</p>\n",
      escaped(name), escaped(claims.architecture), claims.parameters, history->last_step(),
      claims.steps, end, claims.is_unsigned() ? "Unsigned: a key of this run alone," : "Signed as",
      escaped(claims.vkey), name, name, name, name, log->head.size, ledger::to_hex(log->head.root));
  out +=
      "<table>\n<tr><th>checkpoint</th><th>done</th><th>step</th><th>tokens</th><th>bits per "
      "byte</th><th>digest of the weights</th><th>of the whole state</th><th>files</th></tr>\n";
  for (const StoredState& state : history->stored)
    if (state.checkpoint) out += row_of(name, *history, state);
  return out + "</table>\n";
}

}  // namespace

Status write_index(const fs::path& tree) {
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(tree));
  std::string page(kHead);
  for (const std::string& name : names)
    if (is_plain_name(name)) page += section_of(tree, name);
  page += "</body>\n</html>\n";
  return write_file(tree / "index.html", page);
}

}  // namespace naite::record
