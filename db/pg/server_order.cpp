#include "db/pg/server_order.h"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace tutti::db {
namespace {

std::vector<std::string> split(const char* list) {
  std::vector<std::string> parts;
  if (list == nullptr || *list == '\0') return parts;
  for (const char* at = list;;) {
    const char* comma = std::strchr(at, ',');
    parts.emplace_back(comma ? std::string(at, comma) : std::string(at));
    if (comma == nullptr) return parts;
    at = comma + 1;
  }
}

std::string joined(const std::vector<std::string>& parts, const std::vector<std::size_t>& order) {
  std::string list;
  for (std::size_t i = 0; i < order.size(); ++i) list += (i == 0 ? "" : ",") + parts[order[i]];
  return list;
}

}  // namespace

SilentServers& SilentServers::of_process() {
  static SilentServers servers;
  return servers;
}

void SilentServers::add(const std::string& server) {
  std::lock_guard lock(mutex_);
  last_[server] = ++newest_;
}

std::uint64_t SilentServers::last(const std::string& server) const {
  std::lock_guard lock(mutex_);
  const auto found = last_.find(server);
  return found == last_.end() ? 0 : found->second;
}

std::string server_name(const std::string& host, const std::string& port) {
  if (!port.empty()) return host + ":" + port;
  const char* const usual = std::getenv("PGPORT");
  return host + ":" + (usual && *usual ? usual : "5432");
}

HostLists silent_last(const std::string& connection_string, const SilentServers& silent) {
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(connection_string.c_str(), nullptr), PQconninfoFree);
  if (!options) return {};  // libpq will say what is wrong
  std::vector<std::string> hosts, addresses, ports;
  for (const PQconninfoOption* o = options.get(); o->keyword; ++o) {
    if (std::strcmp(o->keyword, "host") == 0) hosts = split(o->val);
    if (std::strcmp(o->keyword, "hostaddr") == 0) addresses = split(o->val);
    if (std::strcmp(o->keyword, "port") == 0) ports = split(o->val);
  }
  const std::size_t n = std::max(hosts.size(), addresses.size());
  if (n < 2) return {};
  if (ports.empty()) ports.emplace_back();
  if (ports.size() == 1) ports.resize(n, ports[0]);
  // A list that does not fit the others is an error of the string.
  if ((!hosts.empty() && hosts.size() != n) || (!addresses.empty() && addresses.size() != n) ||
      ports.size() != n)
    return {};
  std::vector<std::pair<std::uint64_t, std::size_t>> by_silence;
  for (std::size_t i = 0; i < n; ++i) {
    std::string host = hosts.empty() ? "" : hosts[i];
    if (host.empty() && !addresses.empty()) host = addresses[i];
    by_silence.emplace_back(silent.last(server_name(host, ports[i])), i);
  }
  std::sort(by_silence.begin(), by_silence.end());
  std::vector<std::size_t> order;
  for (const auto& [when, i] : by_silence) order.push_back(i);
  return {.host = hosts.empty() ? "" : joined(hosts, order),
          .hostaddr = addresses.empty() ? "" : joined(addresses, order),
          .port = joined(ports, order)};
}

}  // namespace tutti::db
