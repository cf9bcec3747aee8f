// SPDX-License-Identifier: Apache-2.0
// The client against a server that lies.
#include "ledger/http.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "ledger/server_testing.h"

namespace naite::ledger {
namespace {

namespace fs = std::filesystem;
using Connection = TestServer::Connection;
using Request = TestServer::Request;

class Http : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("naite-http-{}", getpid());
    fs::remove_all(directory_);
    fs::create_directories(directory_ / "www");
    for (int i = 0; i < 300'000; ++i) content_ += static_cast<char>(i * 31 % 251);
    std::ofstream(directory_ / "www/file") << content_;
    server_ = std::make_unique<TestServer>(directory_ / "www");
    options_.connect_seconds = options_.stall_seconds = 1;
  }
  void TearDown() override { fs::remove_all(directory_); }

  void lie(TestServer::Handler handler) { server_->lie("/file", std::move(handler)); }
  void must_fail(const std::string& part) {
    HttpClient client(options_);
    const Result<std::string> found = client.fetch(server_->url("/file"), 1'000'000);
    ASSERT_FALSE(found.ok());
    EXPECT_TRUE(found.error().message.starts_with(server_->url("/file"))) << found.error().message;
    EXPECT_NE(found.error().message.find(part), std::string::npos) << found.error().message;
    EXPECT_EQ(found.error().message.find('\n'), std::string::npos);
  }
  Status download(int64_t bytes_max = 1'000'000) {
    return HttpClient(options_).download(server_->url("/file"), directory_ / "got", bytes_max,
                                         sha256_hex(content_));
  }
  void begin_download(const std::string& text) {
    std::ofstream(directory_ / "got", std::ios::binary | std::ios::trunc) << text;
  }

  fs::path directory_;
  std::string content_;
  std::unique_ptr<TestServer> server_;
  HttpOptions options_;
};

TEST_F(Http, GetsAndPosts) {
  HttpClient client(options_);
  EXPECT_EQ(*client.fetch(server_->url("/file"), 300'000), content_);
  EXPECT_EQ(client.get(server_->url("/nothing"), 1000)->status, 404);
  EXPECT_FALSE(client.fetch(server_->url("/nothing"), 1000).ok());
  server_->lie("/add", [](const Request& request, const Connection& connection) {
    EXPECT_EQ(request.method, "POST");
    EXPECT_NE(request.header.find("Content-Type: text/x"), std::string::npos);
    connection.respond(409, request.body + "?", "Content-Type: text/x.tlog.size\r\n");
  });
  const Result<HttpResponse> response = client.post(server_->url("/add"), "old 7\n", "text/x", 100);
  ASSERT_TRUE(response.ok()) << response.error().message;
  EXPECT_EQ(response->status, 409);
  EXPECT_EQ(response->body, "old 7\n?");
  EXPECT_EQ(response->content_type, "text/x.tlog.size");
}

TEST_F(Http, LiesAboutTheBody) {
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort");
  });
  must_fail("closed the connection");
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
  });
  must_fail("");
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\n\r\n");
    while (c.send(std::string(1000, 'x'))) {
    }
  });
  must_fail("more than the 1000000 bytes");
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\n");
    while (c.send(fmt::format("X: {:x>1000}\r\n", ""))) {
    }
  });
  must_fail("headers");
  lie([](const Request&, const Connection& c) { c.send("nonsense\r\n\r\n"); });
  must_fail("");
  lie([](const Request&, const Connection&) {});
  must_fail("");
}

TEST_F(Http, Stalls) {
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort");
    c.stall();
  });
  must_fail("stalls");
  lie([](const Request&, const Connection& c) { c.stall(); });
  must_fail("stalls");
}

TEST_F(Http, LeadsElsewhere) {
  auto redirect = [](const std::string& to) {
    return [to](const Request&, const Connection& c) {
      c.respond(302, "", "Location: " + to + "\r\n");
    };
  };
  lie(redirect("file:///etc/passwd"));
  must_fail("only http and https");
  lie(redirect("ftp://127.0.0.1/x"));
  must_fail("only http and https");
  lie(redirect(server_->url("/file")));
  must_fail("redirects");
  server_->lie("/moved", redirect(server_->url("/other")));
  server_->lie("/other", [](const Request&, const Connection& c) { c.respond(200, "here"); });
  EXPECT_EQ(*HttpClient(options_).fetch(server_->url("/moved"), 10), "here");
}

// The address of a redirect, or why it is refused.
std::string led(const std::string& from, const std::string& location) {
  const Result<std::string> to = redirected(from, location);
  return to.ok() ? *to : to.error().message;
}

TEST_F(Http, StaysOnItsServer) {
  TestServer inner(directory_ / "www");
  lie([&](const Request&, const Connection& c) {
    c.respond(302, "", fmt::format("Location: {}\r\n", inner.url("/latest/meta-data")));
  });
  must_fail("another server");
  EXPECT_TRUE(inner.take_requests().empty());
  // A redirect with an endless body is left at once.
  server_->lie("/moved", [](const Request&, const Connection& c) {
    c.send("HTTP/1.1 302 Found\r\nLocation: /here\r\nContent-Length: 99999999999\r\n\r\n");
    while (c.send(std::string(1000, 'x'))) {
    }
  });
  server_->lie("/here", [](const Request&, const Connection& c) { c.respond(200, "here"); });
  EXPECT_EQ(*HttpClient(options_).fetch(server_->url("/moved"), 10), "here");
  const std::string run = "http://example.org/run";
  EXPECT_EQ(led(run, "/other"), "http://example.org/other");
  EXPECT_EQ(led(run, "other"), "http://example.org/other");
  EXPECT_EQ(led(run, "//EXAMPLE.org:80/x"), "http://EXAMPLE.org:80/x");
  EXPECT_EQ(led(run, "https://example.org/run"), "https://example.org/run");
  EXPECT_EQ(led("https://example.org:443/run", "https://example.org/x"), "https://example.org/x");
  for (const char* to :
       {"http://example.org:8080/", "https://example.org:8443/", "http://www.example.org/run",
        "http://127.0.0.1/", "//127.0.0.1/x", "http://example.org.evil.example/"})
    EXPECT_NE(led(run, to).find("another server"), std::string::npos) << led(run, to);
  EXPECT_NE(led("http://example.org:8080/run", "https://example.org/run").find("another"),
            std::string::npos);
  for (const char* to : {"http://example.org/run", "ftp://example.org/", "file:///etc/passwd"})
    EXPECT_NE(led("https://example.org/run", to).find("only http and https"), std::string::npos);
  EXPECT_NE(led(run, "http://user:word@example.org/x").find("no plain"), std::string::npos);
  EXPECT_FALSE(redirected(run, "http://").ok());
}

// What is public may change to nothing else; there is no such server to test it with.
TEST_F(Http, KnowsAddressesOfTheInternet) {
  for (const char* inner : {"127.0.0.1",
                            "127.9.9.9",
                            "10.1.2.3",
                            "172.16.0.1",
                            "172.31.255.255",
                            "192.168.1.1",
                            "169.254.169.254",
                            "100.64.0.1",
                            "100.127.0.1",
                            "0.0.0.0",
                            "224.0.0.1",
                            "240.0.0.1",
                            "255.255.255.255",
                            "198.19.0.1",
                            "::1",
                            "::",
                            "fe80::1%eth0",
                            "fe80::1",
                            "fc00::1",
                            "fd12::1",
                            "ff02::1",
                            "::ffff:127.0.0.1",
                            "::ffff:10.0.0.1",
                            "64:ff9b::a00:1",
                            "2002:7f00:1::",
                            "2002:c0a8:101::1"})
    EXPECT_TRUE(is_inner_address(std::string(inner))) << inner;
  for (const char* outer : {"8.8.8.8", "126.255.255.255", "128.0.0.1", "172.15.0.1", "172.32.0.1",
                            "100.63.0.1", "100.128.0.1", "192.167.0.1", "223.255.255.255",
                            "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"})
    EXPECT_FALSE(is_inner_address(std::string(outer))) << outer;
}

TEST_F(Http, GivesUpWhereItDrips) {
  options_.patience_seconds = 1;
  options_.bytes_per_second = 1'000'000;
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    while (c.send(std::string(20, 'x'))) ::usleep(20'000);
  });
  must_fail("too slow");
  EXPECT_NE(download().error().message.find("too slow"), std::string::npos);
}

TEST_F(Http, KeepsToItsBudget) {
  HttpClient client(options_);
  client.set_budget({700'000, 100});
  EXPECT_TRUE(client.fetch(server_->url("/file"), 300'000).ok());
  EXPECT_TRUE(client.fetch(server_->url("/file"), 300'000).ok());
  const Result<std::string> third = client.fetch(server_->url("/file"), 300'000);
  ASSERT_FALSE(third.ok());
  EXPECT_NE(third.error().message.find("more than this can be in all"), std::string::npos);
  client.set_budget({700'000, 1});
  EXPECT_TRUE(client.fetch(server_->url("/file"), 300'000).ok());
  const Result<std::string> fourth = client.fetch(server_->url("/file"), 300'000);
  ASSERT_FALSE(fourth.ok());
  EXPECT_NE(fourth.error().message.find("one more file"), std::string::npos);
}

TEST_F(Http, SaysWhatAnErrorIsAbout) {
  const auto kind_of = [&](TestServer::Handler handler) {
    server_->be_honest();
    lie(std::move(handler));
    fs::remove(directory_ / "got");
    return download().error().kind;
  };
  for (const int status : {403, 429, 500, 503})
    EXPECT_EQ(kind_of([=](const Request&, const Connection& c) { c.respond(status, "no"); }),
              ErrorKind::kUnable);
  for (const int status : {404, 410})
    EXPECT_EQ(kind_of([=](const Request&, const Connection& c) { c.respond(status, "no"); }),
              ErrorKind::kMissing);
  EXPECT_EQ(kind_of([](const Request&, const Connection& c) { c.respond(200, "other"); }),
            ErrorKind::kWrong);
  EXPECT_EQ(kind_of([](const Request&, const Connection& c) {
              c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort");
            }),
            ErrorKind::kUnable);
  EXPECT_EQ(HttpClient(options_).fetch("http://127.0.0.1:1/x", 10).error().kind,
            ErrorKind::kUnable);
  // More than the disk has room for is not begun.
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\nx");
    c.stall();
  });
  const Status full = download(INT64_MAX);
  EXPECT_EQ(full.error().kind, ErrorKind::kUnable);
  EXPECT_NE(full.error().message.find("make room"), std::string::npos) << full.error().message;
}

TEST_F(Http, RefusesOtherAddresses) {
  for (const char* url : {"file:///etc/passwd", "http://", "http://a b/", "http://user:word@host/x",
                          "http://host/?x=1", "http://host/\n", "gopher://host/", ""}) {
    const Result<std::string> found = HttpClient(options_).fetch(url, 10);
    ASSERT_FALSE(found.ok()) << url;
    EXPECT_EQ(found.error().message.find("word"), std::string::npos);
  }
  EXPECT_EQ(*check_http_url("https://example.org/run//"), "https://example.org/run");
}

TEST_F(Http, EndsWhenItIsTold) {
  std::atomic<bool> stop = false;
  options_.stop = &stop;
  options_.progress = [&](int64_t done, int64_t) { stop = stop || done > 0; };
  lie([](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort");
    c.stall();
  });
  must_fail("interrupted");
}

TEST_F(Http, DownloadsGoOnWhereTheyWere) {
  ASSERT_TRUE(download().ok());
  EXPECT_EQ(server_->take_requests().size(), 1u);
  ASSERT_TRUE(download().ok());  // whole: not asked for again
  EXPECT_TRUE(server_->take_requests().empty());
  int64_t first = -1;
  options_.progress = [&](int64_t done, int64_t total) {
    if (first < 0 && done > 0) first = done;
    if (total >= 0 && done > 0) {
      EXPECT_EQ(total, 300'000);
    }
  };
  begin_download(content_.substr(0, 200'000));
  ASSERT_TRUE(download().ok());
  EXPECT_GE(first, 200'000);
  EXPECT_EQ(*read_file(directory_ / "got"), content_);
  options_.progress = nullptr;
  server_->knows_ranges = false;
  begin_download(content_.substr(0, 200'000));
  const Status whole = download();
  ASSERT_TRUE(whole.ok()) << whole.error().message;
}

TEST_F(Http, DownloadsOfAChangedFileBeginAnew) {
  for (const size_t size : {1, 200'000, 300'000, 300'001}) {
    begin_download(std::string(size, '?'));
    const Status status = download();
    EXPECT_TRUE(status.ok()) << size << ": " << status.error().message;
    EXPECT_EQ(*read_file(directory_ / "got"), content_) << size;
  }
  lie([](const Request&, const Connection& c) {
    c.respond(206, "xyz", "Content-Range: bytes 7-9/10\r\n");
  });
  begin_download("12345");
  const Status status = download();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("another range"), std::string::npos);
}

TEST_F(Http, DownloadsAreBoundedAndChecked) {
  EXPECT_FALSE(download(299'999).ok());
  EXPECT_LE(fs::file_size(directory_ / "got"), 299'999u);
  fs::remove(directory_ / "got");
  lie([&](const Request&, const Connection& c) { c.respond(200, content_ + "x"); });
  const Status longer = download();
  ASSERT_FALSE(longer.ok());
  EXPECT_NE(longer.error().message.find("other bytes"), std::string::npos);
  EXPECT_FALSE(fs::exists(directory_ / "got"));
  // What came before a cut stays for the next time.
  lie([&](const Request&, const Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + content_.substr(0, 1000));
  });
  EXPECT_FALSE(download().ok());
  EXPECT_EQ(fs::file_size(directory_ / "got"), 1000u);
  server_->be_honest();
  EXPECT_TRUE(download().ok());
  fs::remove(directory_ / "got");
  lie([](const Request&, const Connection& c) { c.respond(404, std::string(100'000, 'x')); });
  const Status missing = download();
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("404"), std::string::npos) << missing.error().message;
}

}  // namespace
}  // namespace naite::ledger
