// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTP for logs, witnesses and published runs (libcurl). A server is a stranger: it may lie about
// sizes, send without end or drop by drop, stall, send somebody elsewhere. So: http and https only;
// few redirects, and only on the same server (ledger/http_target.h); caps on headers and bodies
// that hold whatever the headers promise; a time by which so many bytes must have come; no
// compression, no cookies. And in all no more than the budget, which is for whoever asks to know.
// Every error is one line that begins with the URL and says the cause; that a server does not have
// a file is ErrorKind::kMissing, bytes that differ from a promise are kWrong, all else is kUnable.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/base.h"
#include "ledger/http_target.h"

namespace naite::ledger {

struct HttpOptions {
  int64_t connect_seconds = 20;
  // Ends a transfer that for so long brings fewer bytes a second than this.
  int64_t stall_seconds = 30, stall_bytes = 64;
  // And one that took longer than this, and a second more for each of so many bytes that came.
  int64_t patience_seconds = 60, bytes_per_second = 8192;
  // Ends what is under way when it becomes true.
  const std::atomic<bool>* stop = nullptr;
  // Called with the bytes of the body that have come, and all of them or -1 if that is not known.
  std::function<void(int64_t done, int64_t total)> progress;
};

struct HttpResponse {
  int status = 0;  // 200, 404, ...
  std::string content_type, body;
};

// What all requests together may bring, and how many they may be. With `bytes_per_second` this
// bounds the time as well.
struct HttpBudget {
  int64_t bytes = INT64_MAX, requests = INT64_MAX;
};

// One connection after another, from one thread at a time.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options = {});
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;
  ~HttpClient();

  // From now on no more than this.
  void set_budget(HttpBudget budget) { budget_ = budget; }

  // Any status is a response; an error is that no whole one came, or one of more than `bytes_max`.
  Result<HttpResponse> get(const std::string& url, int64_t bytes_max);
  // The body of a response with status 200; any other status is an error.
  Result<std::string> fetch(const std::string& url, int64_t bytes_max);
  // Redirects are not followed.
  Result<HttpResponse> post(const std::string& url, std::string_view body,
                            std::string_view content_type, int64_t bytes_max);

  // Brings the file with this SHA-256 (hexadecimal) to `path`, which holds what has come so far:
  // a download that was cut goes on where it was, if the server knows ranges and still has the same
  // file, else from the start. Whole and on the disk when it returns success; never longer than
  // `bytes_max`. A file that is whole already is not asked for. What has the wrong digest is
  // removed.
  Status download(const std::string& url, const std::filesystem::path& path, int64_t bytes_max,
                  std::string_view sha256);

 private:
  struct Transfer;
  Result<HttpResponse> perform(Transfer& transfer);
  Result<HttpResponse> follow(Transfer& transfer);
  Status transfer_file(const std::string& url, const std::filesystem::path& path, int64_t bytes_max,
                       bool& resumed);

  HttpOptions options_;
  HttpBudget budget_;
  bool met_public_ = false;  // a server on the internet has answered
  std::unique_ptr<void, void (*)(void*)> curl_;
};

}  // namespace naite::ledger
