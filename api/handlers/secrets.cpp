// /v1/secrets: names and dates are shown, values go in and never come out again. Whoever may see the project
// sees the names (they stand in its jobs); an operator of the project sets and removes them; a member's jobs
// use them. Control thread; the vault asks the database elsewhere.
#include <algorithm>
#include <boost/json/array.hpp>
#include <map>
#include <set>

#include "api/handlers/answer.h"
#include "api/handlers/secret_check.h"
#include "api/wire/strict_json.h"
#include "api/wire/text_values.h"
#include "api/wire/utf8.h"
#include "scheduler/model/job_spec.h"
#include "scheduler/model/secret_mask.h"
#include "scheduler/secrets/secret_vault.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

json::object view(const SecretRow& row) {
  return {{"project", row.project},
          {"name", row.name},
          {"version", row.version},
          {"updated_by", row.updated_by},
          {"updated_at", wire::format_instant(row.updated_at)}};
}

bool is_project_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && wire::is_utf8(name) && name != kEverywhere &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

Error forbidden(const Identity& who, const std::string& project) {
  if (!who.has(Scope::operate))
    return {.code = Errc::forbidden,
            .message = "this token was not made for that",
            .hint = "make one with a wider scope: tutti token create",
            .field = ""};
  return {
      .code = Errc::forbidden,
      .message = "secrets of project " + project + " are set by its operators, and " + who.name + " is none",
      .hint = "an admin can give the role",
      .field = ""};
}

http::Response keeps_no_secrets() {
  return http::problem(501, "not_implemented", "this scheduler keeps no secrets");
}

/// What PUT and DELETE have in common; false: it has been answered.
bool may_go_on(const ApiPtr& api, const http::Request& request, const Answer& answer) {
  const std::string& project = request.param("project");
  if (!is_project_name(project)) {
    answer.fail(bad_field("project", "a project's name has 1 to 128 printable bytes"));
    return false;
  }
  if (!may_set_secrets(identity_of(request), project)) {
    answer.fail(forbidden(identity_of(request), project));
    return false;
  }
  if (const auto why = why_no_secret_name(request.param("name")); !why.empty()) {
    answer.fail(bad_field("name", why));
    return false;
  }
  if (api->services.secrets == nullptr) answer.send(keeps_no_secrets());
  return api->services.secrets != nullptr;
}

void list_secrets(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (api->services.secrets == nullptr) return answer.send(keeps_no_secrets());
  const std::string project = request.query_param("project").value_or("");
  const Identity who = identity_of(request);
  if (!project.empty() && who.in(project) < Role::viewer)
    return answer.fail(not_found("no project '" + project + "'", "or you may not see it"));
  api->services.secrets->list(project, [answer, who](const Result<std::vector<SecretRow>>& rows) {
    if (!rows) return answer.fail(rows.error());
    json::array out;
    for (const auto& row : *rows)
      if (who.in(row.project) >= Role::viewer) out.push_back(view(row));
    answer.json(200, json::object{{"secrets", std::move(out)}});
  });
}

/// The value of {"value": "…"}; nothing: it has been answered. No problem ever quotes what was sent.
std::optional<std::string> read_value(const http::Request& request, const Answer& answer) {
  json::value body;
  if (const auto error = wire::parse_strict_json(request.body, body)) {
    answer.send(malformed("JSON", "see the position", error->line, error->column));
    return std::nullopt;
  }
  const auto fail = [&answer](std::string field, std::string message, std::string hint = {}) {
    answer.fail(bad_field(std::move(field), std::move(message), std::move(hint)));
    return std::nullopt;
  };
  const auto* object = body.if_object();
  if (object == nullptr) return fail("body", "the body must be an object", R"({"value": "…"})");
  for (const auto& member : *object)
    if (member.key() != "value")
      return fail(std::string(member.key()).substr(0, 128), "unknown field", "only 'value' is known");
  const auto* value = object->if_contains("value");
  if (value == nullptr || !value->is_string()) return fail("value", "must be text");
  const auto& text = value->get_string();
  if (text.empty()) return fail("value", "is empty", "to take a secret away, delete it");
  if (text.size() > kMaxSecretValue)
    return fail(
        "value",
        "has " + std::to_string(text.size()) + " bytes, the most are " + std::to_string(kMaxSecretValue),
        "put large things into a file that jobs can read");
  if (text.find('\0') != json::string::npos)
    return fail("value", "must not have a NUL: no variable can hold it", "encode it, as in base64");
  return std::string(text);
}

void put_secret(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (!may_go_on(api, request, answer)) return;
  auto value = read_value(request, answer);
  if (!value) return;
  json::array warnings;
  if (value->size() < kShortestSecret)
    warnings.emplace_back("values under " + std::to_string(kShortestSecret) +
                          " bytes cannot be found in logs, and are not taken out of them");
  api->services.secrets->put(request.param("project"), request.param("name"), *std::move(value),
                             identity_of(request).name, api->backend.now().wall,
                             [answer, warnings = std::move(warnings)](const Result<SecretRow>& row) {
                               if (!row) return answer.fail(row.error());
                               auto body = view(*row);
                               body["warnings"] = warnings;
                               answer.json(200, body);
                             });
}

void remove_secret(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (!may_go_on(api, request, answer)) return;
  const std::string project = request.param("project"), name = request.param("name");
  api->services.secrets->remove(project, name, [answer, project, name](const Result<bool>& gone) {
    if (!gone) return answer.fail(gone.error());
    if (!*gone) return answer.fail(not_found("project " + project + " has no secret " + name));
    answer.json(200, json::object{{"removed", true}});
  });
}

// ---------------------------------------------------------------- jobs that name them

struct Check {
  ApiPtr api;
  Answer answer;
  std::vector<SubmitItem> items;
  std::vector<std::string> projects;  // still to be asked for
  std::map<std::string, std::set<std::string>> known;
  std::function<void(std::vector<SubmitItem>, std::vector<std::optional<Error>>)> then;
};

void finish(Check& check) {
  std::vector<std::optional<Error>> refused(check.items.size());
  for (std::size_t i = 0; i < check.items.size(); ++i) {
    const auto& spec = check.items[i].spec;
    const auto& known = check.known[spec.project];
    for (std::size_t s = 0; s < spec.secrets.size() && !refused[i]; ++s)
      if (!known.contains(spec.secrets[s]))
        refused[i] = bad_field("secrets[" + std::to_string(s) + "]",
                               "project " + spec.project + " has no secret " + spec.secrets[s],
                               "an operator of the project can set it: tutti secret set " + spec.secrets[s] +
                                   " --project " + spec.project);
  }
  check.then(std::move(check.items), std::move(refused));
}

void ask_next(const std::shared_ptr<Check>& check) {
  if (check->projects.empty()) return finish(*check);
  const std::string project = check->projects.back();
  check->projects.pop_back();
  check->api->services.secrets->list(project, [check, project](const Result<std::vector<SecretRow>>& rows) {
    if (!rows) return check->answer.fail(rows.error());
    for (const auto& row : *rows) check->known[project].insert(row.name);
    ask_next(check);
  });
}

}  // namespace

void check_secrets(const ApiPtr& api, const Answer& answer, std::vector<SubmitItem> items,
                   std::function<void(std::vector<SubmitItem>, std::vector<std::optional<Error>>)> then) {
  std::set<std::string> projects;
  for (const auto& item : items)
    if (!item.spec.secrets.empty()) projects.insert(item.spec.project);
  std::vector<std::optional<Error>> none(items.size());
  if (projects.empty()) return then(std::move(items), std::move(none));
  if (api->services.secrets == nullptr)
    return answer.fail({.code = Errc::unavailable,
                        .message = "this scheduler keeps no secrets",
                        .hint = "submit the job without them",
                        .field = ""});
  ask_next(std::make_shared<Check>(Check{.api = api,
                                         .answer = answer,
                                         .items = std::move(items),
                                         .projects = {projects.begin(), projects.end()},
                                         .known = {},
                                         .then = std::move(then)}));
}

void add_secret_routes(const Routes& routes) {
  routes.get("/v1/secrets", "secrets.list", Need::signed_in, list_secrets);
  routes.put("/v1/secrets/{project}/{name}", "secrets.put", Need::submit, put_secret);
  routes.remove("/v1/secrets/{project}/{name}", "secrets.delete", Need::submit, remove_secret);
}

}  // namespace tutti::api
