#include "api/handlers/forwarding.h"

#include <algorithm>
#include <array>

#include "api/access/forward_mark.h"
#include "api/access/identity.h"
#include "api/handlers/routes.h"

namespace tutti {
namespace {

constexpr auto kOwn = std::to_array<std::string_view>({
    // Of this process.
    "health.get",
    "health.live",
    "health.ready",
    "metrics.get",
    "control_plane.get",
    "openapi.get",
    "docs.page",
    "docs.file",
    // Of rows alone. Users and tokens are not: they are read every few seconds.
    "jobs.count",
    "history.get",
    "history.map",
    "history.cluster",
    "history.decisions",
    "history.queue",
    "usage.get",
    "audit.list",
});

// RFC 9110 §7.6.1, and what each side says for itself.
constexpr auto kOfOneConnection = std::to_array<std::string_view>(
    {"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE",
     "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Expect", ForwardMark::kHeader});
constexpr auto kOfOneAnswer =
    std::to_array<std::string_view>({"Date", "Server", "Strict-Transport-Security"});
// We have counted the caller as well, and say so; a refusal says whose it is.
constexpr auto kLimits = std::to_array<std::string_view>({"RateLimit", "RateLimit-Policy"});

template <class List>
bool is_one_of(const List& list, std::string_view name) {
  return std::ranges::any_of(list,
                             [name](std::string_view one) { return http::equal_ignoring_case(one, name); });
}

}  // namespace

bool answered_by_standby(std::string_view operation) {
  return std::ranges::find(kOwn, operation) != kOwn.end();
}

bool goes_to_leader(const http::Request& request, std::string_view operation, bool needs_somebody) {
  if (!answered_by_standby(operation)) return true;
  const auto* who = std::any_cast<Identity>(&request.identity);
  return needs_somebody && (who == nullptr || who->kind == Identity::Kind::nobody);
}

http::Headers headers_to_leader(const http::Request& request) {
  http::Headers out;
  for (const auto& header : request.headers)
    if (!is_one_of(kOfOneConnection, header.name)) out.push_back(header);
  return out;
}

http::Headers headers_from_leader(const http::Headers& headers, int status) {
  http::Headers out;
  for (const auto& header : headers) {
    if (is_one_of(kOfOneConnection, header.name) || is_one_of(kOfOneAnswer, header.name)) continue;
    if (status != 429 && is_one_of(kLimits, header.name)) continue;
    out.push_back(header);
  }
  return out;
}

BeforeHook judged_by_leader(BeforeHook inner, const Forwarding& forwarding) {
  return [inner = std::move(inner), &forwarding](http::Request& request) -> std::optional<http::Response> {
    auto refused = inner(request);
    const bool unknown = refused && refused->status == 401;
    if (!unknown || !forwarding.standing_by() || request.route == kWorkerRoute) return refused;
    request.identity.reset();
    return std::nullopt;
  };
}

}  // namespace tutti
