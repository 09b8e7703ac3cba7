// Where schedulers listen, as flags and standbys say it. Used by worker/main.cpp and scheduler_client.cpp.
// Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "worker/service/settings.h"

namespace tutti::worker {

/// "http://a:7070,https://b:7070": one address each, without spaces and empty ones; flags may be repeated.
std::vector<std::string> split_addresses(const std::vector<std::string>& flags);

/// Throws std::runtime_error that begins with the address and says what it must be like.
Peer parse_address(std::string_view url);

bool operator==(const Peer& a, const Peer& b);

}  // namespace tutti::worker
