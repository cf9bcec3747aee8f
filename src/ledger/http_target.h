// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a request may lead, whatever a server says. A redirect stays on the server that was asked
// for, and a server on the internet cannot become one in the network of whoever asks: neither by
// what it answers nor by another answer of its name server.
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::ledger {

// An http or https address with a host and without user, password, query or fragment; comes back
// without slashes at its end.
Result<std::string> check_http_url(std::string_view url);
inline bool is_http_url(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

// Whether an address is no public one: loopback, private, link-local, multicast, unspecified or
// reserved, also inside an IPv6 address; or none of IP at all.
bool is_inner_address(const sockaddr& address);
// The same of an address as text, without brackets; false if it is none.
bool is_inner_address(const std::string& text);

// The address that `location`, a redirect of `from`, stands for: of the same scheme, host and port,
// or of https at its own port where http at its own port was asked. Anything else is an error.
Result<std::string> redirected(const std::string& from, const std::string& location);

}  // namespace naite::ledger
