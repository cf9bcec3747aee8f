// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a web server on the loopback address that serves a directory, and lies where a test
// says so. One connection after another, each for one request.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/base.h"

namespace naite::ledger {

class TestServer {
 public:
  struct Request {
    std::string method, path, body;
    std::string header;  // all lines
  };
  // One connection; what is sent is up to the test.
  class Connection {
   public:
    explicit Connection(int socket) : socket_(socket) {}
    // False when the client is gone.
    bool send(std::string_view bytes) const {
      while (!bytes.empty()) {
        const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
      }
      return true;
    }
    // As a server does that does not lie. `more` are further header lines.
    void respond(int status, std::string_view body, std::string_view more = "") const {
      send(fmt::format("HTTP/1.1 {} Said\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}",
                       status, body.size(), more, body));
    }
    // Says nothing any more until the client hangs up.
    void stall() const {
      char byte = 0;
      while (::recv(socket_, &byte, 1, 0) > 0) {
      }
    }

   private:
    int socket_;
  };
  using Handler = std::function<void(const Request&, const Connection&)>;

  explicit TestServer(std::filesystem::path root = "") : root_(std::move(root)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    NAITE_CHECK(::bind(listener_, any, size) == 0 && ::listen(listener_, 16) == 0, "no socket");
    NAITE_CHECK(::getsockname(listener_, any, &size) == 0, "no port");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { accept_all(); });
  }
  ~TestServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }

  std::string url(const std::string& path = "") const {
    return fmt::format("http://127.0.0.1:{}{}", port_, path);
  }
  // What is answered for this path instead of the file.
  void lie(const std::string& path, Handler handler) {
    const std::lock_guard lock(mutex_);
    lies_[path] = std::move(handler);
  }
  void be_honest() {
    const std::lock_guard lock(mutex_);
    lies_.clear();
  }
  std::atomic<bool> knows_ranges{true};
  // The paths that were asked for since the last call, in order.
  std::vector<std::string> take_requests() {
    const std::lock_guard lock(mutex_);
    return std::exchange(requests_, {});
  }

 private:
  void accept_all() {
    for (int socket = 0; (socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      answer(socket);
      ::close(socket);
    }
  }

  void answer(int socket) {
    std::string text;
    char buffer[4096];
    size_t end = std::string::npos;
    size_t length = 0;
    while (end == std::string::npos || text.size() < end + 4 + length) {
      const ssize_t n = ::recv(socket, buffer, sizeof buffer, 0);
      if (n <= 0) return;
      text.append(buffer, static_cast<size_t>(n));
      end = text.find("\r\n\r\n");
      if (const size_t at = text.find("Content-Length: "); at < end)
        length = std::stoul(text.substr(at + 16));
    }
    Request request;
    request.method = text.substr(0, text.find(' '));
    request.path = text.substr(request.method.size() + 1);
    request.path.resize(request.path.find(' '));
    request.header = text.substr(0, end + 2);
    request.body = text.substr(end + 4);
    Handler handler;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request.path);
      if (const auto found = lies_.find(request.path); found != lies_.end())
        handler = found->second;
    }
    const Connection connection(socket);
    if (handler) return handler(request, connection);
    serve_file(request, connection);
  }

  void serve_file(const Request& request, const Connection& connection) const {
    const Result<std::string> text = read_file(root_.string() + request.path);
    if (!text) return connection.respond(404, "there is no such file");
    const size_t at = request.header.find("\r\nRange: bytes=");
    if (!knows_ranges || at == std::string::npos) return connection.respond(200, *text);
    const size_t first = std::stoul(request.header.substr(at + 15));
    if (first >= text->size()) return connection.respond(416, "nothing behind it");
    connection.respond(
        206, text->substr(first),
        fmt::format("Content-Range: bytes {}-{}/{}\r\n", first, text->size() - 1, text->size()));
  }

  std::filesystem::path root_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::map<std::string, Handler> lies_;
  std::vector<std::string> requests_;
};

}  // namespace naite::ledger
