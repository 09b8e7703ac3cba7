// GET /v1/jobs, GET /v1/jobs/{id}, GET /v1/jobs/{id}/explain, GET /v1/queue: jobs as they are.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <map>
#include <set>

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
constexpr std::size_t kMaxQueue = 200;

// ---------------------------------------------------------------- list

struct ListQuery {
  JobFilter filter;
  int page_size = kDefaultPage;
  JobId after;
};

Result<ListQuery> parse_list_query(const http::Request& request, Now now) {
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
    } else if (key == "since") {
      if (value.empty()) continue;
      out.filter.since = parse_since(value, now);
      if (!out.filter.since)
        return bad_field("since", "not a time: '" + value + "'",
                         "like 2026-10-01T02:00:00Z, or 7d for so long ago");
    } else if (key == "array") {
      const auto id = parse_id(value);
      if (!id) return bad_field("array", "not an id: '" + value + "'", "that of the array's first task");
      out.filter.first = JobId(*id);
    } else if (key == "page_token") {
      if (value.empty()) continue;
      const auto id = parse_id(value);
      if (!id)
        return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
      out.after = JobId(*id);
    } else if (key != "page_size") {
      return bad_field(key, "unknown parameter",
                       "state, project, queue, user, name, since, array, page_size or page_token");
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
  auto query = parse_list_query(request, api->backend.now());
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

// ---------------------------------------------------------------- the queue

constexpr std::size_t kSearched = 2000;  // of those that wait, for the jobs of who does not see all

struct InQueue {
  const Job* job;
  std::optional<std::size_t> position = std::nullopt;  // of its queue; all that wait count
};

/// Ready jobs in the order of the planner. Who sees only some of them finds them among the first, and the
/// rest by their own positions.
std::vector<InQueue> ready_in_order(const ControlPlane& plane, const std::string& queue,
                                    const std::optional<Visible>& visible) {
  std::vector<InQueue> out;
  std::map<std::string, std::size_t> next;
  std::set<JobId> searched;
  for (const JobId id : plane.waiting_in_order(queue, visible ? kSearched : kMaxQueue)) {
    const Job* job = plane.find_job(id);
    const auto position = next[job->row.queue]++;
    searched.insert(id);
    if (out.size() < kMaxQueue && is_visible(visible, job->row.project, job->row.owner))
      out.push_back({job, position});
  }
  if (searched.size() < kSearched) return out;  // these were all, or all are shown
  std::vector<InQueue> behind;
  for (const auto& [id, job] : plane.jobs()) {
    if (out.size() + behind.size() >= kMaxQueue) break;
    if (job.row.state == JobState::queued && !searched.contains(id) &&
        (queue.empty() || job.row.queue == queue) && is_visible(visible, job.row.project, job.row.owner))
      behind.push_back({&job, plane.planner().ahead_of(id)});
  }
  std::ranges::sort(behind, {}, [](const InQueue& e) { return std::pair(e.position, e.job->row.id); });
  out.insert(out.end(), behind.begin(), behind.end());
  return out;
}

/// Pending jobs in the order in which they are looked at: ready ones as the planner does, delayed ones by
/// time, then the rest.
std::vector<InQueue> pending_in_order(const ControlPlane& plane, const std::string& queue,
                                      const std::optional<Visible>& visible) {
  std::vector<InQueue> ready = ready_in_order(plane, queue, visible);
  std::vector<const Job*> others;
  for (const auto& [id, job] : plane.jobs())
    if (is_pending(job.row.state) && job.row.state != JobState::queued &&
        (queue.empty() || job.row.queue == queue) && is_visible(visible, job.row.project, job.row.owner))
      others.push_back(&job);
  const auto before = [](const Job* a, const Job* b) {
    return std::tuple(a->row.state, a->row.not_before, a->row.id) <
           std::tuple(b->row.state, b->row.not_before, b->row.id);  // delayed, blocked, held
  };
  const auto shown = std::min(others.size(), kMaxQueue - ready.size());
  std::partial_sort(others.begin(), others.begin() + static_cast<std::ptrdiff_t>(shown), others.end(),
                    before);
  for (std::size_t i = 0; i < shown; ++i) ready.push_back({others[i]});
  return ready;
}

/// Explanations of the jobs of one page. What the nodes say is the same for all jobs of one shape, so it is
/// asked once per shape; only the position differs, and that the page knows.
class PageOfQueue {
 public:
  PageOfQueue(const ControlPlane& plane, Now now, const std::optional<Visible>& visible)
      : plane_(plane), now_(now), visible_(visible) {}

  json::object view(const InQueue& entry) {
    const Job& job = *entry.job;
    json::value position = nullptr;
    std::vector<Reason> reasons;
    if (entry.position) {
      const auto ahead = *entry.position;
      position = ahead;
      reasons = of_shape(job);
      if (ahead > 0)
        reasons.push_back({"behind",
                           std::to_string(ahead) + " jobs of queue '" + job.row.queue + "' come before it", 0,
                           static_cast<std::int64_t>(ahead)});
    } else {
      reasons = plane_.explain(job.row.id, now_).reasons;
    }
    return {{"id", job.row.id.value},
            {"name", job.spec->name},
            {"queue", job.row.queue},
            {"state", name(job.row.state)},
            {"priority", job.row.priority},
            {"position", std::move(position)},
            {"reasons", reasons_view(reasons)},
            {"not_before", instant_or_null(job.row.not_before)},
            {"eta", eta_view(plane_.eta(job.row.id, now_))}};
  }

 private:
  std::vector<Reason> of_shape(const Job& job) {
    auto& known = by_shape_[plane_.planner().find_waiting(job.row.id)->what.shape];
    if (!known) {
      known = seen_by(visible_, plane_, plane_.explain(job.row.id, now_)).reasons;
      std::erase_if(*known, [](const Reason& r) { return r.code == "behind" || r.code == "promised"; });
    }
    return *known;
  }

  const ControlPlane& plane_;
  Now now_;
  const std::optional<Visible>& visible_;
  std::map<int, std::optional<std::vector<Reason>>> by_shape_;
};

void get_queue(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto visible = visible_to(identity_of(request));
  PageOfQueue page(*plane, api->backend.now(), visible);
  json::array jobs;
  for (const auto& entry : pending_in_order(*plane, request.query_param("queue").value_or(""), visible))
    jobs.push_back(page.view(entry));
  answer.json(200, json::object{{"jobs", std::move(jobs)}});
}

}  // namespace

void add_job_routes(const Routes& routes) {
  routes.get("/v1/jobs", "jobs.list", Need::signed_in, list_jobs);
  routes.get("/v1/jobs/{id}", "jobs.get", Need::job_read, get_job);
  routes.get("/v1/jobs/{id}/explain", "jobs.explain", Need::job_read, explain_job);
  routes.get("/v1/queue", "queue.get", Need::signed_in, get_queue);
}

}  // namespace tutti::api
