// SPDX-License-Identifier: Apache-2.0
// naite tokenizer train|encode|decode|stats
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "data/data.h"
#include "record/logged_states.h"

namespace naite::cmd {

namespace {

using nlohmann::json;

struct TokenizerArguments {
  std::vector<std::string> texts;
  std::string tokenizer, output = ".", document = "file", text_key = "text";
  int64_t vocab_size = 8192;
  int threads = 0;
  bool as_json = false, specials_as_text = false;
};

// "NAME=PATH", or a path that is its own name.
std::vector<data::SourceOptions> sources_of(const TokenizerArguments& arguments) {
  std::vector<data::SourceOptions> sources;
  for (const std::string& text : arguments.texts) {
    data::SourceOptions source;
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && equals > 0 && text.find('/') > equals &&
                       !std::filesystem::exists(text);
    source.path = named ? text.substr(equals + 1) : text;
    source.name = source.language = named ? text.substr(0, equals) : text;
    source.document = arguments.document;
    source.text_key = arguments.text_key;
    sources.push_back(std::move(source));
  }
  return sources;
}

Status train(const TokenizerArguments& arguments) {
  data::PrepareRequest request;
  if (arguments.vocab_size > 256 && arguments.vocab_size < 256 + data::kNumSpecialTokens)
    return fail("--vocab-size must be 256 (plain bytes) or at least {}",
                256 + data::kNumSpecialTokens);
  request.tokenizer.vocab_size = arguments.vocab_size;
  request.data.sources = sources_of(arguments);
  request.data.validation = 0.0;
  request.data.near_duplicates = "off";
  request.num_threads =
      arguments.threads > 0 ? arguments.threads : ThreadPool::default_num_threads();
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  if (terminal)
    request.progress = [](const data::PrepareProgress& progress) {
      const int64_t percent = progress.total > 0 ? 100 * progress.done / progress.total : 0;
      tell("\r\x1b[K{} {}%", progress.phase, percent);
    };
  request.note = [terminal](const std::string& line) {
    if (terminal) tell("\r\x1b[K");
    tell("{}\n", line);
  };
  NAITE_ASSIGN(const data::Tokenizer tokenizer, data::train_tokenizer(request));
  if (terminal) tell("\r\x1b[K");
  NAITE_TRY(make_directories(arguments.output));
  NAITE_TRY(tokenizer.save(arguments.output));
  if (tokenizer.vocab_size() < arguments.vocab_size)
    tell("naite: the text has no more repeating pairs: {} tokens instead of {}\n",
         tokenizer.vocab_size(), arguments.vocab_size);
  put("{}: {} tokens\n", (std::filesystem::path(arguments.output) / "tokenizer.json").string(),
      tokenizer.vocab_size());
  return {};
}

// What the lines before gave is out first, for whoever waits for it; std::cin would flush it too,
// and lose the reason why it could not.
bool read_line(std::string& line) {
  flush_output();
  return static_cast<bool>(std::getline(std::cin, line));
}

// After the last line: a stream that cannot be read looks like one that has ended.
Status end_of_input() {
  if (std::ferror(stdin) == 0) return {};
  return fail("cannot read standard input: {}", std::strerror(errno));
}

Result<std::string> string_of_json(const std::string& line, int64_t number) {
  NAITE_ASSIGN(const json value, parse_json(line, fmt::format("input line {}", number)));
  if (!value.is_string()) return fail("input line {}: with --json every line is a string", number);
  return value.get<std::string>();
}

// Of a run, the tokenizer that its log commits to.
Result<data::Tokenizer> load(const std::string& path) {
  NAITE_ASSIGN([[maybe_unused]] const bool logged,
               record::check_claims(path, {"tokenizer.json", "tokenizer_config.json"}));
  return data::Tokenizer::load(path);
}

Status encode(const TokenizerArguments& arguments) {
  NAITE_ASSIGN(const data::Tokenizer tokenizer, load(arguments.tokenizer));
  const data::Specials specials =
      arguments.specials_as_text ? data::Specials::kAsText : data::Specials::kParse;
  data::Encoder encoder(tokenizer);
  std::string line;
  std::vector<int32_t> ids;
  for (int64_t number = 1; read_line(line); ++number) {
    if (arguments.as_json) {
      NAITE_ASSIGN(line, string_of_json(line, number));
    }
    ids.clear();
    encoder.encode(line, specials, ids);
    if (arguments.as_json)
      put("[{}]\n", fmt::format("{}", fmt::join(ids, ", ")));
    else
      put("{}\n", fmt::format("{}", fmt::join(ids, " ")));
  }
  return end_of_input();
}

// The ids of a line: numbers apart by spaces, with or without the punctuation of a JSON list.
Result<std::vector<int32_t>> ids_of(const std::string& line, int64_t number, int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at < line.size();) {
    const size_t end = std::min(line.find_first_of(" \t,[]\r", at), line.size());
    if (end == at) {
      ++at;
      continue;
    }
    int64_t id = 0;
    for (; at < end; ++at) {
      if (line[at] < '0' || line[at] > '9' || id > INT32_MAX)
        return fail("input line {}: `{}` is no token id", number, line.substr(at, end - at));
      id = id * 10 + (line[at] - '0');
    }
    if (id >= vocab_size)
      return fail("input line {}: token id {} is outside the vocabulary of {}", number, id,
                  vocab_size);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Status decode(const TokenizerArguments& arguments) {
  NAITE_ASSIGN(const data::Tokenizer tokenizer, load(arguments.tokenizer));
  std::string line;
  for (int64_t number = 1; read_line(line); ++number) {
    NAITE_ASSIGN(const std::vector<int32_t> ids, ids_of(line, number, tokenizer.vocab_size()));
    const std::string text = tokenizer.decode(ids);
    if (arguments.as_json)
      put_json(text);
    else
      put_text(text + '\n');
  }
  return end_of_input();
}

Status stats(const TokenizerArguments& arguments) {
  NAITE_ASSIGN(const data::Tokenizer tokenizer, load(arguments.tokenizer));
  NAITE_ASSIGN(const std::vector<data::SourceStats> all,
               data::tokenizer_stats(tokenizer, sources_of(arguments)));
  json out = json::array();
  if (!arguments.as_json)
    put("{:<24} {:<12} {:>14} {:>14} {:>12} {:>13}\n", "text", "script", "bytes", "tokens",
        "bytes/token", "single bytes");
  for (const data::SourceStats& source : all) {
    const auto row = [&](const std::string& script, const data::TokenStats& counts) {
      out.push_back({{"text", source.name},
                     {"script", script},
                     {"bytes", counts.bytes},
                     {"tokens", counts.tokens},
                     {"bytes_per_token", counts.bytes_per_token()},
                     {"single_byte_share", counts.single_byte_share()}});
      if (!arguments.as_json)
        put("{:<24} {:<12} {:>14} {:>14} {:>12.3f} {:>12.2f}%\n", source.name, script, counts.bytes,
            counts.tokens, counts.bytes_per_token(), 100.0 * counts.single_byte_share());
    };
    row("all", source.all);
    for (const auto& [script, counts] : source.scripts) row(script, counts);
  }
  if (arguments.as_json) put_json(out);
  return {};
}

using Arguments = std::shared_ptr<TokenizerArguments>;

void run_with(CLI::App* command, const Arguments& arguments, int& exit_code,
              Status (*run)(const TokenizerArguments&)) {
  command->callback([arguments, run, &exit_code] {
    const Status status = run(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

void add_text_options(CLI::App* command, const Arguments& arguments) {
  command
      ->add_option("texts", arguments->texts,
                   "Files, folders or globs (.txt .md .html .jsonl .parquet, also .gz .zst); "
                   "NAME=PATH names one")
      ->required();
  command->add_option("--document", arguments->document, "What a document is in plain text")
      ->capture_default_str()
      ->check(CLI::IsMember({"file", "line", "blank_line"}));
  command
      ->add_option("--text-key", arguments->text_key,
                   "The .jsonl key or Parquet column of the text")
      ->capture_default_str();
}

void add_tokenizer_option(CLI::App* command, const Arguments& arguments) {
  command
      ->add_option("tokenizer", arguments->tokenizer,
                   "tokenizer.json, or a directory that holds one")
      ->required();
}

}  // namespace

void add_tokenizer(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("tokenizer", "Train and use byte-level BPE tokenizers");
  command->require_subcommand(1);
  const auto arguments = std::make_shared<TokenizerArguments>();

  CLI::App* part = command->add_subcommand("train", "Train a tokenizer on text");
  add_text_options(part, arguments);
  part->add_option("--vocab-size", arguments->vocab_size, "Tokens in all; 256: plain bytes")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{256}, int64_t{1} << 20));
  part->add_option("-o,--output", arguments->output, "Directory for tokenizer.json")
      ->capture_default_str();
  part->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  part->footer("Example: naite tokenizer train corpus/ko corpus/en --vocab-size 32768 -o tok");
  run_with(part, arguments, exit_code, train);

  part = command->add_subcommand("encode", "Text on stdin to token ids, a line for a line");
  add_tokenizer_option(part, arguments);
  part->add_flag("--json", arguments->as_json, "Lines are JSON strings, and lists of ids");
  part->add_flag("--specials-as-text", arguments->specials_as_text,
                 "Spelled-out special tokens are plain text");
  part->footer("Example: echo '나이테' | naite tokenizer encode runs/tinyshakespeare");
  run_with(part, arguments, exit_code, encode);

  part = command->add_subcommand("decode", "Token ids on stdin to text, a line for a line");
  add_tokenizer_option(part, arguments);
  part->add_flag("--json", arguments->as_json, "Lines of text are JSON strings");
  part->footer("Example: echo '39 68 256' | naite tokenizer decode tok");
  run_with(part, arguments, exit_code, decode);

  part = command->add_subcommand("stats",
                                 "Bytes per token and single-byte tokens, by text and script");
  add_tokenizer_option(part, arguments);
  add_text_options(part, arguments);
  part->add_flag("--json", arguments->as_json, "Print one JSON list");
  part->footer("Example: naite tokenizer stats tok ko=corpus/ko en=corpus/en");
  run_with(part, arguments, exit_code, stats);
}

}  // namespace naite::cmd
