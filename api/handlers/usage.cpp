// GET /v1/usage and GET /v1/projects/{name}/usage: what was used and lost, by whom, as JSON or CSV. Sums over
// committed rows, read on a read thread; only of jobs that the caller may see.
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>

#include "api/handlers/answer.h"
#include "api/handlers/csv.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"
#include "api/wire/spec_reader.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr Duration kUsual = std::chrono::hours(24 * 30);
constexpr Duration kLongest = std::chrono::hours(24 * 400);
constexpr auto kKeys = std::to_array<std::pair<std::string_view, UsageKey>>({{"project", UsageKey::project},
                                                                             {"user", UsageKey::user},
                                                                             {"queue", UsageKey::queue},
                                                                             {"day", UsageKey::day},
                                                                             {"cause", UsageKey::cause}});

std::string_view name_of(UsageKey key) {
  return std::ranges::find(kKeys, key, &std::pair<std::string_view, UsageKey>::second)->first;
}

// ---------------------------------------------------------------- the question

Result<std::vector<UsageKey>> parse_group_by(std::string_view text) {
  std::vector<UsageKey> keys;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const auto* known = std::ranges::find(kKeys, word, &std::pair<std::string_view, UsageKey>::first);
    if (known == kKeys.end()) {
      std::array<std::string_view, kKeys.size()> names;
      for (std::size_t i = 0; i < kKeys.size(); ++i) names[i] = kKeys[i].first;
      auto hint = wire::did_you_mean(word, names);
      return bad_field("group_by", "cannot group by '" + std::string(word.substr(0, 100)) + "'",
                       hint.empty() ? "project, user, queue, day and cause, with commas" : std::move(hint));
    }
    if (std::ranges::find(keys, known->second) != keys.end())
      return bad_field("group_by", "names '" + std::string(word) + "' twice");
    keys.push_back(known->second);
  }
  return keys;
}

Result<Instant> parse_bound(const http::Request& request, std::string_view field, Instant otherwise,
                            Now now) {
  const auto text = request.query_param(field);
  if (!text || text->empty()) return otherwise;
  const auto at = parse_since(*text, now);
  if (at) return *at;
  return bad_field(std::string(field), "not a time: '" + text->substr(0, 100) + "'",
                   "like 2026-10-01T00:00:00Z, or 7d for so long ago");
}

Result<UsageQuery> parse_query(const http::Request& request, Now now) {
  UsageQuery query;
  std::string group_by = "project";
  for (const auto& [key, value] : request.query_params()) {
    if (key == "project")
      query.project = value;
    else if (key == "user")
      query.user = value;
    else if (key == "queue")
      query.queue = value;
    else if (key == "group_by")
      group_by = value;
    else if (key != "since" && key != "until" && key != "format")
      return bad_field(key, "unknown parameter", "project, user, queue, since, until, group_by or format");
  }
  auto keys = parse_group_by(group_by);
  if (!keys) return keys.error();
  query.by = *std::move(keys);
  const auto until = parse_bound(request, "until", now.wall, now);
  if (!until) return until.error();
  query.until = std::min(*until, now.wall);  // what is to come is used by nobody
  const auto since = parse_bound(request, "since", query.until - kUsual, now);
  if (!since) return since.error();
  query.since = *since;
  if (query.since >= query.until)
    return bad_field("since", "the interval is empty: it ends before it begins",
                     "since must be before until, and before now");
  if (query.until - query.since > kLongest)
    return bad_field("since", "the interval is longer than 400 days", "ask for one year after the other");
  query.visible = visible_to(identity_of(request));
  return query;
}

// ---------------------------------------------------------------- the answer

std::string day_text(Instant day) { return wire::format_instant(day).substr(0, 10); }

std::string key_text(UsageKey key, const UsageRow& row) {
  switch (key) {
    case UsageKey::project: return row.project;
    case UsageKey::user: return row.user;
    case UsageKey::queue: return row.queue;
    case UsageKey::day: return day_text(row.day);
    case UsageKey::cause: return std::string(name(row.cause));
  }
  return "";
}

json::value seconds_or_null(const std::optional<double>& seconds) {
  return seconds ? json::value(*seconds) : json::value(nullptr);
}

json::object sums_view(const UsageRow& row) {
  json::object lost_by;
  for (std::size_t c = 0; c < kCauseCount; ++c)
    if (row.lost_by[c] > Duration::zero())
      lost_by.emplace(name(static_cast<Cause>(c)), to_seconds(row.lost_by[c]));
  return {{"jobs", row.jobs},
          {"attempts", row.attempts},
          {"gpu_seconds", to_seconds(row.gpu)},
          {"node_seconds", to_seconds(row.node)},
          {"lost_gpu_seconds", to_seconds(row.lost)},
          {"lost_by_cause", std::move(lost_by)},
          {"wait_p50_seconds", seconds_or_null(row.wait_p50)},
          {"wait_p90_seconds", seconds_or_null(row.wait_p90)},
          {"succeeded", row.succeeded},
          {"failed", row.failed},
          {"cancelled", row.cancelled}};
}

json::object usage_view(const UsageQuery& query, const Usage& usage) {
  json::array keys, rows;
  for (const UsageKey key : query.by) keys.emplace_back(name_of(key));
  for (const auto& row : usage.rows) {
    json::object one = sums_view(row);
    for (const UsageKey key : query.by) one.emplace(name_of(key), key_text(key, row));
    rows.push_back(std::move(one));
  }
  return {{"since", wire::format_instant(query.since)},
          {"until", wire::format_instant(query.until)},
          {"group_by", std::move(keys)},
          {"rows", std::move(rows)},
          {"total", sums_view(usage.total)},
          {"cut", usage.cut}};
}

std::string number(double value) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

void add_row(Csv& csv, const std::vector<UsageKey>& by, const UsageRow& row) {
  for (const UsageKey key : by) csv.text(key_text(key, row));
  csv.number(std::to_string(row.jobs));
  csv.number(std::to_string(row.attempts));
  csv.number(number(to_seconds(row.gpu)));
  csv.number(number(to_seconds(row.node)));
  csv.number(number(to_seconds(row.lost)));
  for (std::size_t c = 1; c < kCauseCount; ++c) csv.number(number(to_seconds(row.lost_by[c])));
  csv.number(row.wait_p50 ? number(*row.wait_p50) : "");
  csv.number(row.wait_p90 ? number(*row.wait_p90) : "");
  csv.number(std::to_string(row.succeeded));
  csv.number(std::to_string(row.failed));
  csv.number(std::to_string(row.cancelled));
  csv.end_row();
}

std::string usage_csv(const UsageQuery& query, const Usage& usage) {
  Csv csv;
  for (const UsageKey key : query.by) csv.text(name_of(key));
  for (const auto column : {"jobs", "attempts", "gpu_seconds", "node_seconds", "lost_gpu_seconds"})
    csv.text(column);
  for (std::size_t c = 1; c < kCauseCount; ++c)
    csv.text("lost_" + std::string(name(static_cast<Cause>(c))) + "_gpu_seconds");
  for (const auto column : {"wait_p50_seconds", "wait_p90_seconds", "succeeded", "failed", "cancelled"})
    csv.text(column);
  csv.end_row();
  for (const auto& row : usage.rows) add_row(csv, query.by, row);
  if (query.by.empty()) add_row(csv, {}, usage.total);
  return csv.take();
}

Result<bool> wants_csv(const http::Request& request) {
  const auto format = request.query_param("format");
  if (format && *format != "json" && *format != "csv")
    return bad_field("format", "unknown format '" + format->substr(0, 100) + "'", "json or csv");
  if (format) return *format == "csv";
  const auto accept = request.header("Accept");
  return accept && accept->find("text/csv") != std::string_view::npos;
}

/// A sum may keep the database busy for seconds: one at a time, whoever asks. Held by what waits for the
/// rows, wherever that is let go.
std::shared_ptr<void> begin_usage() {
  static std::atomic<bool> under_way = false;
  if (under_way.exchange(true)) return nullptr;
  return {&under_way, [](std::atomic<bool>* flag) { *flag = false; }};
}

void answer_usage(const ApiPtr& api, const Answer& answer, const UsageQuery& query, bool csv) {
  const auto turn = begin_usage();
  if (turn == nullptr)
    return answer.fail(Error{.code = Errc::unavailable,
                             .message = "another usage query is under way",
                             .hint = "try again in a second",
                             .field = ""});
  api->backend.read(
      [answer, query, csv, turn](Reader& reader) -> std::function<void()> {
        auto usage = std::make_shared<Usage>(reader.usage(query));
        return [answer, query, csv, usage] {
          if (!csv) return answer.json(200, usage_view(query, *usage));
          if (usage->cut)
            answer.header("Tutti-Warning", "more than " + std::to_string(kMaxUsageRows) +
                                               " rows: the rest is left out, ask for a shorter interval");
          answer.header("Content-Disposition", "attachment; filename=\"usage.csv\"");
          answer.send(http::text(200, usage_csv(query, *usage), "text/csv; charset=utf-8; header=present"));
        };
      },
      [answer, turn](Error error) {
        error.hint = "try again, or ask for a shorter interval";
        answer.fail(error);
      });
}

void get_usage(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto query = parse_query(request, api->backend.now());
  if (!query) return answer.fail(query.error());
  const auto csv = wants_csv(request);
  if (!csv) return answer.fail(csv.error());
  answer_usage(api, answer, *query, *csv);
}

void get_project_usage(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto query = parse_query(request, api->backend.now());
  if (!query) return answer.fail(query.error());
  const auto csv = wants_csv(request);
  if (!csv) return answer.fail(csv.error());
  const std::string& project = request.param("name");
  if (!query->project.empty() && query->project != project)
    return answer.fail(bad_field("project", "the path names the project already", "leave it out"));
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  if (!plane->shares().projects.contains(project))
    return answer.fail(not_found("no project '" + project.substr(0, 128) + "'"));
  query->project = project;
  if (!request.query_param("group_by")) query->by = {UsageKey::user};
  answer_usage(api, answer, *query, *csv);
}

}  // namespace

void add_usage_routes(const Routes& routes) {
  routes.get("/v1/usage", "usage.get", Need::signed_in, get_usage);
  routes.get("/v1/projects/{name}/usage", "projects.usage", Need::signed_in, get_project_usage);
}

}  // namespace tutti::api
