// Where a client comes from, as limits count it. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace tutti::http {

/// "10.0.0.7:51234" -> "10.0.0.7". "[2001:db8:1:2:3::4]:80" -> "2001:db8:1:2::/64": whoever has one address
/// of IPv6 has a /64 of them. An IPv4 address in IPv6 clothes is the IPv4 address. Anything else as it is.
std::string address_group(std::string_view peer);

}  // namespace tutti::http
