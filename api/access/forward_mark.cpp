#include "api/access/forward_mark.h"

#include <sodium.h>

#include <array>
#include <charconv>

namespace tutti {
namespace {

constexpr std::size_t kMacLength = 64;
constexpr std::size_t kLongestRest = 300;  // a client's address, or the name of a host and a process

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

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return n;
}

// `<seconds> <MAC> <rest>`: what each mark is.
struct Parts {
  std::string_view seconds, mac, rest;
};
std::optional<Parts> parts_of(std::string_view mark) {
  const auto first = mark.find(' ');
  if (first == std::string_view::npos || mark.size() < first + kMacLength + 3) return std::nullopt;
  const auto rest = mark.substr(first + kMacLength + 2);
  if (mark[first + kMacLength + 1] != ' ' || rest.size() > kLongestRest) return std::nullopt;
  return Parts{mark.substr(0, first), mark.substr(first + 1, kMacLength), rest};
}

bool is_recent(std::string_view seconds, std::chrono::seconds now) {
  const auto at = number(seconds);
  return at && *at >= now.count() - ForwardMark::kHolds.count() &&
         *at <= now.count() + ForwardMark::kHolds.count();
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
  const auto parts = parts_of(mark);
  if (!parts || !is_recent(parts->seconds, now)) return std::nullopt;
  const std::string right = mac({parts->rest, method, target}, parts->seconds);
  if (sodium_memcmp(right.data(), parts->mac.data(), kMacLength) != 0) return std::nullopt;
  return std::string(parts->rest);
}

std::string TermMark::mac(std::string_view seconds, std::string_view what) const {
  return keyed_hash(secret_, "leads\n" + std::string(seconds) + "\n" + std::string(what) + "\n");
}

std::string TermMark::make(const Says& says, std::chrono::seconds now) const {
  const std::string seconds = std::to_string(now.count());
  const std::string what = std::to_string(says.term) + " " + says.holder;
  return seconds + " " + mac(seconds, what) + " " + what;
}

std::optional<TermMark::Says> TermMark::read(std::string_view mark, std::chrono::seconds now) const {
  const auto parts = parts_of(mark);
  if (!parts || !is_recent(parts->seconds, now)) return std::nullopt;
  const std::string right = mac(parts->seconds, parts->rest);
  if (sodium_memcmp(right.data(), parts->mac.data(), kMacLength) != 0) return std::nullopt;
  const auto space = parts->rest.find(' ');
  const auto term = number(parts->rest.substr(0, space));
  if (!term || space == std::string_view::npos) return std::nullopt;
  return Says{.term = *term, .holder = std::string(parts->rest.substr(space + 1))};
}

std::string key_print(std::string_view secret, std::string_view token) {
  return keyed_hash(secret, "print\n" + std::string(token)).substr(0, 16);
}

}  // namespace tutti
