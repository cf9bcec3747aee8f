// SPDX-License-Identifier: Apache-2.0
#include "ledger/http_target.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace naite::ledger {

namespace {

constexpr size_t kUrlBytesMax = 4096;

using Url = std::unique_ptr<CURLU, void (*)(CURLU*)>;
Url new_url() { return {curl_url(), curl_url_cleanup}; }

// One part of an address, as it is compared; empty if there is none.
std::string part_of(const Url& url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) !=
      CURLUE_OK)
    return "";
  std::string out(text);
  curl_free(text);
  if (part == CURLUPART_HOST)
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

struct Block {
  uint32_t address;
  int bits;
};

// RFC 6890 and its successors: everything that is not handed out to the internet.
constexpr Block kInner[] = {
    {0x00000000, 8},   // "this network"
    {0x0a000000, 8},   // private
    {0x64400000, 10},  // shared by carriers
    {0x7f000000, 8},   // loopback
    {0xa9fe0000, 16},  // link-local, where clouds keep their metadata
    {0xac100000, 12},  // private
    {0xc0000000, 24},  // of protocols
    {0xc0a80000, 16},  // private
    {0xc6120000, 15},  // measurements
    {0xe0000000, 3},   // multicast, reserved, broadcast
};

bool is_inner_v4(uint32_t address) {
  return std::any_of(std::begin(kInner), std::end(kInner), [&](const Block& block) {
    return (address ^ block.address) >> (32 - block.bits) == 0;
  });
}

uint32_t v4_at(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
         static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

// Public addresses are those of 2000::/3, and those that carry a public one of version 4.
bool is_inner_v6(const uint8_t* bytes) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  constexpr uint8_t kTranslated[12] = {0, 0x64, 0xff, 0x9b};  // 64:ff9b::/96
  if (std::memcmp(bytes, kMapped, 12) == 0 || std::memcmp(bytes, kTranslated, 12) == 0)
    return is_inner_v4(v4_at(bytes + 12));
  if (bytes[0] == 0x20 && bytes[1] == 0x02) return is_inner_v4(v4_at(bytes + 2));  // 6to4
  return (bytes[0] & 0xe0) != 0x20;
}

}  // namespace

Result<std::string> check_http_url(std::string_view url) {
  const Url parsed = new_url();
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

bool is_inner_address(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    return is_inner_v4(ntohl(v4.sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return true;
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address, sizeof v6);
  return is_inner_v6(v6.sin6_addr.s6_addr);
}

bool is_inner_address(const std::string& text) {
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return is_inner_v4(ntohl(v4.s_addr));
  in6_addr v6{};
  return ::inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), &v6) == 1 &&
         is_inner_v6(v6.s6_addr);
}

Result<std::string> redirected(const std::string& from, const std::string& location) {
  const Url asked = new_url(), next = new_url();
  const std::string shown = location.substr(0, 200);
  // Set over the first address, the second one is read relative to it.
  if (curl_url_set(asked.get(), CURLUPART_URL, from.c_str(), 0) != CURLUE_OK ||
      curl_url_set(next.get(), CURLUPART_URL, from.c_str(), 0) != CURLUE_OK ||
      curl_url_set(next.get(), CURLUPART_URL, location.c_str(), CURLU_NON_SUPPORT_SCHEME) !=
          CURLUE_OK)
    return unable("leads to {}, which is no address", shown);
  const std::string scheme = part_of(asked, CURLUPART_SCHEME);
  const std::string to_scheme = part_of(next, CURLUPART_SCHEME);
  const bool rises = scheme == "http" && to_scheme == "https";
  if (to_scheme != scheme && !rises)
    return unable("leads to {}: only http and https are allowed, and no way from https to http",
                  shown);
  const std::string port = part_of(asked, CURLUPART_PORT), to_port = part_of(next, CURLUPART_PORT);
  const bool same_port = rises ? port == "80" && to_port == "443" : port == to_port;
  if (!same_port || part_of(asked, CURLUPART_HOST) != part_of(next, CURLUPART_HOST))
    return unable("leads to another server, {}: if you trust that one, give its address", shown);
  const Result<std::string> out = check_http_url(part_of(next, CURLUPART_URL));
  if (!out) return unable("leads to {}, which is no plain address", shown);
  return out;
}

}  // namespace naite::ledger
