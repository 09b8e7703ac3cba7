#include "api/handlers/queue_kept.h"

#include <algorithm>
#include <string_view>

namespace tutti::api {
namespace {

constexpr std::size_t kKinds = 200;  // of jobs, that are explained for the sums

// A hundred thousand jobs take a tenth of a second.
Duration lasts_with(std::size_t jobs) {
  constexpr std::size_t kAlwaysNew = 5'000, kASecond = 20'000;
  if (jobs <= kAlwaysNew) return Duration::zero();
  return std::chrono::seconds(std::max<std::size_t>(1, jobs / kASecond));
}

}  // namespace

void QueueKept::look(const ControlPlane& plane, std::int64_t term, Now now) {
  const bool same = at_ && plane_ == &plane && term_ == term;
  if (same && now.mono - *at_ < lasts_) return;
  at_.reset();  // half of it is of no use, if there is no memory for the rest
  plane_ = &plane;
  term_ = term;
  lasts_ = lasts_with(plane.jobs().size());
  groups_.clear();
  group_by_.clear();
  kinds_.clear();
  codes_.clear();
  look_at_ready(plane, now);
  look_at_others(plane);
  at_ = now.mono;
}

void QueueKept::look_at_ready(const ControlPlane& plane, Now now) {
  ready_.clear();
  std::map<std::string_view, std::uint32_t> next;  // by queue
  for (const JobId id : plane.waiting_in_order("", SIZE_MAX)) {
    const Job& job = *plane.find_job(id);
    const Kind* kind = kind_of(plane, *plane.planner().find_waiting(id), now, kKinds);
    Entry entry{.id = id, .group = 0, .position = next[job.row.queue]++};
    count(job, kind == nullptr ? "other" : main_code(kind->reasons), entry);
    ready_.push_back(entry);
  }
}

void QueueKept::look_at_others(const ControlPlane& plane) {
  others_.clear();
  std::vector<const Job*> others;
  for (const auto& [id, job] : plane.jobs())
    if (is_pending(job.row.state) && job.row.state != JobState::queued) others.push_back(&job);
  std::ranges::sort(others, {}, [](const Job* job) {
    return std::tuple(job->row.state, job->row.not_before, job->row.id);  // delayed, blocked, held
  });
  for (const Job* job : others) {
    Entry entry{.id = job->row.id};
    count(*job, name(job->row.state), entry);
    others_.push_back(entry);
  }
}

std::optional<std::uint32_t> QueueKept::number_of(std::string_view code) const {
  const auto known = std::ranges::find(codes_, code);
  if (known == codes_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(known - codes_.begin());
}

std::uint32_t QueueKept::group_of(const Job& job) {
  const auto key = std::tie(job.row.queue, job.row.project, job.row.owner);
  const auto known = group_by_.find(key);
  if (known != group_by_.end()) return known->second;
  const auto number = static_cast<std::uint32_t>(groups_.size());
  group_by_.emplace(key, number);
  groups_.push_back({.queue = job.row.queue,
                     .project = job.row.project,
                     .owner = job.row.owner,
                     .jobs = 0,
                     .by_reason = {}});
  return number;
}

void QueueKept::count(const Job& job, std::string_view code, Entry& entry) {
  entry.group = group_of(job);
  if (const auto known = number_of(code)) {
    entry.reason = *known;
  } else {
    entry.reason = static_cast<std::uint32_t>(codes_.size());
    codes_.emplace_back(code);
  }
  Group& group = groups_[entry.group];
  ++group.jobs;
  auto& sum = group.by_reason[std::string(code)];
  ++sum.jobs;
  sum.gpus += std::int64_t{job.row.nodes} * job.row.gpus_per_node;
}

const QueueKept::Kind* QueueKept::kind_of(const ControlPlane& plane, const planner::Waiting& waiting, Now now,
                                          std::size_t most) {
  const auto& what = waiting.what;
  const std::tuple key{what.shape, what.kind.queue, what.project};
  const auto known = kinds_.find(key);
  if (known != kinds_.end()) return &known->second;
  if (kinds_.size() >= most) return nullptr;
  const auto& ask = plane.planner().nodes().shape(what.shape).ask;
  const auto nodes = planner::count_nodes(plane.planner(), waiting, now.wall);
  const bool near = ask.topology.require != TopologyLevel::any && ask.nodes > 1;
  const int free = near ? nodes.now_near : nodes.of(planner::NodeBlocker::none);
  return &kinds_.emplace(key, Kind{plane.explain_kind(waiting, now), std::min(ask.nodes, free)})
              .first->second;
}

}  // namespace tutti::api
