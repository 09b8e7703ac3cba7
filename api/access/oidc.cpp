#include "api/access/oidc.h"

#include <cjose/cjose.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace tutti {
namespace {

namespace json = boost::json;

constexpr std::size_t kLongestJwt = 16 << 10;
constexpr std::size_t kMostKeys = 64;

// Asymmetric ones only: with HS256 whoever knows the public key could sign, with none anybody.
struct Algorithm {
  std::string_view name, kind;
};
constexpr auto kAlgorithms = std::to_array<Algorithm>({{"RS256", "RSA"},
                                                       {"RS384", "RSA"},
                                                       {"RS512", "RSA"},
                                                       {"PS256", "RSA"},
                                                       {"PS384", "RSA"},
                                                       {"PS512", "RSA"},
                                                       {"ES256", "EC"},
                                                       {"ES384", "EC"},
                                                       {"ES512", "EC"}});

Error refused(std::string message, std::string hint = "") {
  return {.code = Errc::unauthenticated, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

std::string text_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

/// Seconds since 1970, which may have a fraction (RFC 7519, NumericDate).
std::optional<Instant> time_of(const json::object& claims, std::string_view name) {
  const auto* value = claims.if_contains(name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double seconds = value->to_number<double>();
  if (!std::isfinite(seconds) || std::abs(seconds) > 1e11) return std::nullopt;
  return Instant(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)));
}

bool names(const json::object& claims, std::string_view claim, std::string_view wanted) {
  const auto* value = claims.if_contains(claim);
  if (value == nullptr) return false;
  if (value->is_string()) return value->get_string() == wanted;
  const auto* list = value->if_array();
  return list != nullptr && std::ranges::any_of(*list, [&](const json::value& v) {
           return v.is_string() && v.get_string() == wanted;
         });
}

std::string hours(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%g h", to_seconds(d) / 3600);
  return text;
}

struct JwsFree {
  void operator()(cjose_jws_t* jws) const { cjose_jws_release(jws); }
};

}  // namespace

void OidcVerifier::KeyFree::operator()(void* key) const { cjose_jwk_release(static_cast<cjose_jwk_t*>(key)); }

OidcVerifier::OidcVerifier(OidcSettings settings) : settings_(std::move(settings)) {}
OidcVerifier::~OidcVerifier() = default;

Result<OidcSettings::Grant> parse_grant(std::string_view text) {
  const auto equals = text.find('=');
  const auto colon = text.rfind(':');
  if (equals == text.npos || colon == text.npos || colon < equals)
    return Error{.code = Errc::invalid_argument,
                 .message = "'" + std::string(text) + "' is not of the form GROUP=PROJECT:ROLE",
                 .hint = "like ml-team=nlp:member, or ops=*:operator",
                 .field = ""};
  OidcSettings::Grant grant{.group = std::string(text.substr(0, equals)),
                            .project = std::string(text.substr(equals + 1, colon - equals - 1)),
                            .role = parse_role(text.substr(colon + 1)).value_or(Role::none)};
  if (grant.group.empty() || grant.project.empty() || grant.role == Role::none)
    return Error{.code = Errc::invalid_argument,
                 .message = "'" + std::string(text) + "' names no group, no project, or no role",
                 .hint = "roles are viewer, member, operator, admin",
                 .field = ""};
  return grant;
}

bool looks_like_jwt(std::string_view text) {
  return text.size() <= kLongestJwt && text.starts_with("eyJ") && std::ranges::count(text, '.') == 2;
}

Result<int> OidcVerifier::set_keys(std::string_view jwks_json) {
  const auto bad = [](std::string why) {
    return Error{.code = Errc::invalid_argument, .message = std::move(why), .hint = "", .field = "keys"};
  };
  boost::system::error_code code;
  const json::value set = json::parse(json::string_view(jwks_json.data(), jwks_json.size()), code);
  const auto* object = code ? nullptr : set.if_object();
  const auto* list = object == nullptr ? nullptr : object->if_contains("keys");
  if (list == nullptr || !list->is_array()) return bad("not a key set: it has no list `keys`");
  std::multimap<std::string, Known, std::less<>> fresh;
  for (const auto& value : list->get_array()) {
    const auto* key = value.if_object();
    if (key == nullptr || fresh.size() >= kMostKeys) continue;
    const std::string kind = text_of(*key, "kty"), use = text_of(*key, "use");
    if ((kind != "RSA" && kind != "EC") || (!use.empty() && use != "sig")) continue;
    const std::string text = json::serialize(*key);
    cjose_err error{};
    Key parsed(cjose_jwk_import(text.c_str(), text.size(), &error));
    if (!parsed) continue;
    fresh.emplace(text_of(*key, "kid"), Known{text_of(*key, "alg"), kind, std::move(parsed)});
  }
  if (fresh.empty()) return bad("the key set holds no RSA or EC key for signatures");
  keys_ = std::move(fresh);
  return static_cast<int>(keys_.size());
}

OidcVerifier::Verdict OidcVerifier::verify(std::string_view jwt, Instant now) const {
  const auto no = [](std::string message, bool unknown_key = false) {
    return Verdict{std::nullopt, {refused("this token is not accepted: " + std::move(message)), unknown_key}};
  };
  if (!looks_like_jwt(jwt)) return no("it is no JWT");
  cjose_err error{};
  const std::unique_ptr<cjose_jws_t, JwsFree> jws(cjose_jws_import(jwt.data(), jwt.size(), &error));
  if (!jws) return no("it cannot be read");
  cjose_header_t* header = cjose_jws_get_protected(jws.get());
  const auto of_header = [header](const char* name) {
    cjose_err ignored{};
    const char* text = cjose_header_get(header, name, &ignored);
    return std::string(text == nullptr ? "" : text);
  };
  const std::string algorithm = of_header("alg"), kid = of_header("kid");
  const auto* known = std::ranges::find(kAlgorithms, algorithm, &Algorithm::name);
  if (known == kAlgorithms.end())
    return no("its algorithm '" + algorithm.substr(0, 16) + "' is not one we take");

  // Extensions that must be understood (RFC 7515, 4.1.11): we understand none.
  if (char* critical = cjose_header_get_raw(header, "crit", &error); critical != nullptr) {
    std::free(critical);
    return no("it needs an extension that we do not know");
  }

  bool tried = false, verified = false;
  for (const auto& [id, key] : keys_) {
    if (!kid.empty() && !id.empty() && id != kid) continue;
    if (key.kind != known->kind || (!key.algorithm.empty() && key.algorithm != algorithm)) continue;
    tried = true;
    verified = cjose_jws_verify(jws.get(), static_cast<const cjose_jwk_t*>(key.key.get()), &error);
    if (verified) break;
  }
  if (!tried) return no("it is signed with a key that its issuer does not publish", true);
  if (!verified) return no("its signature is wrong", kid.empty());

  std::uint8_t* plain = nullptr;
  std::size_t size = 0;
  if (!cjose_jws_get_plaintext(jws.get(), &plain, &size, &error)) return no("it is empty");
  boost::system::error_code code;
  const json::value body = json::parse(json::string_view(reinterpret_cast<const char*>(plain), size), code);
  const auto* claims = code ? nullptr : body.if_object();
  if (claims == nullptr) return no("its claims are no JSON object");
  if (text_of(*claims, "iss") != settings_.issuer) return no("it is of another issuer");
  if (!names(*claims, "aud", settings_.audience)) return no("it is meant for another audience");
  const auto expires = time_of(*claims, "exp"), not_before = time_of(*claims, "nbf");
  if (!expires) return no("it does not say when it expires");
  if (now >= *expires + settings_.leeway) return no("it has expired");
  // Groups are the provider's word of when it was made: it must not hold for long. What says no time of its
  // making, or one to come, is taken for made now.
  const Instant made = std::min(time_of(*claims, "iat").value_or(now), now);
  if (settings_.longest > Duration(0) && *expires > made + settings_.longest + settings_.leeway)
    return no("it holds for more than " + hours(settings_.longest) + ", the longest that is taken here (" +
              "--oidc-max-lifetime-hours of the scheduler; the provider sets how long its tokens hold)");
  if (not_before && now + settings_.leeway < *not_before) return no("it is not valid yet");

  Identity who;
  who.kind = Identity::Kind::user;
  who.scopes = kAllScopes;
  who.credential = "oidc";
  who.name = who.owner = text_of(*claims, settings_.user_claim);
  if (who.name.empty() || who.name.size() > 128 ||
      std::ranges::any_of(who.name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }))
    return no("its claim '" + settings_.user_claim + "' names no user");
  for (const auto& grant : settings_.grants) {
    if (!names(*claims, settings_.roles_claim, grant.group)) continue;
    auto& role = who.roles[grant.project];
    role = std::max(role, grant.role);
  }
  who.signed_roles = who.roles;
  who.expires_at = *expires + settings_.leeway;
  return {std::move(who), {}};
}

}  // namespace tutti
