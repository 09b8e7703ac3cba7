// Who may ask how often: the rate limits of api/access/rate_limit.h as answers of HTTP.
//
// Wired by serving_http.cpp into the server's hooks, and given to handlers through Services. Control thread
// only. What it refuses is a 429 problem with Retry-After; every answer to a caller who is counted carries
// RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers). Health and the workers' own
// WebSocket are never counted: a cluster under a storm of requests must go on hearing its nodes.
//
//   http::Hooks hooks;
//   hooks.arrive = limits.arrive();                      // per address, before anything is looked at
//   hooks.before = limits.around(authenticate(token));   // per principal, once the caller is known
//   limits.weigh(router);                                // some routes count as several requests
//
// A login endpoint asks login_allowed first, and then says failed_login or good_login.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "api/access/rate_limit.h"
#include "api/http/router.h"

namespace tutti {

/// 0 turns a limit off.
struct LimitSettings {
  double principal_per_second = 200, principal_burst = 400;
  double address_per_second = 1000, address_burst = 2000;
  int login_failures_user = 20, login_failures_address = 50;
  Duration login_window = std::chrono::minutes(5);
  double submissions_per_minute = 0;  // of one project; a job array is one submission
};

/// A request counts as one, but for these: what they ask for takes many times the work of a look-up.
struct RequestCost {
  std::string_view operation;  // its operationId
  int requests;                // counts as so many of its principal's
  std::string_view with = {};  // only with this query parameter
};
std::span<const RequestCost> request_costs();

class Limits {
 public:
  using Before = std::function<std::optional<http::Response>(http::Request&)>;

  /// `clock`: any clock that does not jump.
  Limits(const LimitSettings& settings, std::function<Mono()> clock);

  /// For Hooks::arrive: counts the address.
  Before arrive();
  /// For Hooks::before: `inner` finds out who is asking, then that principal is counted.
  Before around(Before inner);
  /// From now on a request for one of these routes counts as request_costs() says. The routes outlive it.
  void weigh(const http::Router& router);

  /// Nothing: go on and look at the password. Else the answer to send instead. `peer`: Request::peer.
  std::optional<http::Response> login_allowed(std::string_view peer, std::string_view user) const;
  void failed_login(std::string_view peer, std::string_view user);
  /// The user's failures are forgotten, those of the address are not.
  void good_login(std::string_view user);

  struct Told {
    std::optional<http::Problem> problem;  // why not
    http::Headers headers;                 // for the answer, refused or not
  };
  /// `count` submissions of a project at once: all of them or none.
  Told submission(std::string_view project, std::int64_t count = 1);

 private:
  double cost_of(const http::Request& request) const;

  LimitSettings settings_;
  std::function<Mono()> clock_;
  std::unordered_map<std::string, RequestCost> costs_;  // by method and pattern
  std::optional<TokenBucket> principals_, addresses_;
  std::optional<SlidingWindow> user_failures_, address_failures_;
  std::optional<LeakyBucket> submissions_;
};

}  // namespace tutti
