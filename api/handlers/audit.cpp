// GET /v1/audit, and what is recorded: every change that somebody asked for through the API, done or refused,
// with who, from where, and what was before and after. The answer to a change leaves when its record is
// stored. Submissions are not here: a job's own history begins with who submitted it, and from where.
#include "api/handlers/audit.h"

#include <spdlog/spdlog.h>

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "api/accounts/accounts.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"
#include "api/wire/utf8.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostText = 8 << 10;  // of before and after
constexpr auto kSecretFields =
    std::to_array<std::string_view>({"token", "secret", "password", "value", "old", "new"});
constexpr auto kNotRecorded =
    std::to_array<std::string_view>({"jobs.submit", "jobs.submit_batch", "jobs.simulate",
                                     "jobs.simulate_change", "history.replay", "sessions.logout"});

std::string shortened(std::string text) {
  if (text.size() <= kMostText) return text;
  return json::serialize(json::object{{"too_large", text.size()}});
}

std::string without_secrets(json::value value) {
  if (auto* object = value.if_object())
    for (auto& member : *object)
      if (std::ranges::find(kSecretFields, std::string_view(member.key())) != kSecretFields.end() &&
          member.value().is_string())
        member.value() = "(not recorded)";
  return shortened(json::serialize(value));
}

std::string body_of(const std::string& text) {
  if (text.size() > 64 * kMostText) return "";
  boost::system::error_code code;
  auto value = json::parse(text, code);
  return code ? "" : without_secrets(std::move(value));
}

/// What was asked for, and what the answer says of it.
std::string after_of(const std::string& asked, const std::string& result) {
  if (asked.empty() && result.empty()) return "";
  return "{\"asked\":" + (asked.empty() ? "null" : asked) +
         ",\"result\":" + (result.empty() ? "null" : result) + "}";
}

json::value state_of_job(const Job& job) {
  return json::object{{"state", name(job.row.state)},
                      {"priority", job.row.priority},
                      {"version", job.row.version},
                      {"reason", job.row.reason}};
}

/// What the path names, as it is now, if that is in memory.
std::string before_of(const ApiPtr& api, const http::Request& request) {
  const ControlPlane* plane = api->backend.plane();
  if (request.route.starts_with("/v1/users/")) {
    const auto& users = api->services.accounts->users();
    const auto at = users.find(request.param("name"));
    if (at == users.end()) return "";
    json::object roles;
    for (const auto& [project, role] : at->second.roles) roles[project] = name(role);
    return json::serialize(json::object{{"disabled", at->second.disabled}, {"roles", std::move(roles)}});
  }
  if (plane == nullptr) return "";
  if (request.route.starts_with("/v1/jobs/{id}")) {
    const auto id = parse_id(request.param("id"));
    const Job* job = id ? plane->find_job(JobId(*id)) : nullptr;
    return job == nullptr ? "" : json::serialize(state_of_job(*job));
  }
  if (request.route.starts_with("/v1/nodes/{name}")) {
    const auto& by_name = plane->cluster().node_by_name;
    const auto at = by_name.find(request.param("name"));
    const Node* node = at == by_name.end() ? nullptr : plane->cluster().find(at->second);
    if (node == nullptr) return "";
    return json::serialize(
        json::object{{"service", name(node->row.service)}, {"reason", node->row.service_reason}});
  }
  return share_before(*plane, request);
}

std::string target_of(const http::Request& request) {
  std::string out;
  for (const auto& param : request.params) out += (out.empty() ? "" : "/") + param.value;
  return out.substr(0, 512);
}

json::value parsed_or_null(const std::string& text) {
  boost::system::error_code code;
  auto value = json::parse(text, code);
  return code ? json::value(nullptr) : value;
}

json::object view(const AuditRow& row) {
  return {{"id", row.id},
          {"at", instant_or_null(row.at)},
          {"who", row.who},
          {"credential", row.credential},
          {"from", row.from},
          {"action", row.action},
          {"target", row.target},
          {"status", row.status},
          {"before", parsed_or_null(row.before)},
          {"after", parsed_or_null(row.after)}};
}

Result<AuditFilter> filter_of(const http::Request& request, Now now) {
  AuditFilter filter;
  filter.who = request.query_param("who").value_or("");
  filter.action = request.query_param("action").value_or("");
  filter.target = request.query_param("target").value_or("");
  if (const auto since = request.query_param("since"); since && !since->empty()) {
    if (const auto ago = wire::parse_duration(*since))
      filter.since = now.wall - *ago;
    else
      filter.since = wire::parse_instant(*since);
    if (!filter.since)
      return bad_field("since", "not a time: '" + *since + "'",
                       "like 2026-10-01T02:00:00Z, or 7d for so long ago");
  }
  return filter;
}

void list_audit(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto filter = filter_of(request, api->backend.now());
  if (!filter) return answer.fail(filter.error());
  const auto size = int_param(request, "page_size", 100, 1, 1000);
  if (!size) return answer.fail(size.error());
  std::int64_t before = 0;
  if (const auto token = request.query_param("page_token"); token && !token->empty()) {
    const auto id = parse_id(*token);
    if (!id) return answer.fail(bad_field("page_token", "not a page token of this list"));
    before = *id;
  }
  const int limit = static_cast<int>(*size);
  api->services.accounts->find_audit(
      *filter, limit + 1, before, [answer, limit](const Result<std::vector<AuditRow>>& rows) {
        if (!rows) return answer.fail(rows.error());
        json::array entries;
        for (const auto& row : *rows)
          if (static_cast<int>(entries.size()) < limit) entries.push_back(view(row));
        const bool more = static_cast<int>(rows->size()) > limit;
        answer.json(
            200, json::object{{"entries", std::move(entries)},
                              {"next_page_token",
                               more ? std::to_string((*rows)[static_cast<std::size_t>(limit - 1)].id) : ""}});
      });
}

}  // namespace

void record_change(const ApiPtr& api, const http::Request& request, const std::string& action,
                   const Answer& answer) {
  const bool changes = request.method == http::Method::post || request.method == http::Method::put ||
                       request.method == http::Method::patch || request.method == http::Method::del;
  if (api->services.accounts == nullptr || !changes ||
      std::ranges::find(kNotRecorded, action) != kNotRecorded.end())
    return;
  const auto& who = identity_of(request);
  AuditRow row{.at = api->backend.now().wall,
               .who = who.owner.empty() || who.owner == who.name ? who.name : who.name + " for " + who.owner,
               .credential = who.credential,
               .from = address_of(request),
               .action = action,
               .target = target_of(request),
               .before = before_of(api, request),
               .after = ""};
  // Whoever is not known yet leaves no more than their attempt: what they send is theirs to choose.
  const bool known = who.kind != Identity::Kind::nobody;
  answer.hold([api, known, asked = body_of(request.body), row = std::move(row)](
                  const http::Response& response, std::function<void()> on) mutable {
    const bool done = response.status < 300;
    if (response.status == 429 || (!known && !done && row.action != "sessions.login")) return on();
    row.status = response.status;
    if (row.who.empty()) row.who = "nobody";
    if (!wire::is_utf8(row.target)) row.target = "(not text)";
    row.after = after_of(known || done || row.action == "sessions.login" ? asked : "",
                         done ? body_of(response.body) : "");
    api->services.accounts->record(row, [row, on = std::move(on)](bool stored) {
      if (!stored)
        spdlog::error("audit, not stored: {} {} {} by {} from {}: {}", row.action, row.target, row.status,
                      row.who, row.from, row.after);
      on();
    });
  });
}

void add_audit_routes(const Routes& routes) {
  routes.get("/v1/audit", "audit.list", Need::administer, list_audit);
}

}  // namespace tutti::api
