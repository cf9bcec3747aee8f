// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sub-commands of `naite`: one small file each, listed in naite_main.cc. A command adds itself
// to the CLI and sets `exit_code` when it ran. Exit codes: 0 done, 1 failed, 2 wrong usage or a
// surprise that no folder caught; where 1 is an answer (set_failure_code), 2 also says that there
// is none. Only this folder prints (output.h) or exits; errors are one line on stderr that says
// what, where and what to do.
#include <CLI/CLI.hpp>
#include <atomic>
#include <memory>
#include <string>

#include "cmd/machine.h"
#include "cmd/output.h"

namespace naite::cmd {

void add_train(CLI::App& app, int& exit_code);
void add_generate(CLI::App& app, int& exit_code);
void add_digest(CLI::App& app, int& exit_code);
void add_tokenizer(CLI::App& app, int& exit_code);
void add_data(CLI::App& app, int& exit_code);
void add_export(CLI::App& app, int& exit_code);
void add_import(CLI::App& app, int& exit_code);
void add_grow(CLI::App& app, int& exit_code);
void add_key(CLI::App& app, int& exit_code);
void add_log(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_publish(CLI::App& app, int& exit_code);
void add_follow(CLI::App& app, int& exit_code);

// Prints "naite: MESSAGE" on stderr and returns failure_code().
int report_error(const Error& error);

// Makes every option and argument that is a path take `~` for the home directory: shells expand it
// only at the beginning of a word, so not in --run=~/x.
void expand_home_in_paths(CLI::App& app);

// SIGINT and SIGTERM set the flag that is returned; a second one ends the process at once. Whoever
// has nothing to save ends a second after the first one even in the middle of something long, with
// `exit_code`: all files appear whole or not at all.
const std::atomic<bool>& watch_signals(int exit_code);
// From now on there is something to save: only the flag, and a second signal, end the process.
void wait_for_saving();

// Waits; returns early, with true, when a signal asks to stop.
bool sleep_or_stop(const std::atomic<bool>& stop, double seconds);

std::string human_bytes(int64_t bytes);     // "1.2 GiB"
std::string human_count(int64_t count);     // "17.3M"
std::string human_seconds(double seconds);  // "2m 05s"

}  // namespace naite::cmd
