// GET /v1/queue: what waits, in order, page by page, with why; and all of it by reason. From memory: of many
// jobs as of some seconds ago (queue_kept.h).
#include "api/handlers/answer.h"
#include "api/handlers/queue_kept.h"
#include "api/handlers/queue_question.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kMoreKinds = 200;  // of jobs, that are explained for a page beside those of the sums
constexpr std::size_t kUnready = 20;     // of a page: jobs that are not ready and are explained in full

// ---------------------------------------------------------------- the order

struct Page {
  std::vector<QueueKept::Entry> jobs;
  std::size_t total = 0;
  std::map<std::string, WaitingSum> by_reason;
};

bool is_about(const QueueQuestion& q, const QueueKept::Group& of) {
  return q.asks_for(of.queue, of.project, of.owner) && is_visible(q.visible, of.project, of.owner);
}

// The sums are of all reasons, also where the page is of one.
Page page_of(const QueueKept& queue, const QueueQuestion& q) {
  Page page;
  const auto reason = queue.number_of(q.reason);
  std::vector<char> asked;  // by group
  for (const auto& group : queue.groups()) {
    asked.push_back(is_about(q, group) ? 1 : 0);
    if (asked.back() == 0) continue;
    for (const auto& [code, sum] : group.by_reason) {
      if (q.reason.empty() || code == q.reason) page.total += sum.jobs;
      page.by_reason[code].jobs += sum.jobs;
      page.by_reason[code].gpus += sum.gpus;
    }
  }
  if (!q.reason.empty() && !reason) return page;
  std::size_t at = 0;
  for (const auto* list : {&queue.ready(), &queue.others()})
    for (const auto& entry : *list) {
      if (asked[entry.group] == 0 || (reason && entry.reason != *reason)) continue;
      if (at == q.end()) return page;
      if (at++ >= q.begin) page.jobs.push_back(entry);
    }
  return page;
}

// ---------------------------------------------------------------- the answer

class PageOfQueue {
 public:
  PageOfQueue(QueueKept& queue, const ControlPlane& plane, Now now, const std::optional<Visible>& visible)
      : queue_(queue), plane_(plane), now_(now), visible_(visible), most_(queue.kinds() + kMoreKinds) {}

  /// Nothing: it does not wait any more.
  std::optional<json::object> view(const QueueKept::Entry& entry) {
    const Job* found = plane_.find_job(entry.id);
    if (found == nullptr || !is_pending(found->row.state)) return std::nullopt;
    const Job& job = *found;
    const auto waiting = plane_.planner().find_waiting(entry.id);
    json::value position = nullptr, best = nullptr;
    std::vector<Reason> reasons;
    if (waiting) {
      position = entry.position;
      const auto* kind = queue_.kind_of(plane_, *waiting, now_, most_);
      if (kind != nullptr) {
        const auto gpus = plane_.planner().nodes().shape(waiting->what.shape).ask.resources.gpus;
        best = json::object{{"nodes", kind->available}, {"gpus", kind->available * gpus}};
      }
      reasons = reasons_of(job, kind, entry.position);
    } else {
      reasons = reasons_of_unready(job);
    }
    const auto& kinds = job.spec->resources.gpu_kinds;
    return json::object{
        {"id", job.row.id.value},
        {"name", job.spec->name},
        {"project", job.row.project},
        {"queue", job.row.queue},
        {"owner", job.row.owner},
        {"state", name(job.row.state)},
        {"priority", job.row.priority},
        {"nodes", job.row.nodes},
        {"gpus_per_node", job.row.gpus_per_node},
        {"gpu_model", kinds.empty() ? std::string_view() : std::string_view(kinds.front().model)},
        {"queued_at", instant_or_null(job.row.queued_at)},
        {"attempt", job.row.attempt},
        {"best_available", std::move(best)},
        {"position", std::move(position)},
        {"reasons", reasons_view(reasons)},
        {"not_before", instant_or_null(job.row.not_before)},
        {"eta", eta_view(plane_.eta(job.row.id, now_))}};
  }

 private:
  std::vector<Reason> reasons_of(const Job& job, const QueueKept::Kind* kind, std::size_t ahead) const {
    Explanation why;
    if (kind != nullptr) why.reasons = kind->reasons;
    auto reasons = seen_by(visible_, plane_, std::move(why)).reasons;
    if (kind == nullptr) reasons.push_back({"other", "not looked at one by one", 0, 0});
    if (ahead > 0)
      reasons.push_back({"behind",
                         std::to_string(ahead) + " jobs of queue '" + job.row.queue + "' come before it", 0,
                         static_cast<std::int64_t>(ahead)});
    return reasons;
  }

  std::vector<Reason> reasons_of_unready(const Job& job) {
    if (unready_++ < kUnready) return plane_.explain(job.row.id, now_).reasons;
    return {{std::string(name(job.row.state)), job.row.reason, 0, 0}};
  }

  QueueKept& queue_;
  const ControlPlane& plane_;
  Now now_;
  const std::optional<Visible>& visible_;
  std::size_t most_;
  std::size_t unready_ = 0;
};

void get_queue(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto q = parse_queue_question(request);
  if (!q) return answer.fail(q.error());
  const Now now = api->backend.now();
  if (!api->queue) api->queue = std::make_shared<QueueKept>();
  api->queue->look(*plane, api->backend.status().term, now);
  auto page = page_of(*api->queue, *q);
  PageOfQueue views(*api->queue, *plane, now, q->visible);
  json::array jobs;
  for (const auto& entry : page.jobs)
    if (auto view = views.view(entry)) jobs.push_back(*std::move(view));
  answer.json(200, json::object{{"jobs", std::move(jobs)},
                                {"total", page.total},
                                {"next_page_token", q->end() < page.total ? std::to_string(q->end()) : ""},
                                {"by_reason", sums_view(page.by_reason)}});
}

}  // namespace

void add_queue_routes(const Routes& routes) {
  routes.get("/v1/queue", "queue.get", Need::signed_in, get_queue);
}

}  // namespace tutti::api
