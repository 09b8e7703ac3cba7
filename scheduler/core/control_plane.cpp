// Control plane: built from rows, and what must always be true of it.
#include "scheduler/core/control_plane.h"

#include <algorithm>

namespace tutti {

ControlPlane::ControlPlane(ControlSettings settings, const Snapshot& snapshot, SpecText spec_text,
                           LeaseTable& leases, Now now)
    : settings_(std::move(settings)),
      specs_(std::move(spec_text)),
      leases_(leases),
      planner_(settings_.policy) {
  last_job_ = snapshot.last_job;
  last_node_ = snapshot.last_node;
  last_gpu_ = snapshot.last_gpu;
  last_event_ = snapshot.last_event;
  last_fault_ = snapshot.last_fault;
  for (const auto& row : snapshot.queues) shares_.queues[row.name] = row;
  for (const auto& row : snapshot.projects) shares_.projects[row.name] = row;
  for (const auto& row : snapshot.reservations) shares_.reservations[row.name] = row;
  keys_.reserve(snapshot.keys.size());
  for (const auto& k : snapshot.keys) keys_.add(k.owner, k.key, {k.body_hash, k.job});
  restore_cluster(snapshot, now);
  see_shares();
  for (const auto& p : snapshot.past)
    planner_.remember({user_names_.of(p.owner), queue_names_.of(p.queue), p.gpus},
                      project_names_.of(p.project), p.ran, p.ended_at, p.finished);
  restore_jobs(snapshot, now);
  restore_attempts(snapshot, now);
  for (const auto& row : snapshot.blamed) ledger_.add(row, now.wall);
  requeue_tokens_ = settings_.requeue_burst;
  requeue_tokens_at_ = now.mono;
  weigh_lemons(now);
  for (const auto& [id, node] : cluster_.nodes) unseen_.insert(id);
  see_nodes();
  remember_past(snapshot.past_attempts);
  for (const auto& [key, attempt] : attempts_) adopt(jobs_.at(key.job), attempt);
  for (const auto& c : snapshot.checkpoints) {
    checkpoints_[c.job].put(c);
    if (c.retired_at != Instant{}) watch_retired(c, c.retired_at + settings_.delete_after);
  }
}

void ControlPlane::restore_cluster(const Snapshot& snapshot, Now now) {
  for (const auto& row : snapshot.nodes) {
    Node node;
    node.row = row;
    cluster_.node_by_name[row.name] = row.id;
    shares_.queues.emplace(row.queue, QueueRow{.name = row.queue, .nodes_of = ""});  // of nodes not back yet
    cluster_.nodes.emplace(row.id, std::move(node));
    // A former leader may have renewed it up to now. Leases that we ourselves hold in memory are kept as they
    // are.
    if (row.state != NodeState::dead && leases_.heard_at(row.id) == Mono{}) leases_.grant(row.id, now.mono);
  }
  for (const auto& row : snapshot.gpus) {
    Gpu gpu;
    gpu.row = row;
    cluster_.gpu_by_uuid[row.uuid] = row.id;
    cluster_.gpus.emplace(row.id, std::move(gpu));
    if (Node* node = cluster_.find(row.node)) {
      (row.present ? node->gpus : node->absent).push_back(row.id);
      know_group(*node, row);
    }
  }
  for (auto& [id, node] : cluster_.nodes)
    std::ranges::sort(node.gpus, {}, [&](GpuId g) { return cluster_.gpus.at(g).row.index; });
}

void ControlPlane::restore_jobs(const Snapshot& snapshot, Now now) {
  std::vector<SpecPtr> specs;
  specs.reserve(snapshot.specs.texts.size());
  for (const std::string& text : snapshot.specs.texts)
    specs.push_back(spec_pool_.shared(text, [&] { return specs_.parse(text); }));
  for (std::size_t i = 0; i < snapshot.jobs.size(); ++i) {
    const JobRow& row = snapshot.jobs[i];
    Job job;
    job.row = row;
    job.base_version = row.version;
    job.spec = specs.at(snapshot.specs.places.at(i));
    auto it = jobs_.emplace_hint(jobs_.end(), row.id, std::move(job));
    watch_time(it->second);
    if (may_run(row.state)) count_task(it->second, 1);
    const auto begin = it->second.spec->begin_time.value_or(row.queued_at);
    enter(it->second, now, row.ran == Duration::zero() ? std::max(row.queued_at, begin) : now.wall);
  }
}

void ControlPlane::restore_attempts(const Snapshot& snapshot, Now now) {
  for (const auto& row : snapshot.attempts) {
    Attempt attempt;
    attempt.row = row;
    const AttemptKey key{row.job, row.epoch};
    for (const auto& m : row.gang) {
      Node& node = cluster_.nodes.at(m.node);
      if (m.state != MemberState::ended) node.members.insert(key);
      for (GpuId id : m.gpus) cluster_.gpus.at(id).holder = key;
    }
    if (row.state == AttemptState::placed || row.state == AttemptState::preflight)
      attempt.deadline = now.mono + settings_.prepare_deadline;
    if (row.state == AttemptState::starting) attempt.deadline = now.mono + settings_.launch_deadline;
    if (row.state == AttemptState::running && run_limit(*jobs_.at(row.job).spec, jobs_.at(row.job).row.ran))
      attempt.deadline =
          now.mono +
          (row.running_at + *run_limit(*jobs_.at(row.job).spec, jobs_.at(row.job).row.ran) - now.wall);
    // One that the former leader was about to judge.
    if (std::ranges::all_of(row.gang, [](const auto& m) { return m.state == MemberState::ended; }))
      attempt.settle_at = now.mono;
    attempts_.emplace(key, std::move(attempt));
  }
}

// How the jobs failed before, and where they would rather not go.
void ControlPlane::remember_past(const std::vector<AttemptRow>& ended) {
  std::set<JobId> failed;
  for (const auto& row : ended) {
    const auto job = jobs_.find(row.job);
    if (job == jobs_.end() || row.result != AttemptResult::failed) continue;
    remember_failure(job->second, row);
    avoid_after(job->second, row, {});
    failed.insert(row.job);
  }
  for (const JobId id : failed) {
    Job& job = jobs_.at(id);
    if (job.row.state == JobState::queued) tell_avoided(job);
    // A recovery is under way only from the attempt before, and until it has caught up.
    const Attempt* live = find_live({id, job.row.epoch});
    const int before = live == nullptr ? job.row.attempt : job.row.attempt - 1;
    if (job.trouble().failures.back().attempt != before ||
        (live != nullptr && live->row.caught_up_at != Instant{}) ||
        (live != nullptr && live->row.running_at != Instant{} && job.trouble().fault_step < 0))
      job.note_trouble().fault_at = {};
  }
}

std::vector<JobId> ControlPlane::array_tasks(JobId task) const {
  std::vector<JobId> out;
  const Job* live = find_job(task);
  const JobId array = live == nullptr ? task : array_of(*live);
  if (!array) return out;
  for (auto job = jobs_.lower_bound(array); job != jobs_.end() && array_of(job->second) == array; ++job)
    out.push_back(job->first);
  return out;
}

const Job* ControlPlane::find_job(JobId id) const {
  auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : &it->second;
}

const Attempt* ControlPlane::find_attempt(AttemptKey key) const {
  auto it = attempts_.find(key);
  return it == attempts_.end() ? nullptr : &it->second;
}

bool ControlPlane::invariants_hold(std::string* why) const {
  auto broken = [&](std::string text) {
    if (why != nullptr) *why = std::move(text);
    return false;
  };
  if (!delayed_.invariants_hold()) return broken("a heap is out of order");
  std::size_t queued = 0, delayed = 0;
  for (const auto& [id, job] : jobs_) {
    if (is_terminal(job.row.state)) return broken("job " + to_string(id) + " is over but still in memory");
    if (job.row.state == JobState::queued) ++queued;
    if (job.row.state == JobState::delayed) ++delayed;
    if ((job.row.state == JobState::queued) != planner_.waits(id))
      return broken("job " + to_string(id) + ": state and planner disagree");
    const bool live = attempts_.contains({id, job.row.epoch});
    if (live != is_active(job.row.state))
      return broken("job " + to_string(id) + " is " + std::string(name(job.row.state)) +
                    ", live attempt: " + (live ? "yes" : "no"));
  }
  if (queued != planner_.waiting() || delayed != delayed_.size()) return broken("heap sizes");
  if (attempts_.size() != planner_.running().size()) return broken("planner and attempts disagree");
  std::map<GpuId, AttemptKey> holders;
  for (const auto& [key, attempt] : attempts_) {
    const Job* job = find_job(key.job);
    if (job == nullptr || job->row.epoch != key.epoch)
      return broken("two live epochs of job " + to_string(key.job));
    const auto nodes = static_cast<int>(attempt.row.gang.size());
    if (nodes > job->spec->nodes || nodes < job->spec->fewest_nodes()) return broken("a gang is not whole");
    for (const auto& m : attempt.row.gang) {
      if (static_cast<int>(m.gpus.size()) != job->spec->resources.gpus) return broken("a gang lacks GPUs");
      for (GpuId gpu : m.gpus)
        if (!holders.emplace(gpu, key).second) return broken("GPU " + to_string(gpu) + " has two owners");
    }
  }
  for (const auto& [id, gpu] : cluster_.gpus) {
    auto it = holders.find(id);
    const AttemptKey expected = it == holders.end() ? AttemptKey{} : it->second;
    if (gpu.holder != expected) return broken("GPU " + to_string(id) + ": holder and allocation disagree");
  }
  return true;
}

}  // namespace tutti
