// Who asks: a bearer token, a session of the console, or a node's certificate. What they may do is asked at
// the door of each route (admission.cpp).
#include <algorithm>
#include <array>

#include "api/accounts/accounts.h"
#include "api/handlers/answer.h"
#include "api/http/link.h"
#include "api/wire/utf8.h"

namespace tutti {
namespace {

// Whoever asks: health, the description, the console's files, and where somebody becomes known.
constexpr auto kOpenPaths = std::to_array<std::string_view>(
    {"/", "/healthz", "/livez", "/readyz", "/openapi.json", "/docs", "/console", "/v1/login",
     "/v1/nodes:join", "/internal/term"});  // has a mark of its own

bool is_open(std::string_view path) {
  return std::ranges::find(kOpenPaths, path) != kOpenPaths.end() || path.starts_with("/docs/") ||
         path.starts_with("/console/");
}

http::Response refuse(const Error& error) {
  return api::error_response(error).set("Tutti-API-Version", "v1");
}

Error unauthenticated(std::string message) {
  return {.code = Errc::unauthenticated,
          .message = std::move(message),
          .hint = "send the header \"Authorization: Bearer TOKEN\", or sign in with tutti login",
          .field = ""};
}

bool is_safe(http::Method method) {
  return method == http::Method::get || method == http::Method::head || method == http::Method::options;
}

/// A browser sends the cookie whoever made it ask. It says where the request came from: Sec-Fetch-Site, or
/// Origin in older ones, must be ourselves. Both missing is no browser of ours either.
bool is_of_our_own_page(const http::Request& request) {
  if (const auto site = request.header("Sec-Fetch-Site")) return *site == "same-origin";
  const auto origin = request.header("Origin"), host = request.header("Host");
  if (!origin || !host) return false;
  return *origin == "http://" + std::string(*host) || *origin == "https://" + std::string(*host);
}

std::optional<std::string_view> bearer_of(const http::Request& request) {
  constexpr std::string_view kScheme = "bearer ";
  const auto header = request.header("Authorization");
  if (!header) return std::nullopt;
  if (header->size() <= kScheme.size() ||
      !http::equal_ignoring_case(header->substr(0, kScheme.size()), kScheme))
    return "";
  return header->substr(kScheme.size());
}

Result<Identity> identify(Accounts& accounts, const http::Request& request) {
  const std::string from = api::address_of(request);
  if (const auto token = bearer_of(request)) return accounts.by_bearer(*token, from);
  if (const auto cookie = api::cookie_of(request, api::kSessionCookie)) {
    auto who = accounts.by_session(*cookie, from);
    // Cross-origin rules do not hold a page back from opening a WebSocket.
    const bool guarded = !is_safe(request.method) || request.header("Upgrade").has_value();
    if (who && guarded && !is_of_our_own_page(request))
      return Error{.code = Errc::forbidden,
                   .message = "a change by a session must come from a page of this server",
                   .hint = "programs use a token: tutti token create",
                   .field = ""};
    return who;
  }
  if (request.route == kWorkerRoute && !request.peer_certificate.empty())
    return accounts.by_certificate(request.peer_certificate, request.peer_certificate_until);
  return unauthenticated("a bearer token is needed");
}

/// In whose name: an admin may submit for others.
std::optional<http::Response> take_owner(const http::Request& request, Identity& who) {
  const auto user = request.header("Tutti-User");
  if (!user) return std::nullopt;
  if (!api::is_user_name(*user))
    return refuse(api::bad_field("Tutti-User", "a user's name has 1 to 128 printable bytes"));
  if (*user != who.name && (who.everywhere() < Role::admin || !who.has(Scope::admin)))
    return refuse({.code = Errc::forbidden,
                   .message = who.name + " may not speak for " + std::string(*user),
                   .hint = "leave the header Tutti-User out",
                   .field = ""});
  who.owner = std::string(*user);
  return std::nullopt;
}

}  // namespace

namespace api {

bool is_user_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && wire::is_utf8(name) &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

std::string address_of(const http::Request& request) {
  const auto colon = request.peer.rfind(':');
  return colon == std::string::npos ? request.peer : request.peer.substr(0, colon);
}

std::optional<std::string> cookie_of(const http::Request& request, std::string_view name) {
  for (const auto& header : request.headers) {
    if (!http::equal_ignoring_case(header.name, "Cookie")) continue;
    std::string_view rest = header.value;
    while (!rest.empty()) {
      auto item = rest.substr(0, rest.find(';'));
      rest.remove_prefix(std::min(rest.size(), item.size() + 1));
      while (item.starts_with(' ')) item.remove_prefix(1);
      if (item.starts_with(name) && item.substr(name.size()).starts_with('='))
        return std::string(item.substr(name.size() + 1));
    }
  }
  return std::nullopt;
}

}  // namespace api

std::function<std::optional<http::Response>(http::Request&)> authenticate(Accounts& accounts) {
  return [&accounts](http::Request& request) -> std::optional<http::Response> {
    auto who = identify(accounts, request);
    if (!who) {
      if (is_open(request.path)) return std::nullopt;
      return refuse(who.error());
    }
    if (auto refusal = take_owner(request, *who)) return refusal;
    // The workers' connection is no endpoint: its door is here.
    if (request.route == kWorkerRoute && judge(*who, Need::node) != Verdict::allowed)
      return refuse({.code = Errc::forbidden,
                     .message = "this is for workers, which join with a join token",
                     .hint = "tutti join-token create",
                     .field = ""});
    request.identity = *std::move(who);
    return std::nullopt;
  };
}

void keep_judging_worker(Accounts& accounts, const Identity& who, const std::shared_ptr<http::Link>& link) {
  accounts.open().add(
      who, [](const Identity&, const Identity& now) { return judge(now, Need::node) == Verdict::allowed; },
      link, aborting(link));
}

}  // namespace tutti
