// /v1/webhooks: who is told of what happens. For operators of the cluster. Secrets go in, and come out once:
// when the server makes one.
#include <algorithm>
#include <array>
#include <boost/json/value_from.hpp>
#include <boost/url/parse.hpp>

#include "api/handlers/answer.h"
#include "api/handlers/view.h"
#include "api/handlers/webhook_service.h"
#include "api/wire/spec_reader.h"
#include "api/wire/strict_json.h"
#include "scheduler/model/notice.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

constexpr std::size_t kMaxUrl = 2048;
constexpr std::size_t kLeastSecret = 16, kMostSecret = 256;

/// Answers by itself when there is no such service, or it is not ready.
WebhookService* service_of(const ApiPtr& api, const Answer& answer) {
  WebhookService* service = api->services.webhooks;
  if (service == nullptr)
    answer.send(http::problem(501, "not_served", "this server sends no webhooks"));
  else if (service->webhooks() == nullptr)
    answer.fail(not_ready(api->backend));
  else
    return service;
  return nullptr;
}

Error no_webhook(const std::string& name) {
  return not_found("no webhook '" + name.substr(0, 64) + "'", "GET /v1/webhooks lists them");
}

json::object webhook_view(const WebhookRow& row) {
  return {{"name", row.name},
          {"url", row.url},
          {"kind", row.kind},
          {"events", json::value_from(row.events)},
          {"projects", json::value_from(row.projects)},
          {"enabled", row.enabled},
          {"secret", nullptr},
          {"created_at", instant_or_null(row.created_at)},
          {"changed_at", instant_or_null(row.changed_at)},
          {"changed_by", row.changed_by}};
}

json::object delivery_view(const DeliveryRow& row) {
  return {
      {"id", to_string(row.event) + "-" + row.webhook},
      {"event_id", row.event.value},
      {"notice", row.notice},
      {"job_id", row.job ? json::value(row.job.value) : json::value(nullptr)},
      {"state", name(row.state)},
      {"attempts", row.attempts},
      {"created_at", instant_or_null(row.created_at)},
      {"next_at", row.state == DeliveryState::waiting ? instant_or_null(row.next_at) : json::value(nullptr)},
      {"ended_at", instant_or_null(row.ended_at)},
      {"status", row.status == 0 ? json::value(nullptr) : json::value(row.status)},
      {"error", row.error}};
}

// ---------------------------------------------------------------- bodies

struct Settings {
  WebhookRow row;
  std::optional<std::string> secret;
};

/// "" = a URL that may be sent to.
std::string url_problem(std::string_view text) {
  const auto url = boost::urls::parse_uri(text);
  if (!url) return "is not a URL";
  if (url->scheme() != "http" && url->scheme() != "https") return "must be an http or https URL";
  if (url->host().empty()) return "names no host";
  if (url->has_userinfo()) return "must hold no user or password: it is shown to operators, and stored";
  if (url->has_fragment()) return "must hold no fragment";
  return "";
}

void read_url(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  const auto s = r.string(at, v, kMaxUrl);
  if (!s) return;
  if (const auto problem = url_problem(*s); !problem.empty())
    return r.problem(at, problem, "like \"https://hooks.example.com/tutti\"");
  into.row.url = std::string(*s);
}

void read_kind(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  const auto s = r.string(at, v, 16);
  if (!s) return;
  if (*s != "json" && *s != "slack") return r.problem(at, "unknown kind " + wire::shown(v), "json or slack");
  into.row.kind = std::string(*s);
}

void read_events(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list of words, not " + wire::describe_kind(v));
  const auto words = notice_words(false);
  if (list->size() > words.size()) return r.problem(at, "has more entries than there are words");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const auto word = r.string(here, (*list)[i], 64);
    if (!word) continue;
    if (!is_notice(*word)) {
      auto hint = wire::did_you_mean(*word, words);
      if (hint.empty())
        for (const auto known : words) hint += (hint.empty() ? "" : ", ") + std::string(known);
      r.problem(here, "unknown event " + wire::shown((*list)[i]), std::move(hint));
    } else if (std::ranges::find(into.row.events, *word) == into.row.events.end()) {
      into.row.events.emplace_back(*word);
    }
  }
}

void read_projects(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list of names, not " + wire::describe_kind(v));
  if (list->size() > 1000) return r.problem(at, "must have at most 1000 entries");
  for (std::size_t i = 0; i < list->size(); ++i)
    if (const auto s = r.label({&at, {}, static_cast<std::int64_t>(i)}, (*list)[i], 128))
      into.row.projects.emplace_back(*s);
}

void read_secret(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  const auto s = r.label(at, v, kMostSecret);
  if (!s) return;
  if (s->size() < kLeastSecret)
    return r.problem(at, "must be at least " + std::to_string(kLeastSecret) + " characters long",
                     "leave it out, and one is made");
  into.secret = std::string(*s);
}

void read_enabled(SpecReader& r, const Path& at, const json::value& v, Settings& into) {
  if (const auto b = r.boolean(at, v)) into.row.enabled = *b;
}

constexpr auto kFields = std::to_array<wire::Field<Settings>>({{"url", read_url},
                                                               {"kind", read_kind},
                                                               {"events", read_events},
                                                               {"projects", read_projects},
                                                               {"secret", read_secret},
                                                               {"enabled", read_enabled}});

// ---------------------------------------------------------------- endpoints

void list_webhooks(const ApiPtr& api, const http::Request&, Answer answer) {
  const WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  json::array out;
  for (const auto& [name, row] : *service->webhooks()) out.push_back(webhook_view(row));
  answer.json(200, json::object{{"webhooks", std::move(out)}});
}

void get_webhook(const ApiPtr& api, const http::Request& request, Answer answer) {
  const WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  const auto row = service->webhooks()->find(request.param("name"));
  if (row == service->webhooks()->end()) return answer.fail(no_webhook(request.param("name")));
  answer.json(200, webhook_view(row->second));
}

void put_webhook(const ApiPtr& api, const http::Request& request, Answer answer) {
  WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  Settings settings;
  settings.row.name = request.param("name");
  if (!is_webhook_name(settings.row.name))
    return answer.fail(bad_field("name", "a webhook's name has 1 to 64 letters, digits, '-', '_' or '.'"));
  std::vector<wire::SpecProblem> problems;
  SpecReader reader{problems, api->backend.now()};
  wire::read_fields(reader, {}, body, settings, kFields);
  const Path root;
  if (problems.empty() && settings.row.url.empty()) reader.problem({&root, "url"}, "is required");
  if (!problems.empty())
    return answer.fail(bad_field(problems.front().field.empty() ? "body" : problems.front().field,
                                 problems.front().message, problems.front().hint));
  settings.row.changed_by = identity_of(request).name;
  service->put(std::move(settings.row), std::move(settings.secret),
               [answer](Result<WebhookService::Made> made) {
                 if (!made) return answer.fail(made.error());
                 json::object view = webhook_view(made->row);
                 if (!made->secret.empty()) view["secret"] = made->secret;
                 answer.json(200, view);
               });
}

void delete_webhook(const ApiPtr& api, const http::Request& request, Answer answer) {
  WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  const std::string name = request.param("name");
  service->remove(name, [answer, name](const Result<bool>& removed) {
    if (!removed) return answer.fail(removed.error());
    if (!*removed) return answer.fail(no_webhook(name));
    answer.json(200, json::object{{"removed", true}});
  });
}

void test_webhook(const ApiPtr& api, const http::Request& request, Answer answer) {
  WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  service->test(request.param("name"), [answer](const Result<WebhookService::Probe>& probe) {
    if (!probe) return answer.fail(probe.error());
    answer.json(
        200, json::object{{"delivered", probe->status >= 200 && probe->status < 300},
                          {"status", probe->status == 0 ? json::value(nullptr) : json::value(probe->status)},
                          {"error", probe->error},
                          {"seconds", to_seconds(probe->took)}});
  });
}

void list_deliveries(const ApiPtr& api, const http::Request& request, Answer answer) {
  WebhookService* service = service_of(api, answer);
  if (service == nullptr) return;
  constexpr std::int64_t kLargest = 500;
  const auto size = int_param(request, "page_size", 100, 1, 1'000'000);
  if (!size) return answer.fail(size.error());
  const int limit = static_cast<int>(std::min(*size, kLargest));
  std::optional<DeliveryState> state;
  if (const auto text = request.query_param("state"); text && !text->empty()) {
    for (const auto s : {DeliveryState::waiting, DeliveryState::delivered, DeliveryState::dead})
      if (*text == name(s)) state = s;
    if (!state)
      return answer.fail(
          bad_field("state", "unknown state '" + text->substr(0, 64) + "'", "waiting, delivered or dead"));
  }
  EventId before;
  if (const auto token = request.query_param("page_token"); token && !token->empty()) {
    const auto id = parse_id(*token);
    if (!id)
      return answer.fail(
          bad_field("page_token", "not a page token of this list", "take next_page_token as it came"));
    before = EventId(*id);
  }
  service->deliveries(request.param("name"), state, before, limit + 1,
                      [answer, limit](Result<std::vector<DeliveryRow>> rows) {
                        if (!rows) return answer.fail(rows.error());
                        std::string next;
                        if (rows->size() > static_cast<std::size_t>(limit)) {
                          rows->resize(static_cast<std::size_t>(limit));
                          next = to_string(rows->back().event);
                        }
                        json::array out;
                        for (const auto& row : *rows) out.push_back(delivery_view(row));
                        answer.json(200,
                                    json::object{{"deliveries", std::move(out)}, {"next_page_token", next}});
                      });
}

}  // namespace

void add_webhook_routes(const Routes& routes) {
  routes.get("/v1/webhooks", "webhooks.list", Need::operate, list_webhooks);
  routes.get("/v1/webhooks/{name}", "webhooks.get", Need::operate, get_webhook);
  routes.put("/v1/webhooks/{name}", "webhooks.put", Need::operate, put_webhook);
  routes.remove("/v1/webhooks/{name}", "webhooks.delete", Need::operate, delete_webhook);
  routes.post("/v1/webhooks/{name}:test", "webhooks.test", Need::operate, test_webhook);
  routes.get("/v1/webhooks/{name}/deliveries", "webhooks.deliveries", Need::operate, list_deliveries);
}

}  // namespace tutti::api
