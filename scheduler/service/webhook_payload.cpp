#include "scheduler/service/webhook_payload.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "api/wire/text_values.h"
#include "api/wire/utf8.h"
#include "scheduler/service/sealed.h"

namespace tutti {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostText = 2900;  // Slack takes 3000 characters of a block

json::value or_null(std::string_view text) { return text.empty() ? json::value(nullptr) : json::value(text); }
json::value id_or_null(std::int64_t id) { return id == 0 ? json::value(nullptr) : json::value(id); }
json::value cause_or_null(Cause cause) {
  return cause == Cause::none ? json::value(nullptr) : json::value(name(cause));
}

json::value job_view(const JobFacts& job) {
  if (!job.row.id) return nullptr;
  json::object labels;
  for (const auto& [key, value] : job.labels) labels.emplace(key, value);
  return json::object{{"id", job.row.id.value},
                      {"name", job.name},
                      {"project", job.row.project},
                      {"queue", job.row.queue},
                      {"owner", job.row.owner},
                      {"state", name(job.row.state)},
                      {"cause", cause_or_null(job.row.cause)},
                      {"reason", job.row.reason},
                      {"attempt", job.row.attempt},
                      {"labels", std::move(labels)}};
}

json::object envelope(const WebhookRow& hook, std::string_view notice, std::string id, Instant at) {
  return {{"delivery", std::move(id)},
          {"webhook", hook.name},
          {"notice", notice},
          {"at", wire::format_instant(at)}};
}

/// What Slack reads as markup is text here.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c == '`' ? '\'' : c;
  }
  return out;
}

json::object block(std::string_view type, json::value content, std::string_view as) {
  return {{"type", type}, {as, std::move(content)}};
}

std::string slack_body(const std::string& text, const std::string& context) {
  const std::string shown(wire::utf8_prefix(text, kMostText));
  json::array blocks;
  blocks.push_back(block("section", json::object{{"type", "mrkdwn"}, {"text", shown}}, "text"));
  if (!context.empty())
    blocks.push_back(
        block("context", json::array{json::object{{"type", "mrkdwn"}, {"text", context}}}, "elements"));
  return json::serialize(json::object{{"text", shown}, {"blocks", std::move(blocks)}});
}

}  // namespace

std::string delivery_id(EventId event, std::string_view webhook) {
  return to_string(event) + "-" + std::string(webhook);
}

std::string render_json(const WebhookRow& hook, std::string_view notice, const EventRow& event,
                        const JobFacts& job, std::string_view node) {
  json::object body = envelope(hook, notice, delivery_id(event.id, hook.name), event.at);
  body["event"] = json::object{{"id", event.id.value},
                               {"at", wire::format_instant(event.at)},
                               {"job_id", id_or_null(event.job.value)},
                               {"node", or_null(node)},
                               {"epoch", id_or_null(event.epoch.value)},
                               {"kind", event.kind},
                               {"from", event.from},
                               {"to", event.to},
                               {"cause", cause_or_null(event.cause)},
                               {"detail", event.detail}};
  body["job"] = job_view(job);
  return json::serialize(body);
}

std::string render_slack(const WebhookRow&, std::string_view notice, const EventRow& event,
                         const JobFacts& job, std::string_view node) {
  std::string text = "*" + std::string(notice) + "*";
  std::string context;
  if (job.row.id) {
    text += " job " + to_string(job.row.id) + " `" + escaped(job.name) + "`";
    context =
        escaped(job.row.project) + " · " + escaped(job.row.owner) + " · queue " + escaped(job.row.queue);
    if (job.row.attempt > 0) context += " · attempt " + std::to_string(job.row.attempt);
  }
  if (!node.empty()) text += " node `" + escaped(node) + "`";
  if (event.cause != Cause::none)
    context += (context.empty() ? "" : " · ") + std::string("cause ") + std::string(name(event.cause));
  if (!event.detail.empty()) text += "\n" + escaped(event.detail);
  context += (context.empty() ? "" : " · ") + wire::format_instant(event.at);
  return slack_body(text, context);
}

std::string render(const WebhookRow& hook, std::string_view notice, const EventRow& event,
                   const JobFacts& job, std::string_view node) {
  return hook.kind == "slack" ? render_slack(hook, notice, event, job, node)
                              : render_json(hook, notice, event, job, node);
}

std::string render_test(const WebhookRow& hook, Instant at) {
  if (hook.kind == "slack")
    return slack_body("*test* from Tutti: webhook `" + hook.name + "` works", wire::format_instant(at));
  json::object body = envelope(hook, "test", "test-" + hook.name, at);
  body["event"] = nullptr;
  body["job"] = nullptr;
  return json::serialize(body);
}

std::string signature(std::string_view secret, Instant at, std::string_view body) {
  const auto t =
      std::to_string(std::chrono::duration_cast<std::chrono::seconds>(at.time_since_epoch()).count());
  return "t=" + t + ",v1=" + hmac_sha256(secret, t + "." + std::string(body));
}

}  // namespace tutti
