// /v1/tokens: API tokens. Shown once, kept as hashes; people see and revoke their own, admins everybody's.
#include <boost/json/array.hpp>

#include "api/accounts/accounts.h"
#include "api/handlers/body.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

constexpr Duration kDefaultLife = std::chrono::hours(24 * 90);

struct TokenBody {
  std::string name, user;
  std::uint8_t scopes = 0;
  std::optional<Duration> life;
};

void read_scopes(SpecReader& r, const Path& at, const json::value& v, TokenBody& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list of scopes", "read, submit, operate, admin");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const auto text = r.string(here, (*list)[i], 64);
    if (!text) continue;
    if (const auto scope = parse_scope(*text))
      into.scopes |= static_cast<std::uint8_t>(*scope);
    else
      r.problem(here, "no scope '" + std::string(*text) + "'", "read, submit, operate or admin");
  }
}
void read_life(SpecReader& r, const Path& at, const json::value& v, TokenBody& into) {
  if (const auto d = r.duration(at, v, std::chrono::minutes(1))) into.life = *d;
}

constexpr auto kFields = std::to_array<wire::Field<TokenBody>>({
    {"name", read_text<&TokenBody::name, 128>},
    {"user", read_text<&TokenBody::user, 128>},
    {"scopes", read_scopes},
    {"expires_in", read_life},
});

json::array scopes_view(std::uint8_t scopes) {
  json::array out;
  for (const auto scope : kScopes)
    if ((scopes & static_cast<std::uint8_t>(scope)) != 0) out.emplace_back(name(scope));
  return out;
}

json::object view(const TokenRow& token) {
  return {{"id", token.id},
          {"user", token.user},
          {"name", token.name},
          {"scopes", scopes_view(token.scopes)},
          {"created_at", instant_or_null(token.created_at)},
          {"expires_at", instant_or_null(token.expires_at.value_or(Instant{}))},
          {"last_used_at", instant_or_null(token.last_used_at.value_or(Instant{}))},
          {"last_used_from", token.last_used_from},
          {"revoked_at", instant_or_null(token.revoked_at.value_or(Instant{}))}};
}

bool is_admin(const Identity& who) { return judge(who, Need::administer) == Verdict::allowed; }

void list_tokens(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto& who = identity_of(request);
  const auto of = request.query_param("user");
  const bool all = of && is_admin(who);
  json::array tokens;
  for (const auto& [id, token] : api->services.accounts->tokens())
    if (all ? of->empty() || token.user == *of : token.user == who.name) tokens.push_back(view(token));
  answer.json(200, json::object{{"tokens", std::move(tokens)}});
}

void make_token(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto body = read_body(api, request, answer, kFields);
  if (!body) return;
  const auto& who = identity_of(request);
  const std::string user = body->user.empty() ? who.name : body->user;
  if (user != who.name && !is_admin(who))
    return answer.fail({.code = Errc::forbidden,
                        .message = who.name + " may not make tokens for " + user,
                        .hint = "leave the field user out",
                        .field = "user"});
  if (body->name.empty())
    return answer.fail(bad_field("name", "is missing", "say what it is for: you will want to know later"));
  constexpr auto kRead = static_cast<std::uint8_t>(Scope::read);
  if (body->scopes == 0) body->scopes = kRead | static_cast<std::uint8_t>(Scope::submit);
  body->scopes |= kRead;  // nothing can be done without looking
  if ((body->scopes & ~who.scopes) != 0)
    return answer.fail({.code = Errc::forbidden,
                        .message = "a token can hand on only what it may do itself",
                        .hint = "ask for fewer scopes",
                        .field = "scopes"});
  Instant expires = api->backend.now().wall + body->life.value_or(kDefaultLife);
  // A token does not outlive itself by making another.
  const auto& tokens = api->services.accounts->tokens();
  if (const auto own = tokens.find(who.token);
      own != tokens.end() && own->second.expires_at && expires > *own->second.expires_at) {
    if (body->life)
      return answer.fail({.code = Errc::forbidden,
                          .message = "the new token would outlive the one that asks for it",
                          .hint = "ask for less, or sign in with a password",
                          .field = "expires_in"});
    expires = *own->second.expires_at;
  }
  api->services.accounts->make_token(
      user, body->name, body->scopes, expires, [api, answer](const Result<NewSecret>& secret) {
        if (!secret) return answer.fail(secret.error());
        auto out = view(api->services.accounts->tokens().find(secret->id)->second);
        out["token"] = secret->text;
        answer.json(201, out);
      });
}

void revoke_token(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto& who = identity_of(request);
  const std::string id = request.param("id");
  const auto& tokens = api->services.accounts->tokens();
  const auto at = tokens.find(id);
  if (at == tokens.end() || (at->second.user != who.name && !is_admin(who)))
    return answer.fail(not_found("no token '" + id + "'", "tutti token list"));
  if (!who.token.empty() && who.token != id && !who.has(Scope::submit))
    return answer.fail({.code = Errc::forbidden,
                        .message = "a token that may only read revokes none but itself",
                        .hint = "use one with the scope submit",
                        .field = ""});
  api->services.accounts->revoke_token(id, [answer](const Result<Accounts::Nothing>& done) {
    if (!done) return answer.fail(done.error());
    answer.json(200, json::object{{"revoked", true}});
  });
}

}  // namespace

void add_token_routes(const Routes& routes) {
  routes.get("/v1/tokens", "tokens.list", Need::signed_in, list_tokens);
  routes.post("/v1/tokens", "tokens.create", Need::signed_in, make_token);
  routes.remove("/v1/tokens/{id}", "tokens.revoke", Need::signed_in, revoke_token);
}

}  // namespace tutti::api
