// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTP for logs, witnesses and published runs (libcurl). A server is a stranger: it may lie about
// sizes, send without end, stall, send somebody elsewhere. So: http and https only, redirects to
// these only (never from https down to http) and few, caps on headers and bodies that hold whatever
// the headers promise, time limits on connecting and on stalling, no compression, no cookies.
// Every error is one line that begins with the URL and says the cause.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::ledger {

struct HttpOptions {
  int64_t connect_seconds = 20;
  // Ends a transfer that for so long brings fewer bytes a second than this.
  int64_t stall_seconds = 30, stall_bytes = 64;
  // Ends what is under way when it becomes true.
  const std::atomic<bool>* stop = nullptr;
  // Called with the bytes of the body that have come, and all of them or -1 if that is not known.
  std::function<void(int64_t done, int64_t total)> progress;
};

struct HttpResponse {
  int status = 0;  // 200, 404, ...
  std::string content_type, body;
};

// An http or https address with a host and without user, password, query or fragment; comes back
// without slashes at its end.
Result<std::string> check_http_url(std::string_view url);
inline bool is_http_url(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

// One connection after another, from one thread at a time.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options = {});
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;
  ~HttpClient();

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
  Status transfer_file(const std::string& url, const std::filesystem::path& path, int64_t bytes_max,
                       bool& resumed);

  HttpOptions options_;
  std::unique_ptr<void, void (*)(void*)> curl_;
};

}  // namespace naite::ledger
