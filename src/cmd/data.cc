// SPDX-License-Identifier: Apache-2.0
// naite data inspect
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "data/data.h"
#include "data/shards.h"
#include "record/logged_states.h"

namespace naite::cmd {

namespace {

using nlohmann::json;

struct DataArguments {
  std::string run, phrase;
  int64_t length = 256, hits = 10;
  uint64_t seed = 0;
  int threads = 0;
  bool as_json = false;
};

json hits_to_json(const data::PhraseHits& found) {
  json hits = json::array();
  for (const data::PhraseHit& hit : found.hits)
    hits.push_back({{"source", hit.source},
                    {"split", hit.validation ? "validation" : "train"},
                    {"document", hit.document},
                    {"byte", hit.byte},
                    {"context", hit.context}});
  return {{"count", found.count}, {"hits", hits}};
}

void print_sources(const data::Manifest& manifest) {
  put("{} tokens in the vocabulary, {} bytes a token in the shards\n", manifest.vocab_size,
      manifest.token_bytes);
  put("{:<20} {:<10} {:>12} {:>15} {:>15} {:>11}\n", "source", "split", "documents", "bytes",
      "tokens", "bytes/token");
  for (const data::ManifestSource& source : manifest.sources) {
    for (const data::ManifestSplit* split : {&source.train, &source.validation}) {
      const double ratio = split->tokens == 0 ? 0.0
                                              : static_cast<double>(split->bytes) /
                                                    static_cast<double>(split->tokens);
      put("{:<20} {:<10} {:>12} {:>15} {:>15} {:>11.3f}\n",
          split == &source.train ? source.name : "",
          split == &source.train ? "train" : "validation", split->documents, split->bytes,
          split->tokens, ratio);
    }
    put("  {} files, license {}, origin {}; left out: {} duplicates, {} empty, {} broken "
        "lines, {} files of other kinds; {} resemble others\n",
        source.files.size(), source.license.empty() ? "unknown" : source.license,
        source.origin.empty() ? "unknown" : source.origin, source.duplicates,
        source.empty_documents, source.lines_skipped, source.files_skipped, source.near_duplicates);
  }
}

Status inspect(const DataArguments& arguments) {
  ThreadPool pool(arguments.threads > 0 ? arguments.threads : ThreadPool::default_num_threads());
  NAITE_ASSIGN(const bool logged,
               record::check_claims(arguments.run, {"data/manifest.json", "tokenizer.json"}));
  if (!logged) tell("naite: {} has no log: its shards are what its manifest says\n", arguments.run);
  NAITE_ASSIGN(const data::PackedText packed, data::PackedText::open(arguments.run));
  NAITE_TRY(
      data::check_shards(std::filesystem::path(arguments.run) / "data", packed.manifest(), pool));
  const data::PackedRow row = packed.random_row(arguments.length, arguments.seed);
  data::PhraseHits found;
  if (!arguments.phrase.empty()) {
    found = packed.find(arguments.phrase, arguments.hits, pool);
  }
  if (arguments.as_json) {
    json out = {{"manifest", packed.manifest().to_json()},
                {"row",
                 {{"source", row.source},
                  {"token", row.first_token},
                  {"document", row.first_document},
                  {"text", row.text}}}};
    if (!arguments.phrase.empty()) out["phrase"] = hits_to_json(found);
    put_json(out);
    return {};
  }
  print_sources(packed.manifest());
  if (arguments.phrase.empty()) {
    put("\n{}: training tokens {} to {}, from document {} (--seed shows another place)\n",
        row.source, row.first_token, row.first_token + arguments.length - 1, row.first_document);
    put_text(row.text);
    put("\n");
    return {};
  }
  put("\n`{}` occurs {} times{}\n", arguments.phrase, found.count,
      found.count > static_cast<int64_t>(found.hits.size()) ? "; the first:" : "");
  for (const data::PhraseHit& hit : found.hits)
    put("{} {} document {} byte {}: {}\n", hit.source, hit.validation ? "validation" : "train",
        hit.document, hit.byte, hit.context);
  return {};
}

}  // namespace

void add_data(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("data", "The packed text of a run");
  command->require_subcommand(1);
  auto arguments = std::make_shared<DataArguments>();
  CLI::App* part = command->add_subcommand(
      "inspect", "Documents, tokens, sources, a random decoded row, where a phrase occurs");
  part->add_option("run", arguments->run, "Run directory")->required();
  part->add_option("--phrase", arguments->phrase, "Show where this occurs");
  part->add_option("--hits", arguments->hits, "Show at most so many places")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  part->add_option("--seed", arguments->seed, "Chooses the row that is shown")
      ->capture_default_str();
  part->add_option("--length", arguments->length, "Tokens in that row")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  part->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  part->add_flag("--json", arguments->as_json, "Print one JSON object");
  part->footer("Example: naite data inspect runs/first-rings --phrase '스프레드시트'");
  part->callback([arguments, &exit_code] {
    const Status status = inspect(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
