// SPDX-License-Identifier: Apache-2.0
#include "ledger/http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "ledger/encoding.h"

namespace naite::ledger {

namespace fs = std::filesystem;

namespace {

constexpr int kRedirectsMax = 5;
constexpr size_t kHeaderBytesMax = 64 << 10;

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

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
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
  HttpBudget* budget = nullptr;
  bool met_public = false;
  std::string url, range;
  int64_t bytes_max = 0;
  std::chrono::steady_clock::time_point begin;

  int file = -1;       // where the body goes; -1: into `response`
  int64_t offset = 0;  // bytes that the file has already
  std::optional<int64_t> range_first;

  HttpResponse response;
  int64_t received = 0;  // of the body
  size_t header_bytes = 0;
  std::string location;  // where the response leads
  std::string cause;     // why we gave up, if we did

  bool give_up(std::string why) {
    cause = std::move(why);
    return false;
  }
  long status() const;
  bool leads_elsewhere() const { return is_redirect(status()) && !location.empty(); }
  bool take_header(std::string_view line);
  bool take_body(std::string_view bytes);
  bool begin_body();
  bool begin_file();
  bool is_in_time(int64_t bytes);
  bool write(std::string_view bytes);
};

bool HttpClient::Transfer::take_header(std::string_view line) {
  header_bytes += line.size();
  if (header_bytes > kHeaderBytesMax)
    return give_up(fmt::format("its headers are longer than {} bytes", kHeaderBytesMax));
  if (line.starts_with("HTTP/")) {  // of another response
    range_first.reset();
    location.clear();
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return true;
  const std::string name = lower(line.substr(0, colon));
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  value = value.substr(0, value.find_last_not_of(" \t\r\n") + 1);
  if (name == "content-range") range_first = first_of_range(value);
  if (name == "location") location = value;
  return true;
}

long HttpClient::Transfer::status() const {
  long code = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
  return code;
}

// Before the first byte of a file: does it go on, or begin anew? Bodies of errors are dropped.
bool HttpClient::Transfer::begin_file() {
  if (status() == 206 && range_first != offset)
    return give_up("the server sends another range than was asked for");
  if (status() == 200 && offset > 0) {
    if (::ftruncate(file, 0) != 0) return give_up(std::strerror(errno));
    offset = 0;
  }
  return status() == 200 || status() == 206;
}

// What is promised must be allowed and have room. The body of a redirect is not looked at.
bool HttpClient::Transfer::begin_body() {
  if (leads_elsewhere() || (file >= 0 && !begin_file())) return false;
  curl_off_t promised = -1;
  curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &promised);
  if (promised > bytes_max - offset)
    return give_up(fmt::format("it would send more than the {} bytes that are allowed", bytes_max));
  struct statvfs disk {};
  if (file < 0 || promised <= 0 || ::fstatvfs(file, &disk) != 0) return true;
  const double room = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  if (static_cast<double>(promised) <= room) return true;
  return give_up(fmt::format("it has {} bytes more and the disk room for {}: make room", promised,
                             static_cast<int64_t>(room)));
}

bool HttpClient::Transfer::take_body(std::string_view bytes) {
  if (received == 0 && !begin_body()) return false;
  const auto size = static_cast<int64_t>(bytes.size());
  received += size;
  budget->bytes -= size;
  if (offset + received > bytes_max)
    return give_up(fmt::format("it sends more than the {} bytes that are allowed", bytes_max));
  if (budget->bytes < 0) return give_up("all that it sent is more than this can be in all");
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

// Slow is fine, for ever is not.
bool HttpClient::Transfer::is_in_time(int64_t bytes) {
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  const double allowed =
      static_cast<double>(options->patience_seconds) +
      static_cast<double>(bytes) / static_cast<double>(options->bytes_per_second);
  if (taken.count() <= allowed) return true;
  return give_up(fmt::format("too slow: {} bytes in {:.0f} s", bytes, taken.count()));
}

namespace {

template <class Transfer>
curl_socket_t on_socket(void* data, curlsocktype, curl_sockaddr* address) {
  Transfer& transfer = *static_cast<Transfer*>(data);
  if (transfer.met_public && is_inner_address(address->addr)) {
    transfer.give_up("its name now leads to an address that is not on the internet");
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

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
int on_progress(void* data, curl_off_t total, curl_off_t done, curl_off_t, curl_off_t) {
  Transfer& transfer = *static_cast<Transfer*>(data);
  if (transfer.options->stop != nullptr && transfer.options->stop->load()) return 1;
  if (transfer.options->progress)
    transfer.options->progress(transfer.offset + transfer.received,
                               total > 0 ? transfer.offset + total : -1);
  return transfer.is_in_time(done) ? 0 : 1;
}

// What libcurl says, in words of ours where they say more.
std::string cause_of(CURLcode code, const HttpOptions& options, const char* message) {
  switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
      return "interrupted";
    case CURLE_PARTIAL_FILE:
      return "the server closed the connection before the end; try again later";
    case CURLE_OPERATION_TIMEDOUT:
      return fmt::format("the server stalls: no connection in {} s, or too few bytes in {} s",
                         options.connect_seconds, options.stall_seconds);
    default:
      return fmt::format("{}; try again later",
                         message[0] != '\0' ? message : curl_easy_strerror(code));
  }
}

}  // namespace

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)), curl_(new_curl()) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

namespace {

// What all transfers have in common.
template <class Transfer>
void set_options(Transfer& transfer) {
  CURL* const curl = transfer.curl;
  const HttpOptions& options = *transfer.options;
  curl_easy_setopt(curl, CURLOPT_URL, transfer.url.c_str());
  if (!transfer.range.empty()) curl_easy_setopt(curl, CURLOPT_RANGE, transfer.range.c_str());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, fmt::format("naite/{}", kVersion).c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(options.connect_seconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_seconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options.stall_bytes));
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket<Transfer>);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header<Transfer>);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body<Transfer>);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress<Transfer>);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
}

}  // namespace

// One request; where it leads is for the caller. What is posted was set before.
Result<HttpResponse> HttpClient::perform(Transfer& transfer) {
  CURL* curl = transfer.curl = curl_.get();
  transfer.options = &options_;
  transfer.budget = &budget_;
  transfer.met_public = met_public_;
  transfer.begin = std::chrono::steady_clock::now();
  const Result<std::string> checked = check_http_url(transfer.url);
  if (!checked || budget_.requests-- <= 0) {
    curl_easy_reset(curl);
    if (!checked) return checked.error();
    return unable("{}: one more file than this can have in all", transfer.url);
  }
  char message[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
  set_options(transfer);
  const CURLcode code = curl_easy_perform(curl);
  char *type = nullptr, *address = nullptr;
  curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
  curl_easy_getinfo(curl, CURLINFO_PRIMARY_IP, &address);
  transfer.response.status = static_cast<int>(transfer.status());
  transfer.response.content_type = type == nullptr ? "" : type;
  if (address != nullptr && address[0] != '\0' && !is_inner_address(std::string(address)))
    met_public_ = true;
  // A body that is not wanted was cut off above; its status says enough.
  const bool dropped = code == CURLE_WRITE_ERROR && transfer.response.status >= 300 &&
                       (transfer.file >= 0 || transfer.leads_elsewhere());
  curl_easy_reset(curl);  // open connections stay
  if (!transfer.cause.empty()) return unable("{}: {}", transfer.url, transfer.cause);
  if (code != CURLE_OK && !dropped)
    return unable("{}: {}", transfer.url, cause_of(code, options_, message));
  return std::move(transfer.response);
}

// The same, and on to where it leads, as far as that is allowed.
Result<HttpResponse> HttpClient::follow(Transfer& transfer) {
  const std::string first = transfer.url;
  for (int redirects = 0;; ++redirects) {
    NAITE_ASSIGN(HttpResponse response, perform(transfer));
    if (!is_redirect(response.status) || transfer.location.empty()) return response;
    if (redirects == kRedirectsMax)
      return unable("{}: more than {} redirects", first, kRedirectsMax);
    const Result<std::string> next = redirected(transfer.url, transfer.location);
    if (!next) return rephrased(next.error(), "{}: {}", first, next.error().message);
    transfer.url = *next;
    transfer.location.clear();
    transfer.response = {};
    transfer.received = 0;
    transfer.header_bytes = 0;
  }
}

Result<HttpResponse> HttpClient::get(const std::string& url, int64_t bytes_max) {
  Transfer transfer;
  transfer.url = url;
  transfer.bytes_max = bytes_max;
  return follow(transfer);
}

namespace {

Error answered(const std::string& url, int status) {
  if (status == 404 || status == 410) return missing("{}: the server answers {}", url, status);
  const bool passes = status == 429 || status >= 500;
  return unable("{}: the server answers {}; {}", url, status,
                passes ? "try again later" : "ask its owner");
}

}  // namespace

Result<std::string> HttpClient::fetch(const std::string& url, int64_t bytes_max) {
  NAITE_ASSIGN(HttpResponse response, get(url, bytes_max));
  if (response.status != 200) return answered(url, response.status);
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
  if (file.get() < 0) return system_error(errno, "cannot write {}", path.string());
  Transfer transfer;
  transfer.url = url;
  transfer.bytes_max = bytes_max;
  transfer.file = file.get();
  transfer.offset = ::lseek(file.get(), 0, SEEK_END);
  resumed = transfer.offset > 0;
  if (resumed) transfer.range = fmt::format("{}-", transfer.offset);
  NAITE_ASSIGN(const HttpResponse response, follow(transfer));
  // 416: there is nothing behind what we have; the digest will say whether that is all of it.
  const bool empty = response.status == 200 && transfer.received == 0;
  if (empty && ::ftruncate(file.get(), 0) != 0)
    return system_error(errno, "cannot write {}", path.string());
  if (response.status != 200 && response.status != 206 && !(resumed && response.status == 416))
    return answered(url, response.status);
  if (::fsync(file.get()) != 0)
    return system_error(errno, "cannot flush {} to disk", path.string());
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
