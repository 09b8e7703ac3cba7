#include "api/access/forward_mark.h"

#include <sodium.h>

#include <array>
#include <charconv>

namespace tutti {
namespace {

constexpr std::size_t kMacLength = 64;
constexpr std::size_t kLongestPeer = 128;

std::string keyed_hash(std::string_view key, std::string_view text) {
  std::array<unsigned char, 32> derived{}, hash{};
  crypto_generichash(derived.data(), derived.size(), reinterpret_cast<const unsigned char*>(key.data()),
                     key.size(), nullptr, 0);  // keys may have any length
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(text.data()),
                     text.size(), derived.data(), derived.size());
  std::array<char, kMacLength + 1> hex{};
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  return hex.data();
}

}  // namespace

// No part holds a line feed: not an address, not a method, and not a target (the parser refuses those).
std::string ForwardMark::mac(const Of& request, std::string_view seconds) const {
  std::string text = "forwarded\n";
  for (const auto part : {seconds, request.method, request.target, request.peer})
    text.append(part).append("\n");
  return keyed_hash(secret_, text);
}

std::string ForwardMark::make(const Of& request, std::chrono::seconds now) const {
  const std::string seconds = std::to_string(now.count());
  return seconds + " " + mac(request, seconds) + " " + std::string(request.peer);
}

std::optional<std::string> ForwardMark::peer_of(std::string_view mark, std::string_view method,
                                                std::string_view target, std::chrono::seconds now) const {
  const auto first = mark.find(' ');
  if (first == std::string_view::npos || mark.size() < first + kMacLength + 3) return std::nullopt;
  const auto seconds = mark.substr(0, first);
  const auto said = mark.substr(first + 1, kMacLength);
  const auto peer = mark.substr(first + kMacLength + 2);
  if (mark[first + kMacLength + 1] != ' ' || peer.size() > kLongestPeer) return std::nullopt;
  std::int64_t at = 0;
  const auto [end, code] = std::from_chars(seconds.data(), seconds.data() + seconds.size(), at);
  if (code != std::errc{} || end != seconds.data() + seconds.size()) return std::nullopt;
  if (at < now.count() - kHolds.count() || at > now.count() + kHolds.count()) return std::nullopt;
  const std::string right = mac({peer, method, target}, seconds);
  if (sodium_memcmp(right.data(), said.data(), kMacLength) != 0) return std::nullopt;
  return std::string(peer);
}

std::string key_print(std::string_view secret, std::string_view token) {
  return keyed_hash(secret, "print\n" + std::string(token)).substr(0, 16);
}

}  // namespace tutti
