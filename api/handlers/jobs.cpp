// GET /v1/jobs, GET /v1/jobs:count, GET /v1/jobs/{id}, GET /v1/jobs/{id}/explain: jobs as they are.
#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"
#include "api/handlers/waiting_history.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::int64_t kDefaultPage = 100;
constexpr std::int64_t kLargestPage =
    kMaxPage / 2;  // one row more is read, to know whether there is a next page

// ---------------------------------------------------------------- list

struct ListQuery {
  JobFilter filter;
  int page_size = kDefaultPage;
  JobId after;
};

Result<std::vector<Cause>> parse_causes(std::string_view text) {
  std::vector<Cause> causes;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const auto cause = parse_cause(word);
    if (!cause)
      return bad_field("cause", "unknown cause '" + std::string(word.substr(0, 100)) + "'",
                       "like gpu, or user,oom");
    causes.push_back(*cause);
  }
  return causes;
}

/// `counting`: all of them in groups, and no page.
Result<ListQuery> parse_list_query(const http::Request& request, Now now, bool counting) {
  ListQuery out;
  for (const auto& [key, value] : request.query_params()) {
    if (key == "state") {
      auto states = parse_states(value);
      if (!states) return states.error();
      out.filter.states.insert(out.filter.states.end(), states->begin(), states->end());
    } else if (key == "project") {
      out.filter.project = value;
    } else if (key == "queue") {
      out.filter.queue = value;
    } else if (key == "user") {
      out.filter.owner = value;
    } else if (key == "name") {
      out.filter.name = value;
    } else if (key == "since" || key == "until") {
      if (value.empty()) continue;
      auto& bound = key == "since" ? out.filter.since : out.filter.until;
      bound = parse_since(value, now);
      if (!bound)
        return bad_field(key, "not a time: '" + value.substr(0, 100) + "'",
                         "like 2026-10-01T02:00:00Z, or 7d for so long ago");
    } else if (key == "array") {
      const auto id = parse_id(value);
      if (!id) return bad_field("array", "not an id: '" + value + "'", "that of the array's first task");
      out.filter.first = JobId(*id);
    } else if (key == "cause") {
      auto causes = parse_causes(value);
      if (!causes) return causes.error();
      out.filter.causes.insert(out.filter.causes.end(), causes->begin(), causes->end());
    } else if (key == "q") {
      out.filter.name_part = value;
    } else if (counting && key == "group_by") {
      continue;
    } else if (!counting && key == "page_token") {
      if (value.empty()) continue;
      const auto id = parse_id(value);
      if (!id)
        return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
      out.after = JobId(*id);
    } else if (counting || key != "page_size") {
      return bad_field(key, "unknown parameter",
                       std::string("state, project, queue, user, name, q, cause, since, until, array, ") +
                           (counting ? "or group_by" : "page_size or page_token"));
    }
  }
  const auto size = int_param(request, "page_size", kDefaultPage, 1, 1'000'000);
  if (!size) return size.error();
  out.page_size = static_cast<int>(std::min(*size, kLargestPage));
  return out;
}

json::object list_view(std::vector<JobView> rows, int page_size, const ControlPlane* plane) {
  std::string next;
  if (rows.size() > static_cast<std::size_t>(page_size)) {
    rows.resize(static_cast<std::size_t>(page_size));
    next = to_string(rows.back().row.id);
  }
  json::array jobs;
  jobs.reserve(rows.size());
  for (const auto& view : rows) {
    std::optional<Ending> ending;
    if (view.ended_at) ending = Ending{*view.ended_at, view.exit_code};
    auto job = job_view(view.row, view.name, ending);
    // Rows of a list carry no spec: labels, progress and allocation are known of live jobs only.
    if (const Job* live = plane == nullptr ? nullptr : plane->find_job(view.row.id))
      add_live_parts(job, *plane, *live);
    jobs.push_back(std::move(job));
  }
  return {{"jobs", std::move(jobs)}, {"next_page_token", next}};
}

/// `first` alone means the array that it is of.
JobFilter whole_array(JobFilter filter, Reader& reader) {
  if (!filter.first) return filter;
  const ArraySpan array = array_of(reader, filter.first);
  filter.first = array.first;
  filter.last = JobId(array.first.value + array.tasks - 1);
  return filter;
}

void list_jobs(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto query = parse_list_query(request, api->backend.now(), false);
  if (!query) return answer.fail(query.error());
  query->filter.visible = visible_to(identity_of(request));
  const int size = query->page_size;
  read_rows(
      api, answer,
      [q = std::move(*query)](Reader& reader) {
        return reader.list_jobs(whole_array(q.filter, reader), q.page_size + 1, q.after);
      },
      [api, answer, size](std::vector<JobView> rows) {
        answer.json(200, list_view(std::move(rows), size, api->backend.plane()));
      });
}

constexpr int kMostGroups = 1000;
constexpr auto kJobKeys = std::to_array<std::pair<std::string_view, JobKey>>({{"state", JobKey::state},
                                                                              {"project", JobKey::project},
                                                                              {"queue", JobKey::queue},
                                                                              {"user", JobKey::user},
                                                                              {"cause", JobKey::cause},
                                                                              {"name", JobKey::name}});

void count_jobs(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto query = parse_list_query(request, api->backend.now(), true);
  if (!query) return answer.fail(query.error());
  query->filter.visible = visible_to(identity_of(request));
  const auto by = request.query_param("group_by").value_or("state");
  const auto* key = std::ranges::find(kJobKeys, by, &std::pair<std::string_view, JobKey>::first);
  if (key == kJobKeys.end())
    return answer.fail(bad_field("group_by", "cannot group by '" + by.substr(0, 100) + "'",
                                 "state, project, queue, user, cause or name"));
  read_rows(
      api, answer,
      [filter = std::move(query->filter), by = key->second](Reader& reader) {
        return reader.count_jobs(whole_array(filter, reader), by, kMostGroups + 1);
      },
      [answer](std::vector<JobGroup> rows) {
        const bool cut = rows.size() > kMostGroups;
        if (cut) rows.resize(kMostGroups);
        json::array groups;
        for (const auto& row : rows)
          groups.push_back(json::object{{"key", row.key}, {"jobs", row.jobs}, {"gpus", row.gpus}});
        answer.json(200, json::object{{"groups", std::move(groups)}, {"cut", cut}});
      });
}

void get_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with_job(api, answer, job_of(request));
}

// ---------------------------------------------------------------- why not yet

/// What its history says of the job at that time.
struct StateThen {
  std::optional<JobState> state;  // nothing: it was not there yet
  Instant since;
  std::string detail;
};

std::optional<StateThen> state_then(Reader& reader, JobId id, Instant at) {
  const auto event = reader.last_state(id, at);
  if (!event) return reader.find_job(id) ? std::optional(StateThen{}) : std::nullopt;
  return StateThen{parse_job_state(event->to), event->at, event->detail};
}

/// A job that is not in the queue waits for what its state says.
Explanation explained_by_state(JobId id, const StateThen& then) {
  Explanation why;
  why.job = id;
  why.state = *then.state;
  if (is_pending(*then.state) && *then.state != JobState::queued)
    why.reasons.push_back({std::string(name(*then.state)),
                           then.detail.empty() ? "it was " + std::string(name(*then.state)) : then.detail});
  return why;
}

void answer_then(const Answer& answer, json::object body, Instant at, std::optional<Instant> recorded) {
  body["eta"] = nullptr;
  body["at"] = wire::format_instant(at);
  body["recorded_at"] = recorded ? json::value(wire::format_instant(*recorded)) : json::value(nullptr);
  answer.json(200, body);
}

void explain_then(const ApiPtr& api, const Answer& answer, JobId id, Instant at) {
  read_rows(
      api, answer, [id, at](Reader& reader) { return state_then(reader, id, at); },
      [api, answer, id, at](const std::optional<StateThen>& then) {
        if (!then) return answer.fail(no_such_job(id));
        if (!then->state)
          return answer.fail(bad_field("at", "job " + to_string(id) + " was not submitted yet",
                                       "tutti events " + to_string(id) + " shows when it was"));
        json::object by_state = explanation_view(explained_by_state(id, *then));
        if (*then->state != JobState::queued || api->services.waiting == nullptr)
          return answer_then(answer, std::move(by_state), at, std::nullopt);
        api->services.waiting->find(id, at,
                                    [answer, at, since = then->since,
                                     by_state](const Result<std::optional<WaitingReasonRow>>& found) {
                                      if (!found) return answer.fail(found.error());
                                      // What was recorded before it came into the queue is of another wait.
                                      if (!*found || (*found)->at < since)
                                        return answer_then(answer, by_state, at, std::nullopt);
                                      auto recorded = json::parse((*found)->body).as_object();
                                      recorded["state"] = by_state.at("state");
                                      answer_then(answer, std::move(recorded), at, (*found)->at);
                                    });
      });
}

void explain_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  const JobId id = job_of(request);
  if (const auto text = request.query_param("at")) {
    const auto at = wire::parse_instant(*text);
    if (!at)
      return answer.fail(bad_field("at", "not an instant: '" + *text + "'", "like 2026-10-01T02:00:00Z"));
    if (*at > api->backend.now().wall)
      return answer.fail(
          bad_field("at", "this is in the future", "GET without at: its ETA says when it will start"));
    return explain_then(api, answer, id, *at);
  }
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  if (plane->find_job(id) != nullptr) {
    const Now now = api->backend.now();
    const auto visible = visible_to(identity_of(request));
    json::object body = explanation_view(seen_by(visible, *plane, plane->explain(id, now, true)));
    body["eta"] = eta_view(plane->eta(id, now, true));
    return answer.json(200, body);
  }
  read_rows(
      api, answer, [id](Reader& reader) { return reader.find_job(id); },
      [answer, id](std::optional<JobView> view) {
        if (!view) return answer.fail(no_such_job(id));
        Explanation over;
        over.job = id;
        over.state = view->row.state;
        json::object body = explanation_view(over);
        body["eta"] = nullptr;
        answer.json(200, body);
      });
}

}  // namespace

void add_job_routes(const Routes& routes) {
  routes.get("/v1/jobs", "jobs.list", Need::signed_in, list_jobs);
  routes.get("/v1/jobs:count", "jobs.count", Need::signed_in, count_jobs);
  routes.get("/v1/jobs/{id}", "jobs.get", Need::job_read, get_job);
  routes.get("/v1/jobs/{id}/explain", "jobs.explain", Need::job_read, explain_job);
}

}  // namespace tutti::api
