// Keeps the keys of an identity provider: fetched at the start, every hour, and when a token comes that was
// signed with a key we have not (at most twice a minute: anybody can send such a token). The keys of before
// stay until new ones have come.
//
// Control thread; the network is waited for aside, 10 s at most.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <string>

#include "api/access/oidc.h"
#include "db/aside.h"

namespace tutti {

class OidcKeys {
 public:
  /// Does nothing if no issuer is set. The verifier outlives it.
  OidcKeys(boost::asio::any_io_executor executor, Aside aside, OidcSettings settings, OidcVerifier& verifier);

  void fetch_soon();
  void stop() { timer_.cancel(); }

 private:
  void fetch();
  void fetched(const std::string& text, const std::exception_ptr& failure);
  void wait(Duration d);

  Aside aside_;
  OidcSettings settings_;
  OidcVerifier& verifier_;
  boost::asio::steady_timer timer_;
  bool fetching_ = false;
  std::chrono::steady_clock::time_point fetched_at_{};
};

}  // namespace tutti
