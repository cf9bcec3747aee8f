// SPDX-License-Identifier: Apache-2.0
#include "record/publish.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;

struct PublishArguments {
  std::string run, tree, name;
  double interval = 10;
  bool watch = false, as_json = false;
};

void print_published(const record::Published& published, const std::string& where, bool as_json) {
  if (as_json)
    put_json({{"published", where},
              {"entries", published.entries},
              {"new_entries", published.new_entries},
              {"new_states", published.new_states},
              {"ended", published.ended}});
  else
    put("published: {}, {} entries ({} new), {} new states{}\n", where, published.entries,
        published.new_entries, published.new_states, published.ended ? ", ended" : "");
  flush_output();
}

Status run_publish(const PublishArguments& arguments) {
  std::string name = arguments.name;
  if (name.empty()) {
    std::error_code code;
    const fs::path whole = fs::absolute(arguments.run, code).lexically_normal();
    name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
  }
  const std::atomic<bool>& stop = watch_signals(0);
  const std::string where = (fs::path(arguments.tree) / name).string();
  std::string last;
  do {
    NAITE_ASSIGN(const record::Published published,
                 record::publish(arguments.run, arguments.tree, name));
    if (published.head != last) print_published(published, where, arguments.as_json);
    last = published.head;
    if (published.ended || !arguments.watch) return {};
    // Nothing is read as long as the head is the same.
    std::string head = last;
    while (head == last && !sleep_or_stop(stop, arguments.interval)) {
      NAITE_ASSIGN(head, read_file(fs::path(arguments.run) / "ledger" / ledger::kHeadFile));
    }
  } while (!stop.load());
  return {};
}

}  // namespace

void add_publish(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<PublishArguments>();
  CLI::App* command =
      app.add_subcommand("publish", "Write a run into a folder that a web server can serve");
  command->add_option("run", arguments->run, "Run directory")->required();
  command->add_option("tree", arguments->tree, "Folder of published runs; made if missing")
      ->required();
  command->add_option("--name", arguments->name,
                      "What the run is called there (default: the name of its directory)");
  command->add_flag("--watch", arguments->watch, "Go on until the run ends (or Ctrl-C)");
  command->add_option("--interval", arguments->interval, "With --watch: seconds between two looks")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 86400.0));
  command->add_flag("--json", arguments->as_json, "Print one JSON object for each new head");
  command->footer(
      "Example: naite publish runs/quickstart /srv/www/runs --watch\n"
      "Serve it with any web server, to try it: python3 -m http.server --directory /srv/www/runs\n"
      "Others then check it: naite verify http://localhost:8000/quickstart --sample 4");
  command->callback([arguments, &exit_code] {
    const Status status = run_publish(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
