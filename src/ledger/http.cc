// SPDX-License-Identifier: Apache-2.0
#include "ledger/http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "ledger/encoding.h"

namespace naite::ledger {

namespace fs = std::filesystem;

namespace {

constexpr long kRedirectsMax = 5;
constexpr size_t kHeaderBytesMax = 64 << 10;
constexpr size_t kUrlBytesMax = 4096;

void free_curl(void* curl) { curl_easy_cleanup(curl); }

std::unique_ptr<void, void (*)(void*)> new_curl() {
  static const bool initialised = curl_global_init(CURL_GLOBAL_DEFAULT) == 0;
  void* curl = initialised ? curl_easy_init() : nullptr;
  NAITE_CHECK(curl != nullptr, "libcurl does not start");
  return {curl, free_curl};
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// The first byte that "bytes FIRST-LAST/TOTAL" speaks of.
std::optional<int64_t> first_of_range(std::string_view value) {
  if (!value.starts_with("bytes ")) return std::nullopt;
  value.remove_prefix(6);
  return from_decimal(value.substr(0, value.find('-')));
}

// A descriptor that is closed in the end.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(const File&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace

// One request under way; libcurl calls back into it.
struct HttpClient::Transfer {
  CURL* curl = nullptr;
  const HttpOptions* options = nullptr;
  std::string url;
  int64_t bytes_max = 0;

  int file = -1;       // where the body goes; -1: into `response`
  int64_t offset = 0;  // bytes that the file has already
  std::optional<int64_t> range_first;

  HttpResponse response;
  int64_t received = 0;  // of the body
  size_t header_bytes = 0;
  std::string cause;  // why we gave up, if we did

  bool give_up(std::string why) {
    cause = std::move(why);
    return false;
  }
  bool take_header(std::string_view line);
  bool take_body(std::string_view bytes);
  bool begin_file();
  bool write(std::string_view bytes);
};

bool HttpClient::Transfer::take_header(std::string_view line) {
  header_bytes += line.size();
  if (header_bytes > kHeaderBytesMax)
    return give_up(fmt::format("its headers are longer than {} bytes", kHeaderBytesMax));
  if (line.starts_with("HTTP/")) range_first.reset();  // of another redirect
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || lower(line.substr(0, colon)) != "content-range")
    return true;
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  range_first = first_of_range(value);
  return true;
}

// Before the first byte of a file: does it go on, or begin anew? Bodies of errors are dropped.
bool HttpClient::Transfer::begin_file() {
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 206 && range_first != offset)
    return give_up("the server sends another range than was asked for");
  if (status == 200 && offset > 0) {
    if (::ftruncate(file, 0) != 0) return give_up(std::strerror(errno));
    offset = 0;
  }
  return status == 200 || status == 206;
}

bool HttpClient::Transfer::take_body(std::string_view bytes) {
  if (received == 0 && file >= 0 && !begin_file()) return false;
  received += static_cast<int64_t>(bytes.size());
  if (offset + received > bytes_max)
    return give_up(fmt::format("it sends more than the {} bytes that are allowed", bytes_max));
  if (file >= 0) return write(bytes);
  response.body += bytes;
  return true;
}

bool HttpClient::Transfer::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return give_up(fmt::format("cannot keep it: {}", std::strerror(errno)));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

namespace {

template <class Transfer>
size_t on_header(char* data, size_t size, size_t count, void* transfer) {
  const std::string_view line(data, size * count);
  return static_cast<Transfer*>(transfer)->take_header(line) ? line.size() : 0;
}

template <class Transfer>
size_t on_body(char* data, size_t size, size_t count, void* transfer) {
  const std::string_view bytes(data, size * count);
  // Another number than was given ends the transfer; there is no body of 0 bytes here.
  return static_cast<Transfer*>(transfer)->take_body(bytes) ? bytes.size() : 0;
}

template <class Transfer>
int on_progress(void* data, curl_off_t total, curl_off_t, curl_off_t, curl_off_t) {
  const Transfer& transfer = *static_cast<Transfer*>(data);
  if (transfer.options->stop != nullptr && transfer.options->stop->load()) return 1;
  if (transfer.options->progress)
    transfer.options->progress(transfer.offset + transfer.received,
                               total > 0 ? transfer.offset + total : -1);
  return 0;
}

// What libcurl says, in words of ours where they say more.
std::string cause_of(CURLcode code, const HttpOptions& options, const char* message) {
  switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
      return "interrupted";
    case CURLE_PARTIAL_FILE:
      return "the server closed the connection before the end";
    case CURLE_OPERATION_TIMEDOUT:
      return fmt::format("the server stalls: no connection in {} s, or too few bytes in {} s",
                         options.connect_seconds, options.stall_seconds);
    case CURLE_UNSUPPORTED_PROTOCOL:
      return "only http and https are allowed, and no way from https to http";
    case CURLE_TOO_MANY_REDIRECTS:
      return fmt::format("more than {} redirects", kRedirectsMax);
    default:
      return message[0] != '\0' ? message : curl_easy_strerror(code);
  }
}

}  // namespace

Result<std::string> check_http_url(std::string_view url) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parsed(curl_url(), curl_url_cleanup);
  std::string text(url.substr(0, kUrlBytesMax + 1));
  while (text.ends_with('/')) text.pop_back();
  const bool plain = text.size() <= kUrlBytesMax && is_http_url(text) &&
                     text.find_first_of("\"'<>\\ ?#") == std::string::npos &&
                     curl_url_set(parsed.get(), CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  char* user = nullptr;
  if (!plain || curl_url_get(parsed.get(), CURLUPART_USER, &user, 0) == CURLUE_OK) {
    curl_free(user);
    // A password does not belong into a message.
    const bool may_have_password = url.find('@') != std::string_view::npos;
    return fail("{} is no plain http:// or https:// address",
                may_have_password ? "an address with `@`" : url.substr(0, 200));
  }
  return text;
}

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)), curl_(new_curl()) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

// The transfer's own options (range, body to post) are set before; this adds what all have.
Result<HttpResponse> HttpClient::perform(Transfer& transfer) {
  CURL* curl = transfer.curl = curl_.get();
  transfer.options = &options_;
  if (const Result<std::string> checked = check_http_url(transfer.url); !checked) {
    curl_easy_reset(curl);
    return checked.error();
  }
  char message[CURL_ERROR_SIZE] = "";
  const char* protocols = transfer.url.starts_with("https://") ? "https" : "http,https";
  curl_easy_setopt(curl, CURLOPT_URL, transfer.url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, fmt::format("naite/{}", kVersion).c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kRedirectsMax);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(options_.connect_seconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_seconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options_.stall_bytes));
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header<Transfer>);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body<Transfer>);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress<Transfer>);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  const CURLcode code = curl_easy_perform(curl);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  char* type = nullptr;
  curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
  transfer.response.status = static_cast<int>(status);
  transfer.response.content_type = type == nullptr ? "" : type;
  curl_easy_reset(curl);  // open connections stay
  if (!transfer.cause.empty()) return fail("{}: {}", transfer.url, transfer.cause);
  // A body that is not wanted was cut off above; its status says enough.
  const bool dropped = code == CURLE_WRITE_ERROR && transfer.file >= 0 && status >= 300;
  if (code != CURLE_OK && !dropped)
    return fail("{}: {}", transfer.url, cause_of(code, options_, message));
  return std::move(transfer.response);
}

Result<HttpResponse> HttpClient::get(const std::string& url, int64_t bytes_max) {
  Transfer transfer;
  transfer.url = url;
  transfer.bytes_max = bytes_max;
  curl_easy_setopt(curl_.get(), CURLOPT_FOLLOWLOCATION, 1L);
  return perform(transfer);
}

Result<std::string> HttpClient::fetch(const std::string& url, int64_t bytes_max) {
  NAITE_ASSIGN(HttpResponse response, get(url, bytes_max));
  if (response.status != 200) return fail("{}: the server answers {}", url, response.status);
  return std::move(response.body);
}

Result<HttpResponse> HttpClient::post(const std::string& url, std::string_view body,
                                      std::string_view content_type, int64_t bytes_max) {
  Transfer transfer;
  transfer.url = url;
  transfer.bytes_max = bytes_max;
  curl_slist* headers =
      curl_slist_append(nullptr, fmt::format("Content-Type: {}", content_type).c_str());
  headers = curl_slist_append(headers, "Expect:");  // no round trip before a small body
  curl_easy_setopt(curl_.get(), CURLOPT_POST, 1L);
  curl_easy_setopt(curl_.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl_.get(), CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl_.get(), CURLOPT_HTTPHEADER, headers);
  Result<HttpResponse> response = perform(transfer);
  curl_slist_free_all(headers);
  return response;
}

// One request for what `path` lacks.
Status HttpClient::transfer_file(const std::string& url, const fs::path& path, int64_t bytes_max,
                                 bool& resumed) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (file.get() < 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
  Transfer transfer;
  transfer.url = url;
  transfer.bytes_max = bytes_max;
  transfer.file = file.get();
  transfer.offset = ::lseek(file.get(), 0, SEEK_END);
  resumed = transfer.offset > 0;
  const std::string range = fmt::format("{}-", transfer.offset);
  if (resumed) curl_easy_setopt(curl_.get(), CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(curl_.get(), CURLOPT_FOLLOWLOCATION, 1L);
  NAITE_ASSIGN(const HttpResponse response, perform(transfer));
  // 416: there is nothing behind what we have; the digest will say whether that is all of it.
  const bool empty = response.status == 200 && transfer.received == 0;
  if (empty && ::ftruncate(file.get(), 0) != 0)
    return fail("cannot write {}: {}", path.string(), std::strerror(errno));
  if (response.status != 200 && response.status != 206 && !(resumed && response.status == 416))
    return fail("{}: the server answers {}", url, response.status);
  if (::fsync(file.get()) != 0)
    return fail("cannot flush {} to disk: {}", path.string(), std::strerror(errno));
  return {};
}

Status HttpClient::download(const std::string& url, const fs::path& path, int64_t bytes_max,
                            std::string_view sha256) {
  std::error_code code;
  if (fs::exists(path, code)) {
    NAITE_ASSIGN(const std::string found, sha256_file(path));
    if (found == sha256) return {};
    if (fs::file_size(path, code) >= static_cast<uintmax_t>(bytes_max)) fs::remove(path, code);
  }
  // Twice only if what was there before may be to blame.
  for (bool resumed = false;;) {
    NAITE_TRY(transfer_file(url, path, bytes_max, resumed));
    NAITE_ASSIGN(const std::string found, sha256_file(path));
    if (found == sha256) return {};
    fs::remove(path, code);
    if (!resumed)
      return fail("{}: other bytes than were promised: their SHA-256 is {}, not {}", url, found,
                  sha256);
  }
}

}  // namespace naite::ledger
