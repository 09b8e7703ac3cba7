#include "tests/sim/oracle.h"

#include <algorithm>

#include "api/wire/job_spec_codec.h"
#include "db/rules.h"

namespace tutti::sim {

bool Oracle::steps(AttemptKey key) const {
  const auto job = stepping_.find(key.job);
  if (job == stepping_.end()) return false;
  const auto n = job->second.find(key.epoch);
  return n != job->second.end() && n->second > 0;
}

void Oracle::rank_started(AttemptKey key, std::size_t node, int rank, const std::vector<std::string>& gpus) {
  const std::string who =
      "rank " + std::to_string(rank) + " of " + text(key) + " on node " + std::to_string(node);
  if (!ranks_.emplace(RankId{key, node, rank}, Rank{gpus, false}).second)
    return world_.fail("I2: " + who + " runs twice");
  for (const auto& uuid : gpus) {
    for (const auto& [holder, n] : on_gpu_[uuid])
      if (n > 0 && holder != key)
        return world_.fail("I1: " + who + " starts on " + uuid + " while ranks of " + text(holder) +
                           " are on it");
    ++on_gpu_[uuid][key];
  }
  for (const auto& [epoch, n] : stepping_[key.job])
    if (n > 0 && epoch != key.epoch)
      return world_.fail("I2: " + who + " starts while epoch " + to_string(epoch) + " is alive");
  ++stepping_[key.job][key.epoch];
  const auto rows = reader_.attempts(key.job);
  const auto row = std::ranges::find(rows, key.epoch, &AttemptRow::epoch);
  if (row == rows.end()) return world_.fail("I2: " + who + " starts, but its attempt is not in the store");
  if (row->state == AttemptState::ended)
    world_.fail("I2: " + who + " starts, but the store says that the attempt has ended");
}

void Oracle::rank_struck(AttemptKey key, std::size_t node, int rank, bool stuck) {
  const auto it = ranks_.find({key, node, rank});
  if (it == ranks_.end() || it->second.stuck || !stuck) return;
  it->second.stuck = true;
  --stepping_[key.job][key.epoch];
}

void Oracle::rank_dead(AttemptKey key, std::size_t node, int rank, bool well) {
  const auto it = ranks_.find({key, node, rank});
  if (it == ranks_.end()) return;
  for (const auto& uuid : it->second.gpus)
    if (--on_gpu_[uuid][key] == 0) on_gpu_[uuid].erase(key);
  if (!it->second.stuck) --stepping_[key.job][key.epoch];
  ranks_.erase(it);
  if (!well) broken_since_.try_emplace(key, world_.now()), unwell_.insert(key);
  if (!steps(key)) broken_since_.erase(key);
}

void Oracle::begun(AttemptKey key, std::size_t node) {
  auto& highest = begun_[{node, key.job}];
  if (key.epoch <= highest)
    return world_.fail("I2: node " + std::to_string(node) + " begins with " + text(key) + ", but epoch " +
                       to_string(highest) + " has been there");
  highest = key.epoch;
}

void Oracle::lease_ran_out(AttemptKey key, std::size_t node) {
  // One that is to end ends in its lease where it cannot be told.
  if (broken_since_.contains(key) || attempt_state_[key.job] == "stopping") return;
  if (benign_)
    world_.fail("I6: the lease of node " + std::to_string(node) + " ran out under " + text(key) +
                " although only the control plane had faults");
}

void Oracle::committed(const Batch& batch) {
  check_batch(batch);
  check_history(batch);
  if (const auto why = schedules_.committed(batch); !why.empty()) world_.fail("I8: " + why);
}

void Oracle::led(const ControlPlane& plane) {
  for (const auto& [id, state] : state_) {
    const bool over = state == name(JobState::succeeded) || state == name(JobState::failed) ||
                      state == name(JobState::cancelled);
    if (!over && plane.find_job(id) == nullptr)
      return world_.fail("I4: job " + to_string(id) + " is " + state + ", and who leads does not know of it");
  }
}

void Oracle::check_batch(const Batch& batch) {
  for (const auto& g : batch.gpus) uuid_[g.id] = g.uuid;
  const auto before =
      epoch_;  // a transaction may register the last checkpoint of one epoch and begin the next
  for (const auto& j : batch.new_jobs) epoch_[j.id] = j.epoch;
  for (const auto& j : batch.jobs) epoch_[j.row.id] = j.row.epoch;
  for (const auto& o : batch.opened)
    for (const auto& [holder, n] : on_gpu_[uuid_[o.gpu]])
      if (n > 0)
        return world_.fail("I1: " + uuid_[o.gpu] + " is given to " + text({o.job, o.epoch}) +
                           " while ranks of " + text(holder) + " are on it");
  for (const auto& a : batch.attempts) {
    const AttemptKey key{a.job, a.epoch};
    if (a.state == AttemptState::placed || a.state == AttemptState::preflight)
      for (const auto& [node, faults] : cut_)
        if (faults > 0 && std::ranges::count(a.gang, "n" + std::to_string(node), &GangMember::node_name) > 0)
          placed_in_vain_.insert(key);
    if (a.state != AttemptState::ended) continue;
    if (steps(key))
      return world_.fail("I2: the store says that " + text(key) + " has ended, and its ranks live");
    const bool ours = a.cause == Cause::node_lost || a.cause == Cause::control || a.cause == Cause::unknown ||
                      a.cause == Cause::gpu || a.cause == Cause::launch;
    // Its ranks had done their work while one of its nodes could not say so for longer than a lease.
    const bool late_word =
        a.cause == Cause::node_lost && stepping_[a.job].contains(a.epoch) && !unwell_.contains(key);
    const bool never_began =
        a.cause == Cause::node_lost && placed_in_vain_.contains(key) && !stepping_[a.job].contains(a.epoch);
    if (benign_ && ours && !late_word && !never_began)
      return world_.fail("I6: " + text(key) + " ended by " + std::string(name(a.cause)) + " (" + a.detail +
                         ") although only the control plane had faults");
  }
  check_checkpoints(batch, before);
  check_nothing_is_lost(batch);
}

void Oracle::check_nothing_is_lost(const Batch& batch) {
  for (const auto& a : batch.attempts) {
    const AttemptKey key{a.job, a.epoch};
    const auto written = a.state == AttemptState::ended ? written_.find(key) : written_.end();
    if (written == written_.end()) continue;
    const bool by_its_word = !a.gang.empty() && a.gang.front().how == "cgroup";
    for (const auto& path : written->second) {
      const auto row = checkpoints_[a.job].find(path);
      const bool known = row != checkpoints_[a.job].end() && row->second.epoch >= a.epoch;
      if (by_its_word && !known)
        return world_.fail("I9: " + text(key) + " has ended, and nobody has heard of its checkpoint " + path);
    }
    if (by_its_word) world_.mark("an end comes after all checkpoints");
    written_.erase(written);
  }
}

// A transaction may hold several steps: what was true before it, or is true after it, is held against none.
void Oracle::check_checkpoints(const Batch& batch, const std::map<JobId, Epoch>& epochs_before) {
  const auto before = checkpoints_;
  for (const auto& c : batch.checkpoints) {
    const auto known = checkpoints_[c.job].find(c.path);
    const bool registered = known == checkpoints_[c.job].end() || known->second.epoch != c.epoch;
    const bool current =
        epoch_[c.job] == c.epoch || (epochs_before.contains(c.job) && epochs_before.at(c.job) == c.epoch);
    if (registered && !current)
      return world_.fail("I3: a checkpoint of " + text({c.job, c.epoch}) + " is registered under epoch " +
                         to_string(epoch_[c.job]));
    checkpoints_[c.job][c.path] = c;
  }
  const auto was = [&](const CheckpointRow& now) -> const CheckpointRow* {
    const auto job = before.find(now.job);
    if (job == before.end()) return nullptr;
    const auto row = job->second.find(now.path);
    return row == job->second.end() || row->second.epoch != now.epoch ? nullptr : &row->second;
  };
  for (const auto& a : batch.attempts) {
    if (!attempts_seen_.insert({a.job, a.epoch}).second || a.resume_path.empty()) continue;
    const auto found = checkpoints_[a.job].find(a.resume_path);
    if (found == checkpoints_[a.job].end())
      return world_.fail("I8: " + text({a.job, a.epoch}) + " begins from " + a.resume_path +
                         ", which nobody has registered");
    const CheckpointRow* old = was(found->second);
    if (old != nullptr && (old->state == CheckpointState::bad || old->deleting))
      return world_.fail("I8: " + text({a.job, a.epoch}) + " begins from " + a.resume_path + ", which is " +
                         (old->deleting ? "being deleted" : "bad"));
    if (old != nullptr && old->epoch >= a.epoch)
      return world_.fail("I8: " + text({a.job, a.epoch}) + " begins from a checkpoint of epoch " +
                         to_string(old->epoch));
    world_.mark("attempt: begins from a checkpoint that is " + std::string(name(found->second.state)));
  }
  for (const auto& c : batch.checkpoints) {
    const CheckpointRow* old = was(c);
    if (!c.deleting || c.state == CheckpointState::bad || (old != nullptr && old->deleting)) continue;
    const bool other = std::ranges::any_of(checkpoints_[c.job], [&](const auto& entry) {
      const CheckpointRow& o = entry.second;
      const CheckpointRow* o_old = was(o);
      const bool usable =
          o.state != CheckpointState::bad || (o_old != nullptr && o_old->state != CheckpointState::bad);
      return o.path != c.path && usable && !o.deleting;
    });
    if (!other)
      return world_.fail("I8: " + c.path + " is given up for deletion, the only one that can be used");
  }
}

void Oracle::check_history(const Batch& batch) {
  std::map<JobId, JobState> rows;
  for (const auto& j : batch.new_jobs) rows[j.id] = j.state;
  for (const auto& j : batch.jobs) rows[j.row.id] = j.row.state;
  for (const auto& d : batch.done) rows[d.row.job.id] = d.row.job.state;
  for (const auto& e : batch.events) {
    if (e.kind != "state" && e.kind != "attempt") continue;
    const bool of_job = e.kind == "state";
    auto& at = of_job ? state_[e.job] : attempt_state_[e.job];
    if (!of_job && e.from.empty() && at == "ended") at.clear();  // the next attempt begins
    if (at != e.from || !db::legal_event_pair(e.kind, e.from, e.to))
      return world_.fail("history of job " + to_string(e.job) + ": " + e.kind + " '" + e.from + "' -> '" +
                         e.to + "' after '" + at + "'");
    at = e.to;
  }
  for (const auto& [id, state] : rows)
    if (state_[id] != name(state))
      return world_.fail("job " + to_string(id) + " is stored as " + std::string(name(state)) +
                         ", its history says " + state_[id]);
}

void Oracle::acknowledged(const std::string& owner, const std::string& key, JobId id) {
  const auto [it, fresh] = acknowledged_.try_emplace({owner, key}, id);
  if (it->second != id)
    return world_.fail("I4: key " + key + " was job " + to_string(it->second) + " and is now job " +
                       to_string(id));
  const auto stored = reader_.find_by_key(owner, key);
  if (!stored || stored->job != id || !reader_.find_job(id))
    world_.fail("I4: job " + to_string(id) + " is acknowledged and not in the store");
}

void Oracle::sweep(bool excused, Duration limit) {
  if (const auto why = schedules_.overdue(kSchedulerEpoch + world_.now(), excused, limit); !why.empty())
    return world_.fail("I8: " + why);
  for (auto& [key, since] : broken_since_) {
    if (excused || !steps(key)) since = world_.now();
    if (world_.now() - since > limit)
      return world_.fail("I7: a part of " + text(key) + " lives on " +
                         std::to_string((world_.now() - since) / 1s) + " s after another has died");
  }
}

void Oracle::at_end() {
  for (const auto& [who, id] : acknowledged_) {
    const auto stored = reader_.find_by_key(who.first, who.second);
    if (!stored || stored->job != id || !reader_.find_job(id))
      return world_.fail("I4: acknowledged job " + to_string(id) + " is lost");
  }
  std::set<std::pair<std::string, JobId>> names;
  for (const auto& [id, state] : state_) {
    std::string at;
    for (const auto& e : reader_.job_events(id, {}, kMaxPage)) {
      if (e.kind != "state") continue;
      if (at != e.from) return world_.fail("the stored history of job " + to_string(id) + " has a gap");
      at = e.to;
    }
    const auto job = reader_.find_job(id);
    if (!job) return world_.fail("job " + to_string(id) + " is in the history and not in the store");
    if (name(job->row.state) != at)
      return world_.fail("the stored history of job " + to_string(id) + " does not end in its state");
    for (const auto& a : reader_.attempts(id))
      if (a.state != AttemptState::ended)
        return world_.fail("I5: attempt " + text({a.job, a.epoch}) + " has never ended");
    // One submission, one job: the workload gives every job, array and schedule a name of its own.
    const JobSpec spec = wire::parse_spec_json(job->spec_json, Now{}).spec;
    if (spec.schedule || spec.scheduled_by) continue;  // schedules_ has watched them
    const auto wanted = static_cast<std::size_t>(spec.array_task ? spec.array_task->tasks : 1);
    if (reader_.resolve_name(job->name, 10).size() != wanted)
      return world_.fail("I4: " + job->name + " does not exist " + std::to_string(wanted) + " times");
  }
}

}  // namespace tutti::sim
