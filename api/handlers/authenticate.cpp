#include <algorithm>
#include <array>

#include "api/handlers/answer.h"
#include "api/wire/utf8.h"

namespace tutti {
namespace {

constexpr auto kOpenPaths =
    std::to_array<std::string_view>({"/healthz", "/livez", "/readyz", "/openapi.json", "/docs"});

/// Takes as long for a wrong token as for the right one.
bool equal_in_constant_time(std::string_view given, std::string_view expected) {
  unsigned difference = given.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(expected.empty() ? 0 : expected[i % expected.size()]);
  return difference == 0;
}

http::Response refuse(std::string message) {
  auto response = api::error_response(Error{.code = Errc::unauthenticated,
                                            .message = std::move(message),
                                            .hint = "send the header \"Authorization: Bearer TOKEN\"",
                                            .field = ""});
  return response.set("Tutti-API-Version", "v1");
}

bool is_user_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && wire::is_utf8(name) &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

}  // namespace

std::function<std::optional<http::Response>(http::Request&)> authenticate(std::string token) {
  return [token = std::move(token)](http::Request& request) -> std::optional<http::Response> {
    if (std::ranges::find(kOpenPaths, request.path) != kOpenPaths.end() || request.path.starts_with("/docs/"))
      return std::nullopt;
    constexpr std::string_view kScheme = "bearer ";
    const auto header = request.header("Authorization");
    if (!header) return refuse("a bearer token is needed");
    if (header->size() <= kScheme.size() ||
        !http::equal_ignoring_case(header->substr(0, kScheme.size()), kScheme) ||
        !equal_in_constant_time(header->substr(kScheme.size()), token) || token.empty())
      return refuse("this token is not known");
    Identity identity{.kind = Identity::Kind::user,
                      .name = "admin",
                      .owner = "admin",
                      .roles = {{std::string(kEverywhere), Role::admin}},
                      .scopes = kAllScopes,
                      .credential = "the scheduler's own token"};
    if (const auto user = request.header("Tutti-User")) {
      if (!is_user_name(*user))
        return api::error_response(api::bad_field("Tutti-User", "a user's name has 1 to 128 printable bytes"))
            .set("Tutti-API-Version", "v1");
      identity.owner = std::string(*user);
    }
    request.identity = std::move(identity);
    return std::nullopt;
  };
}

}  // namespace tutti
