#include "api/handlers/limits.h"

#include <algorithm>
#include <array>
#include <utility>

#include "api/handlers/answer.h"
#include "api/http/address.h"

namespace tutti {
namespace {

constexpr auto kNotCounted = std::to_array<std::string_view>({"/healthz", "/livez", "/readyz", "/v1/worker"});

// Of the planner, the whole cluster, or every row of a table. docs/security.md shows the same numbers.
constexpr auto kRequestCosts = std::to_array<RequestCost>({
    {"jobs.simulate", 20},
    {"jobs.simulate_change", 20},
    {"jobs.bulk", 20},
    {"plan.get", 20},
    {"history.replay", 50},
    {"history.get", 10},
    {"history.map", 10},
    {"history.queue", 10},
    {"history.cluster", 10},
    {"history.decisions", 10},
    {"nodes.score", 10},
    {"nodes.attempts", 10},
    {"nodes.inspections", 10},
    {"projects.waits", 10},
    {"attempts.metrics", 10},
    {"nodes.metrics", 5},
    {"jobs.count", 10},
    {"jobs.list", 10, "q"},
    {"faults.summary", 10},
    {"usage.get", 10},
    {"projects.usage", 10},
    {"jobs.explain", 5},
    {"map.get", 5},
    {"queue.get", 5},
});

/// HEAD is answered by the route of GET.
std::string route_key(http::Method method, std::string_view pattern) {
  if (method == http::Method::head) method = http::Method::get;
  return std::string(http::to_string(method)) + " " + std::string(pattern);
}

bool counted(const http::Request& request) {
  return std::ranges::find(kNotCounted, request.path) == kNotCounted.end();
}

/// Whole seconds, rounded up: whoever waits that long is let through.
std::int64_t seconds_up(Duration d) { return std::chrono::ceil<std::chrono::seconds>(d).count(); }

struct Policy {
  std::string_view name;
  std::int64_t quota;
  Duration window;
};

std::string policy_text(const Policy& policy) {
  return "\"" + std::string(policy.name) + "\";q=" + std::to_string(policy.quota) +
         ";w=" + std::to_string(std::max<std::int64_t>(1, seconds_up(policy.window)));
}

std::string state_text(const Policy& policy, const Allowance& allowance) {
  return "\"" + std::string(policy.name) + "\";r=" + std::to_string(allowance.remaining) +
         ";t=" + std::to_string(seconds_up(allowance.reset));
}

void tell(http::Headers& headers, const Policy& policy, const Allowance& allowance) {
  headers.push_back({"RateLimit-Policy", policy_text(policy)});
  headers.push_back({"RateLimit", state_text(policy, allowance)});
}

http::Problem too_many(const Allowance& allowance, std::string detail, std::string hint) {
  http::Problem problem;
  problem.status = 429;
  problem.code = "rate_limited";
  problem.detail = std::move(detail);
  problem.hint = std::move(hint);
  problem.extra["retry_after_seconds"] = std::max<std::int64_t>(1, seconds_up(allowance.retry_after));
  return problem;
}

void tell_refusal(http::Headers& headers, const Policy& policy, const Allowance& allowance) {
  headers.push_back(
      {"Retry-After", std::to_string(std::max<std::int64_t>(1, seconds_up(allowance.retry_after)))});
  tell(headers, policy, allowance);
}

http::Response refuse(const Policy& policy, const Allowance& allowance, std::string detail,
                      std::string hint) {
  auto response = http::problem(too_many(allowance, std::move(detail), std::move(hint)));
  response.headers.push_back({"Tutti-API-Version", "v1"});
  tell_refusal(response.headers, policy, allowance);
  return response;
}

std::string again_in(const Allowance& allowance) {
  const auto wait = std::max<std::int64_t>(1, seconds_up(allowance.retry_after));
  return "try again in " + std::to_string(wait) + (wait == 1 ? " second" : " seconds");
}

Policy bucket_policy(std::string_view name, const TokenBucket& bucket) {
  return {name, static_cast<std::int64_t>(bucket.burst()),
          from_seconds(bucket.burst() / bucket.per_second())};
}

std::string_view kind_name(Identity::Kind kind) {
  switch (kind) {
    case Identity::Kind::nobody: break;
    case Identity::Kind::user: return "user ";
    case Identity::Kind::node: return "node ";
  }
  return "";
}

}  // namespace

std::span<const RequestCost> request_costs() { return kRequestCosts; }

Limits::Limits(const LimitSettings& settings, std::function<Mono()> clock)
    : settings_(settings), clock_(std::move(clock)) {
  const auto bucket = [](std::optional<TokenBucket>& into, double rate, double burst) {
    if (rate > 0) into.emplace(rate, std::max(burst, rate));
  };
  bucket(principals_, settings.principal_per_second, settings.principal_burst);
  bucket(addresses_, settings.address_per_second, settings.address_burst);
  const auto window = [&](std::optional<SlidingWindow>& into, int limit) {
    if (limit > 0) into.emplace(limit, settings.login_window);
  };
  window(user_failures_, settings.login_failures_user);
  window(address_failures_, settings.login_failures_address);
  if (settings.submissions_per_minute > 0)
    submissions_.emplace(settings.submissions_per_minute, std::chrono::minutes(1));
}

Limits::Before Limits::arrive() {
  return [this](http::Request& request) -> std::optional<http::Response> {
    if (!addresses_ || !counted(request) || request.peer == "unix") return std::nullopt;
    const auto address = http::address_group(request.peer);
    const auto allowance = addresses_->take(address, clock_());
    const auto policy = bucket_policy("address", *addresses_);
    if (!allowance.allowed)
      return refuse(policy, allowance, "too many requests from " + address,
                    again_in(allowance) + ", and ask less often");
    tell(request.answer_headers, policy, allowance);
    return std::nullopt;
  };
}

Limits::Before Limits::around(Before inner) {
  return [this, inner = std::move(inner)](http::Request& request) -> std::optional<http::Response> {
    if (inner)
      if (auto refused = inner(request)) return refused;
    const auto& who = api::identity_of(request);
    if (!principals_ || !counted(request) || who.kind == Identity::Kind::nobody) return std::nullopt;
    const auto principal = std::string(kind_name(who.kind)) + who.name;
    const double cost = std::min(cost_of(request), principals_->burst());
    const auto allowance = principals_->take(principal, clock_(), cost);
    const auto policy = bucket_policy("principal", *principals_);
    if (!allowance.allowed)
      return refuse(policy, allowance, "too many requests from " + principal,
                    again_in(allowance) +
                        (cost > 1 ? "; this one counts as " + std::to_string(static_cast<int>(cost))
                                  : "; a batch or the event stream needs fewer requests"));
    tell(request.answer_headers, policy, allowance);
    return std::nullopt;
  };
}

void Limits::weigh(const http::Router& router) {
  for (const auto& cost : kRequestCosts)
    for (const auto& route : router.routes())
      if (route.name == cost.operation) costs_[route_key(route.method, route.pattern)] = cost;
}

double Limits::cost_of(const http::Request& request) const {
  const auto found = costs_.find(route_key(request.method, request.route));
  if (found == costs_.end()) return 1;
  const auto& [operation, requests, with] = found->second;
  return with.empty() || !request.query_param(with).value_or("").empty() ? requests : 1;
}

std::optional<http::Response> Limits::login_allowed(std::string_view peer, std::string_view user) const {
  const auto refusal = [&](const std::optional<SlidingWindow>& window, std::string_view key,
                           std::string_view name) -> std::optional<http::Response> {
    if (!window) return std::nullopt;
    const auto allowance = window->look(key, clock_());
    if (allowance.allowed) return std::nullopt;
    return refuse({name, allowance.limit, settings_.login_window}, allowance, "too many failed logins",
                  again_in(allowance));
  };
  if (auto refused = refusal(address_failures_, http::address_group(peer), "login")) return refused;
  return refusal(user_failures_, user, "login");
}

void Limits::failed_login(std::string_view peer, std::string_view user) {
  if (user_failures_) (void)user_failures_->count(user, clock_());
  if (address_failures_) (void)address_failures_->count(http::address_group(peer), clock_());
}

void Limits::good_login(std::string_view user) {
  if (user_failures_) user_failures_->forget(user);
}

Limits::Told Limits::submission(std::string_view project, std::int64_t count) {
  Told told;
  if (!submissions_ || count <= 0) return told;
  const auto allowance = submissions_->pour(project, clock_(), static_cast<double>(count));
  const Policy policy{"submissions", allowance.limit, std::chrono::minutes(1)};
  if (allowance.allowed) {
    tell(told.headers, policy, allowance);
    return told;
  }
  const auto limit =
      "project " + std::string(project) + " may submit " + std::to_string(allowance.limit) + " jobs a minute";
  if (allowance.retry_after == kNever) {
    Error error;
    error.code = Errc::too_large;
    error.message = limit + "; this batch has " + std::to_string(count) + " of it";
    error.hint = "send smaller batches, or a job array: it counts as one";
    told.problem = api::problem_of(error);
    tell(told.headers, policy, allowance);
  } else {
    told.problem = too_many(allowance, limit, again_in(allowance) + "; a job array counts as one");
    tell_refusal(told.headers, policy, allowance);
  }
  return told;
}

}  // namespace tutti
