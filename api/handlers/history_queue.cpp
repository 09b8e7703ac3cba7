// GET /v1/history/queue: what waited at a time, page by page, with why as far as it was recorded; and all of
// it by reason.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <tuple>

#include "api/handlers/history.h"
#include "api/handlers/queue_question.h"
#include "api/handlers/view.h"
#include "api/handlers/waiting_sums.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

struct Question : QueueQuestion {
  Instant at;
};

Result<Question> parse_question(const http::Request& request, Now now) {
  if (auto error = other_param(request, {"at", "queue", "project", "user", "page_size", "page_token"}))
    return *std::move(error);
  const auto at = at_param(request, now);
  if (!at) return at.error();
  auto q = parse_queue_question(request);
  if (!q) return q.error();
  return Question{*std::move(q), *at};
}

// What was recorded: a body that cannot be read is none.
struct Recorded {
  std::vector<Reason> reasons;
  json::value position = nullptr;
};

std::optional<Recorded> read_recorded(const std::string& body) {
  boost::system::error_code code;
  const auto value = body.empty() ? json::value() : json::parse(body, code);
  const auto* object = code ? nullptr : value.if_object();
  const auto* list = object == nullptr ? nullptr : object->if_contains("reasons");
  if (list == nullptr || !list->is_array()) return std::nullopt;
  Recorded out;
  for (const auto& each : list->get_array()) {
    const auto* r = each.if_object();
    const auto* word = r == nullptr ? nullptr : r->if_contains("code");
    if (word == nullptr || !word->is_string()) continue;
    const auto number = [&](const char* field) {
      const auto* n = r->if_contains(field);
      return n != nullptr && n->is_int64() ? n->get_int64() : 0;
    };
    const auto* text = r->if_contains("text");
    out.reasons.push_back({std::string(word->get_string()),
                           text != nullptr && text->is_string() ? std::string(text->get_string()) : "",
                           number("need"), number("have")});
  }
  if (const auto* position = object->if_contains("position"); position != nullptr && position->is_int64())
    out.position = *position;
  return out;
}

json::object job_view(const PastWaiting& job, const std::optional<Recorded>& recorded) {
  std::vector<Reason> reasons;
  if (recorded)
    reasons = recorded->reasons;
  else if (job.row.state != JobState::queued)
    reasons.push_back({std::string(name(job.row.state)), "it was " + std::string(name(job.row.state))});
  // Where it was put behind others since, only that it waited is known.
  const Instant queued_at = job.row.queued_at > job.since ? job.since : job.row.queued_at;
  return {{"id", job.row.id.value},
          {"name", job.name},
          {"project", job.row.project},
          {"queue", job.row.queue},
          {"owner", job.row.owner},
          {"state", name(job.row.state)},
          {"priority", job.row.priority},
          {"nodes", job.row.nodes},
          {"gpus_per_node", job.row.gpus_per_node},
          {"queued_at", instant_or_null(queued_at)},
          {"since", wire::format_instant(job.since)},
          {"attempt", job.row.attempt},
          {"best_available", nullptr},
          {"position", recorded ? recorded->position : json::value(nullptr)},
          {"reasons", reasons_view(reasons)},
          {"not_before", nullptr},
          {"eta", nullptr}};
}

/// Made where the rows were read: there may be thousands of records.
json::object queue_view(PastQueue queue, const Question& q) {
  std::erase_if(queue.jobs, [&](const PastWaiting& job) {
    return !q.asks_for(job.row.queue, job.row.project, job.row.owner);
  });
  std::ranges::sort(queue.jobs, {}, [](const PastWaiting& job) {
    return std::tuple(job.row.state, -job.row.priority, job.row.queued_at, job.row.id);
  });
  std::map<std::string, WaitingSum> sums;
  json::array jobs;
  for (std::size_t i = 0; i < queue.jobs.size(); ++i) {
    const PastWaiting& job = queue.jobs[i];
    const auto recorded = read_recorded(job.reasons_body);
    const auto code = job.row.state != JobState::queued ? name(job.row.state)
                      : recorded                        ? main_code(recorded->reasons)
                                                        : std::string_view("not_recorded");
    auto& sum = sums[std::string(code)];
    ++sum.jobs;
    sum.gpus += std::int64_t{job.row.nodes} * job.row.gpus_per_node;
    if (i >= q.begin && i - q.begin < q.size) jobs.push_back(job_view(job, recorded));
  }
  return {{"at", wire::format_instant(q.at)},
          {"jobs", std::move(jobs)},
          {"total", queue.jobs.size()},
          {"cut", queue.cut},
          {"next_page_token", q.end() < queue.jobs.size() ? std::to_string(q.end()) : ""},
          {"by_reason", sums_view(sums)}};
}

void get_queue_then(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto q = parse_question(request, api->backend.now());
  if (!q) return answer.fail(q.error());
  read_history(
      api, answer,
      [q = *q](HistoryStore& store) { return queue_view(store.queue(q.at, q.visible, kMostPastJobs), q); },
      [answer](const json::object& view) { answer.json(200, view); });
}

}  // namespace

void add_history_queue_route(const Routes& routes) {
  routes.get("/v1/history/queue", "history.queue", Need::signed_in, get_queue_then);
}

}  // namespace tutti::api
