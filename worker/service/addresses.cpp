#include "worker/service/addresses.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace tutti::worker {

std::vector<std::string> split_addresses(const std::vector<std::string>& flags) {
  std::vector<std::string> out;
  for (std::string_view rest : flags)
    while (!rest.empty()) {
      auto one = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), one.size() + 1));
      while (one.starts_with(' ')) one.remove_prefix(1);
      while (one.ends_with(' ') || one.ends_with('/')) one.remove_suffix(1);
      if (!one.empty()) out.emplace_back(one);
    }
  return out;
}

Peer parse_address(std::string_view url) {
  const auto refuse = [url] {
    throw std::runtime_error(std::string(url) + ": must be http://HOST:PORT or https://HOST:PORT");
  };
  std::string_view text = url;
  Peer peer;
  peer.tls = text.starts_with("https://");
  for (const std::string_view scheme : {"http://", "https://"})
    if (text.starts_with(scheme)) {
      text.remove_prefix(scheme.size());
      break;
    }
  if (text.ends_with("/")) text.remove_suffix(1);
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) refuse();
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  peer.host = host;
  const auto* last = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, last, peer.port);
  if (peer.host.empty() || parsed.ec != std::errc() || parsed.ptr != last || peer.port == 0) refuse();
  return peer;
}

bool operator==(const Peer& a, const Peer& b) {
  return a.host == b.host && a.port == b.port && a.tls == b.tls;
}

}  // namespace tutti::worker
