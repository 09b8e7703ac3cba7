// What one scheduler of a cluster says of a request that it hands to another: where it came from. The text is
// `<seconds since 1970> <MAC> <the client's address>`, keyed with the secret that the schedulers share, and
// holds for one method and target. Nobody else can make one. Pure; sodium_init() has been called. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tutti {

class ForwardMark {
 public:
  static constexpr std::string_view kHeader = "Tutti-Forwarded";
  static constexpr std::chrono::seconds kHolds{120};  // clocks of the two may differ by as much

  explicit ForwardMark(std::string secret) : secret_(std::move(secret)) {}

  struct Of {
    std::string_view peer, method, target;
  };
  std::string make(const Of& request, std::chrono::seconds now) const;
  /// The client's address; nothing if one of us has not said that, of this request, lately.
  std::optional<std::string> peer_of(std::string_view mark, std::string_view method, std::string_view target,
                                     std::chrono::seconds now) const;

 private:
  std::string mac(const Of& request, std::string_view seconds) const;

  std::string secret_;
};

/// "Term 7 is led by HOLDER", as one scheduler of a cluster says it to another: `<seconds since 1970> <MAC>
/// <term> <holder>`. It cannot be made by others, nor out of a ForwardMark.
class TermMark {
 public:
  static constexpr std::string_view kHeader = "Tutti-Term";

  explicit TermMark(std::string secret) : secret_(std::move(secret)) {}

  struct Says {
    std::int64_t term = 0;
    std::string holder = {};
  };
  std::string make(const Says& says, std::chrono::seconds now) const;
  /// Nothing if one of us has not said that lately.
  std::optional<Says> read(std::string_view mark, std::chrono::seconds now) const;

 private:
  std::string mac(std::string_view seconds, std::string_view what) const;

  std::string secret_;
};

/// Of the files that replicas share, so that it can be told whether they do; says nothing of what is in them.
std::string key_print(std::string_view secret, std::string_view token);

}  // namespace tutti
