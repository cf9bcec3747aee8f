// SPDX-License-Identifier: Apache-2.0
#include "cmd/cmd.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

namespace naite::cmd {

namespace {

std::atomic<bool> stop_requested{false}, has_work{false};
std::atomic<int> exit_code_when_stopped{0};

void on_alarm(int) {
  if (has_work.load()) return;
  constexpr std::string_view kLine = "\nnaite: stopped; the same command goes on\n";
  static_cast<void>(!::write(STDERR_FILENO, kLine.data(), kLine.size()));
  ::_exit(exit_code_when_stopped.load());
}

void on_signal(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  } else if (!has_work.load()) {
    ::alarm(1);
  }
}

std::string expand_home(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const char* home = std::getenv("HOME");
  const bool own = path.size() == 1 || path[1] == '/';
  if (own && home != nullptr && home[0] == '/') return home + path.substr(1);
  throw CLI::ValidationError(
      path, own ? "`~` stands for HOME, which is not set" : "write the path of that home out");
}

}  // namespace

void expand_home_in_paths(CLI::App& app) {
  static const std::set<std::string> kPaths = {
      "recipe", "directory", "run",       "model",  "tokenizer", "texts",   "checkpoint",
      "tree",   "--run",     "--from",    "--keys", "--machine", "--out",   "--output",
      "--text", "--cache",   "--combine", "--head", "--policy",  "--entry", "--report"};
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    for (CLI::Option* option : command->get_options())
      if (kPaths.contains(option->get_name())) option->transform(expand_home);
    expand_home_in_paths(*command);
  }
}

int report_error(const Error& error) {
  std::fflush(stdout);
  tell("naite: {}\n", error.message);
  return failure_code();
}

const std::atomic<bool>& watch_signals(int exit_code) {
  exit_code_when_stopped = exit_code;
  std::signal(SIGALRM, on_alarm);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  return stop_requested;
}

void wait_for_saving() { has_work = true; }

bool sleep_or_stop(const std::atomic<bool>& stop, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!stop.load() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  return stop.load();
}

std::string human_bytes(int64_t bytes) {
  double value = static_cast<double>(bytes);
  for (const char* unit : {"bytes", "KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024 || std::string_view(unit) == "TiB")
      return unit[0] == 'b' ? fmt::format("{} bytes", bytes)
                            : fmt::format("{:.1f} {}", value, unit);
    value /= 1024;
  }
  return {};
}

std::string human_count(int64_t count) {
  const double value = static_cast<double>(count);
  if (value < 1e4) return fmt::format("{}", count);
  if (value < 1e6) return fmt::format("{:.1f}K", value / 1e3);
  if (value < 1e9) return fmt::format("{:.1f}M", value / 1e6);
  if (value < 1e12) return fmt::format("{:.2f}B", value / 1e9);
  return fmt::format("{:.2f}T", value / 1e12);
}

std::string human_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
  constexpr double kYear = 365.25 * 86400;
  if (seconds > 2 * kYear) return fmt::format("{:.3g} years", seconds / kYear);
  return fmt::format("{}d {:02}h", whole / 86400, whole / 3600 % 24);
}

}  // namespace naite::cmd
