// POST /v1/login, POST /v1/logout, GET /v1/me, PUT /v1/me/password: people who sign in by name and password,
// or in a browser by a token, and what anybody is told of themselves.
#include <boost/json/array.hpp>

#include "api/accounts/accounts.h"
#include "api/handlers/body.h"
#include "api/handlers/limits.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

struct LoginBody {
  std::string user, password, token;
  bool cli = false;
};
constexpr auto kLoginFields = std::to_array<wire::Field<LoginBody>>({
    {"user", read_text<&LoginBody::user, 128>},
    {"password", read_text<&LoginBody::password, 1024>},
    {"token", read_text<&LoginBody::token, 4096>},
    {"cli", read_flag<&LoginBody::cli>},  // who asks; changes nothing
});

std::string cookie(std::string_view value, std::int64_t seconds, bool secure) {
  return std::string(kSessionCookie) + "=" + std::string(value) +
         "; Path=/; Max-Age=" + std::to_string(seconds) + "; HttpOnly; SameSite=Strict" +
         (secure ? "; Secure" : "");
}

/// Another site must not sign people in under a name of its choice.
bool is_from_elsewhere(const http::Request& request) {
  const auto site = request.header("Sec-Fetch-Site");
  return site && *site != "same-origin" && *site != "none";
}

void answer_with_session(const ApiPtr& api, const Answer& answer, const Accounts::Session& session) {
  const auto left = session.expires_at - api->backend.now().wall;
  answer.header("Set-Cookie",
                cookie(session.cookie, std::chrono::duration_cast<std::chrono::seconds>(left).count(),
                       api->settings.tls));
  answer.json(200, json::object{{"user", session.user}, {"expires_at", instant_or_null(session.expires_at)}});
}

/// Failures count for the address, not for a name: nobody knows whose token was meant.
void log_in_by_token(const ApiPtr& api, const http::Request& request, const Answer& answer,
                     const std::string& token) {
  const std::string from = "token from " + address_of(request);
  Limits* limits = api->services.limits;
  if (limits != nullptr)
    if (auto refused = limits->login_allowed(request.peer, from)) return answer.send(*std::move(refused));
  const auto session = api->services.accounts->log_in_by_token(token, address_of(request));
  if (limits != nullptr && session) limits->good_login(from);
  if (limits != nullptr && !session && session.error().code == Errc::unauthenticated)
    limits->failed_login(request.peer, from);
  if (!session) return answer.fail(session.error());
  answer_with_session(api, answer, *session);
}

void log_in(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (is_from_elsewhere(request))
    return answer.fail({.code = Errc::forbidden,
                        .message = "signing in must come from a page of this server",
                        .hint = "",
                        .field = ""});
  const auto body = read_body(api, request, answer, kLoginFields);
  if (!body) return;
  if (!body->token.empty()) {
    if (!body->user.empty() || !body->password.empty())
      return answer.fail(bad_field("token", "a token says who you are: leave user and password out"));
    return log_in_by_token(api, request, answer, body->token);
  }
  if (body->user.empty()) return answer.fail(bad_field("user", "is missing"));
  if (body->password.empty()) return answer.fail(bad_field("password", "is missing"));
  Limits* limits = api->services.limits;
  if (limits != nullptr)
    if (auto refused = limits->login_allowed(request.peer, body->user))
      return answer.send(*std::move(refused));
  api->services.accounts->log_in(
      body->user, body->password, address_of(request),
      [api, answer, limits, peer = request.peer,
       user = body->user](const Result<Accounts::Session>& session) {
        if (limits != nullptr && session) limits->good_login(user);
        if (limits != nullptr && !session && session.error().code == Errc::unauthenticated)
          limits->failed_login(peer, user);
        if (!session) return answer.fail(session.error());
        answer_with_session(api, answer, *session);
      });
}

void log_out(const ApiPtr& api, const http::Request& request, Answer answer) {
  constexpr std::string_view kSession = "session ";
  const auto& who = identity_of(request);
  const auto over = [api, answer] {
    answer.header("Set-Cookie", cookie("", 0, api->settings.tls));
    answer.send(http::no_content());
  };
  if (!who.credential.starts_with(kSession)) return over();
  api->services.accounts->log_out(who.credential.substr(kSession.size()),
                                  [answer, over](const Result<Accounts::Nothing>& done) {
                                    if (!done) return answer.fail(done.error());
                                    over();
                                  });
}

json::value token_view(const Accounts& accounts, const std::string& id) {
  const auto at = accounts.tokens().find(id);
  if (at == accounts.tokens().end()) return nullptr;
  return json::object{{"id", id},
                      {"name", at->second.name},
                      {"expires_at", instant_or_null(at->second.expires_at.value_or(Instant{}))},
                      {"last_used_at", instant_or_null(at->second.last_used_at.value_or(Instant{}))}};
}

bool may(const Identity& who, std::string_view route, Need need, std::string_view project,
         std::string_view owner) {
  switch (need) {
    case Need::nothing:
    case Need::signed_in:
    case Need::operate:
    case Need::administer:
    case Need::node: return judge(who, need) == Verdict::allowed;
    case Need::job_read: return may_read(who, project, owner);
    case Need::job_change: return may_change(who, project, owner);
    case Need::submit:
      return route.starts_with("secrets.") ? may_set_secrets(who, project) : may_submit(who, project, false);
  }
  return false;
}

constexpr std::string_view kNoProject;  // in which a role holds only if it does everywhere

/// Names of routes by project; what is allowed everywhere stands under "*" alone. `owner`: of the jobs that
/// are asked about.
json::object permissions_view(const Api& api, const Identity& who, std::string_view owner) {
  json::object out;
  const auto list = [&](std::string_view project) {
    json::array routes;
    for (const auto& [route, need] : api.needs) {
      const bool everywhere = may(who, route, need, kNoProject, owner);
      if (project == kEverywhere ? everywhere : !everywhere && may(who, route, need, project, owner))
        routes.emplace_back(route);
    }
    return routes;
  };
  out.emplace(kEverywhere, list(kEverywhere));
  for (const auto& [project, role] : who.roles)
    if (project != kEverywhere) out.emplace(project, list(project));
  return out;
}

void get_me(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto& who = identity_of(request);
  json::object roles;
  for (const auto& [project, role] : who.roles) roles[project] = name(role);
  json::array scopes;
  for (const auto scope : kScopes)
    if (who.has(scope)) scopes.emplace_back(name(scope));
  answer.json(200, json::object{{"user", who.name},
                                {"kind", "user"},
                                {"roles", std::move(roles)},
                                {"scopes", std::move(scopes)},
                                {"credential", who.credential},
                                {"token", token_view(*api->services.accounts, who.token)},
                                {"permissions", permissions_view(*api, who, "")},
                                {"own_jobs", permissions_view(*api, who, who.owner)}});
}

struct PasswordBody {
  std::string old_password, new_password;
};
constexpr auto kPasswordFields = std::to_array<wire::Field<PasswordBody>>({
    {"old", read_text<&PasswordBody::old_password, 1024>},
    {"new", read_text<&PasswordBody::new_password, 1024>},
});

// With the old one, so that a session left open is not enough to take an account over.
void set_password(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kPasswordFields);
  if (!body) return;
  const std::string user = identity_of(request).name;
  if (const auto why = password_problem(body->new_password, user); !why.empty())
    return answer.fail(bad_field("new", why));
  Accounts& accounts = *api->services.accounts;
  Limits* limits = api->services.limits;
  if (limits != nullptr)
    if (auto refused = limits->login_allowed(request.peer, user)) return answer.send(*std::move(refused));
  accounts.check_password(
      user, body->old_password, [=, &accounts, peer = request.peer](const Result<Accounts::Nothing>& right) {
        if (limits != nullptr && !right && right.error().code == Errc::unauthenticated)
          limits->failed_login(peer, user);
        if (!right) return answer.fail(right.error());
        Accounts::UserChange change;
        change.password = body->new_password;
        accounts.change_user(user, change, [answer](const Result<Accounts::Nothing>& done) {
          if (!done) return answer.fail(done.error());
          answer.send(http::no_content());
        });
      });
}

}  // namespace

void add_session_routes(const Routes& routes) {
  routes.post("/v1/login", "sessions.login", Need::nothing, log_in);
  routes.post("/v1/logout", "sessions.logout", Need::signed_in, log_out);
  routes.get("/v1/me", "me.get", Need::signed_in, get_me);
  routes.put("/v1/me/password", "me.set_password", Need::signed_in, set_password);
}

}  // namespace tutti::api
