// /v1/users: local accounts and their roles, for admins. Passwords go in and never come out.
#include <boost/json/array.hpp>

#include "api/accounts/accounts.h"
#include "api/handlers/body.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

struct UserBody {
  std::string name;
  Accounts::UserChange change;
};

void read_password(SpecReader& r, const Path& at, const json::value& v, UserBody& into) {
  if (const auto s = r.string(at, v, 1024)) into.change.password = std::string(*s);
}
void read_disabled(SpecReader& r, const Path& at, const json::value& v, UserBody& into) {
  if (const auto b = r.boolean(at, v)) into.change.disabled = *b;
}
void read_roles(SpecReader& r, const Path& at, const json::value& v, UserBody& into) {
  constexpr std::size_t kMostRoles = 1'000;
  const auto* object = r.object(at, v, kMostRoles);
  if (object == nullptr) return;
  for (const auto& member : *object) {
    const Path here{&at, member.key()};
    if (member.key().empty() || member.key().size() > 128) {
      r.problem(here, "a project's name has 1 to 128 bytes", "\"*\" means everywhere");
      continue;
    }
    if (member.value().is_null()) {
      into.change.roles[member.key()] = Role::none;
      continue;
    }
    const auto text = r.string(here, member.value(), 64);
    if (!text) continue;
    if (const auto role = parse_role(*text))
      into.change.roles[member.key()] = *role;
    else
      r.problem(here, "no role '" + std::string(*text) + "'",
                "viewer, member, operator or admin; null takes the role away");
  }
}

constexpr auto kNewUserFields = std::to_array<wire::Field<UserBody>>({
    {"name", read_text<&UserBody::name, 128>},
    {"password", read_password},
    {"disabled", read_disabled},
    {"roles", read_roles},
});
constexpr auto kUserFields = std::to_array<wire::Field<UserBody>>({
    {"password", read_password},
    {"disabled", read_disabled},
    {"roles", read_roles},
});

json::object view(const UserRow& user) {
  json::object roles;
  for (const auto& [project, role] : user.roles) roles[project] = name(role);
  return {{"name", user.name},
          {"has_password", !user.password_hash.empty()},
          {"disabled", user.disabled},
          {"roles", std::move(roles)},
          {"created_at", instant_or_null(user.created_at)},
          {"created_by", user.created_by}};
}

void answer_with(const ApiPtr& api, const Answer& answer, const std::string& name, int status) {
  const auto& users = api->services.accounts->users();
  const auto at = users.find(name);
  if (at == users.end()) return answer.fail(not_found("no user '" + name + "'"));
  answer.json(status, view(at->second));
}

bool password_is_fine(const UserBody& body, std::string_view user, const Answer& answer) {
  if (!body.change.password || body.change.password->empty()) return true;
  const auto why = password_problem(*body.change.password, user);
  if (!why.empty()) answer.fail(bad_field("password", why));
  return why.empty();
}

void list_users(const ApiPtr& api, const http::Request&, Answer answer) {
  json::array users;
  for (const auto& [name, user] : api->services.accounts->users()) users.push_back(view(user));
  answer.json(200, json::object{{"users", std::move(users)}});
}

void get_user(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with(api, answer, request.param("name"), 200);
}

void add_user(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kNewUserFields);
  if (!body) return;
  if (!is_user_name(body->name))
    return answer.fail(bad_field("name", "a user's name has 1 to 128 printable bytes"));
  if (!password_is_fine(*body, body->name, answer)) return;
  api->services.accounts->add_user(body->name, body->change, identity_of(request).name,
                                   [api, answer, name = body->name](const Result<Accounts::Nothing>& done) {
                                     if (!done) return answer.fail(done.error());
                                     answer_with(api, answer, name, 201);
                                   });
}

void change_user(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kUserFields);
  const std::string name = request.param("name");
  if (!body || !password_is_fine(*body, name, answer)) return;
  api->services.accounts->change_user(name, body->change,
                                      [api, answer, name](const Result<Accounts::Nothing>& done) {
                                        if (!done) return answer.fail(done.error());
                                        answer_with(api, answer, name, 200);
                                      });
}

void remove_user(const ApiPtr& api, const http::Request& request, Answer answer) {
  api->services.accounts->remove_user(request.param("name"), [answer](const Result<Accounts::Nothing>& done) {
    if (!done) return answer.fail(done.error());
    answer.json(200, json::object{{"removed", true}});
  });
}

}  // namespace

void add_user_routes(const Routes& routes) {
  routes.get("/v1/users", "users.list", Need::administer, list_users);
  routes.post("/v1/users", "users.create", Need::administer, add_user);
  routes.get("/v1/users/{name}", "users.get", Need::administer, get_user);
  routes.patch("/v1/users/{name}", "users.change", Need::administer, change_user);
  routes.remove("/v1/users/{name}", "users.delete", Need::administer, remove_user);
}

}  // namespace tutti::api
