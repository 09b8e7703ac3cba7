// GET /v1/queue: what waits, in order, page by page, with why; and all of it by reason. From memory.
#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <tuple>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"
#include "api/handlers/waiting_sums.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::int64_t kUsualPage = 200, kLargestPage = 1000;
constexpr std::size_t kSearched = 2000;  // of those that wait in order, for the jobs of who asks for some
constexpr std::size_t kExplained = 200;  // kinds of jobs that are explained for the sums
constexpr std::size_t kUnready = 200;    // of a page: jobs that are not ready and are explained in full

// ---------------------------------------------------------------- the question

struct Question {
  std::string queue, project, owner;
  std::optional<Visible> visible;
  std::size_t begin = 0, size = 0;

  std::size_t end() const { return begin + size; }
  bool of_all() const { return !visible && project.empty() && owner.empty(); }
  bool is_about(const Job& job) const {
    return is_pending(job.row.state) && (queue.empty() || job.row.queue == queue) &&
           (project.empty() || job.row.project == project) && (owner.empty() || job.row.owner == owner) &&
           is_visible(visible, job.row.project, job.row.owner);
  }
};

Result<Question> parse_question(const http::Request& request) {
  Question q;
  q.queue = request.query_param("queue").value_or("");
  q.project = request.query_param("project").value_or("");
  q.owner = request.query_param("user").value_or("");
  const auto size = int_param(request, "page_size", kUsualPage, 1, 1'000'000);
  if (!size) return size.error();
  q.size = static_cast<std::size_t>(std::min(*size, kLargestPage));
  if (const auto token = request.query_param("page_token"); token && !token->empty()) {
    const auto begin = parse_id(*token);
    if (!begin || *begin > 1'000'000'000)
      return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
    q.begin = static_cast<std::size_t>(*begin);
  }
  q.visible = visible_to(identity_of(request));
  return q;
}

// ---------------------------------------------------------------- why

/// What the nodes say is the same for all jobs of one shape and place, so it is asked once for each; only the
/// position differs, and that the page knows.
class Reasons {
 public:
  Reasons(const ControlPlane& plane, Now now, const std::optional<Visible>& visible)
      : plane_(plane), now_(now), visible_(visible) {}

  /// Of one that is ready, without its place in the order. nullptr: `most` kinds are known and this is none.
  const std::vector<Reason>* of_kind(const Job& job, std::size_t most) {
    const auto& what = plane_.planner().find_waiting(job.row.id)->what;
    const Kind kind{what.shape, what.kind.queue, what.project};
    const auto known = by_kind_.find(kind);
    if (known != by_kind_.end()) return &known->second;
    if (by_kind_.size() >= most) return nullptr;
    auto reasons = seen_by(visible_, plane_, plane_.explain(job.row.id, now_)).reasons;
    std::erase_if(reasons, [](const Reason& r) { return r.code == "behind" || r.code == "promised"; });
    return &by_kind_.emplace(kind, std::move(reasons)).first->second;
  }

 private:
  using Kind = std::tuple<int, int, int>;  // shape, queue, project: quotas are of these
  const ControlPlane& plane_;
  Now now_;
  const std::optional<Visible>& visible_;
  std::map<Kind, std::vector<Reason>> by_kind_;
};

// ---------------------------------------------------------------- the order

struct InQueue {
  const Job* job;
  std::optional<std::size_t> position = std::nullopt;  // of its queue; all that wait count
};

/// Pending jobs in the order in which they are looked at: ready ones as the planner does, delayed ones by
/// time, then the rest. Who sees or wants only some of them finds them among the first, and the rest by id.
struct Pending {
  std::vector<InQueue> ready;
  std::vector<const Job*> behind;  // ready too, not among the first
  std::vector<const Job*> others;
  std::size_t total = 0;
  std::map<std::string, WaitingSum> by_reason;
};

void look_at_first(const ControlPlane& plane, const Question& q, Pending& out, std::set<JobId>& searched) {
  std::map<std::string, std::size_t> next;
  for (const JobId id : plane.waiting_in_order(q.queue, q.of_all() ? q.end() : kSearched)) {
    const Job* job = plane.find_job(id);
    const auto position = next[job->row.queue]++;
    if (!q.of_all()) searched.insert(id);
    if (q.is_about(*job)) out.ready.push_back({job, position});
  }
}

Pending all_pending(const ControlPlane& plane, const Question& q, Reasons& reasons) {
  Pending out;
  std::set<JobId> searched;
  look_at_first(plane, q, out, searched);
  const bool further = searched.size() >= kSearched;
  for (const auto& [id, job] : plane.jobs()) {
    if (!q.is_about(job)) continue;
    ++out.total;
    std::string_view code;
    if (job.row.state == JobState::queued) {
      const auto* why = reasons.of_kind(job, kExplained);
      code = why == nullptr ? "other" : main_code(*why);
      if (further && !searched.contains(id)) out.behind.push_back(&job);
    } else {
      code = name(job.row.state);
      out.others.push_back(&job);
    }
    auto& sum = out.by_reason[std::string(code)];
    ++sum.jobs;
    sum.gpus += std::int64_t{job.row.nodes} * job.row.gpus_per_node;
  }
  return out;
}

template <class T>
std::span<T> part_of(std::vector<T>& all, std::size_t before, const Question& q) {
  const auto at = [&](std::size_t i) { return std::clamp(i, before, before + all.size()) - before; };
  return std::span(all).subspan(at(q.begin), at(q.end()) - at(q.begin));
}

std::vector<InQueue> page_of(Pending& all, const ControlPlane& plane, const Question& q) {
  std::vector<InQueue> page;
  const auto ready = part_of(all.ready, 0, q);
  page.assign(ready.begin(), ready.end());
  const auto first_behind = static_cast<std::ptrdiff_t>(page.size());
  for (const Job* job : part_of(all.behind, all.ready.size(), q))
    page.push_back({job, plane.planner().ahead_of(job->row.id)});
  std::sort(page.begin() + first_behind, page.end(), [](const InQueue& a, const InQueue& b) {
    return std::pair(a.position, a.job->row.id) < std::pair(b.position, b.job->row.id);
  });
  const auto before = [](const Job* a, const Job* b) {
    return std::tuple(a->row.state, a->row.not_before, a->row.id) <
           std::tuple(b->row.state, b->row.not_before, b->row.id);  // delayed, blocked, held
  };
  const auto ahead = all.ready.size() + all.behind.size();
  if (q.end() <= ahead) return page;
  const auto shown = static_cast<std::ptrdiff_t>(std::min(all.others.size(), q.end() - ahead));
  std::partial_sort(all.others.begin(), all.others.begin() + shown, all.others.end(), before);
  for (const Job* job : part_of(all.others, ahead, q)) page.push_back({job});
  return page;
}

// ---------------------------------------------------------------- the answer

class PageOfQueue {
 public:
  PageOfQueue(const ControlPlane& plane, Now now, Reasons& reasons)
      : plane_(plane), now_(now), reasons_(reasons) {}

  json::object view(const InQueue& entry) {
    const Job& job = *entry.job;
    json::value position = nullptr, best = nullptr;
    if (entry.position) {
      position = *entry.position;
      best = best_available(job);
    }
    const auto& kinds = job.spec->resources.gpu_kinds;
    return {{"id", job.row.id.value},
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
            {"reasons", reasons_view(reasons_of(entry))},
            {"not_before", instant_or_null(job.row.not_before)},
            {"eta", eta_view(plane_.eta(job.row.id, now_))}};
  }

 private:
  std::vector<Reason> reasons_of(const InQueue& entry) {
    const Job& job = *entry.job;
    if (!entry.position) {
      if (unready_++ < kUnready) return plane_.explain(job.row.id, now_).reasons;
      return {{std::string(name(job.row.state)), job.row.reason, 0, 0}};
    }
    auto reasons = *reasons_.of_kind(job, SIZE_MAX);
    if (const auto ahead = *entry.position; ahead > 0)
      reasons.push_back({"behind",
                         std::to_string(ahead) + " jobs of queue '" + job.row.queue + "' come before it", 0,
                         static_cast<std::int64_t>(ahead)});
    return reasons;
  }

  json::object best_available(const Job& job) {
    const auto& waiting = *plane_.planner().find_waiting(job.row.id);
    const auto& ask = plane_.planner().nodes().shape(waiting.what.shape).ask;
    const auto [known, fresh] =
        available_.try_emplace(std::pair(waiting.what.shape, waiting.what.project), 0);
    if (fresh) {
      const auto count = planner::count_nodes(plane_.planner(), waiting, now_.wall);
      const bool near = ask.topology.require != TopologyLevel::any && ask.nodes > 1;
      known->second = std::min(ask.nodes, near ? count.now_near : count.of(planner::NodeBlocker::none));
    }
    return {{"nodes", known->second}, {"gpus", known->second * ask.resources.gpus}};
  }

  const ControlPlane& plane_;
  Now now_;
  Reasons& reasons_;
  std::size_t unready_ = 0;
  std::map<std::pair<int, int>, int> available_;  // by shape and project
};

void get_queue(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto q = parse_question(request);
  if (!q) return answer.fail(q.error());
  const Now now = api->backend.now();
  Reasons reasons(*plane, now, q->visible);
  auto pending = all_pending(*plane, *q, reasons);
  PageOfQueue page(*plane, now, reasons);
  json::array jobs;
  for (const auto& entry : page_of(pending, *plane, *q)) jobs.push_back(page.view(entry));
  answer.json(200, json::object{{"jobs", std::move(jobs)},
                                {"total", pending.total},
                                {"next_page_token", q->end() < pending.total ? std::to_string(q->end()) : ""},
                                {"by_reason", sums_view(pending.by_reason)}});
}

}  // namespace

void add_queue_routes(const Routes& routes) {
  routes.get("/v1/queue", "queue.get", Need::signed_in, get_queue);
}

}  // namespace tutti::api
