// Of WorkerCore: checkpoints, from the one that an attempt begins from to those it leaves.
#include <algorithm>
#include <utility>

#include "worker/core/attempt.h"
#include "worker/core/worker_core.h"

namespace tutti::worker {

using protocol::CheckpointChecked;
using protocol::CheckpointFound;
using protocol::CheckpointVerdict;
using protocol::Phase;

namespace {
constexpr std::size_t kMaxCheckpoints = 256;
constexpr std::size_t kMaxRefused = 16;  // told of one attempt

// Makes room for one more; should the oldest be found again, the scheduler knows its path.
template <class Entry>
bool has_room(std::map<std::string, Entry>& entries, std::int64_t step) {
  if (entries.size() < kMaxCheckpoints) return true;
  const auto oldest = std::min_element(entries.begin(), entries.end(),
                                       [](auto& x, auto& y) { return x.second.step < y.second.step; });
  if (oldest->second.step >= step) return false;
  entries.erase(oldest);
  return true;
}
}  // namespace

bool WorkerCore::on_checkpoint(Now, const CheckpointFound& found) {
  auto* a = live(found.key);
  if (!a || a->stage == Stage::ended || a->checkpoints.contains(found.path)) return false;
  if (found.epoch_in_file != found.key.epoch.value) {
    if (a->refused_checkpoints.size() < kMaxCheckpoints && a->refused_checkpoints.insert(found.path).second)
      act(Note{found.key, "", "checkpoint refused",
               found.path + " is of epoch " + std::to_string(found.epoch_in_file)});
    return false;
  }
  if (!has_room(a->checkpoints, found.step)) return false;
  a->checkpoints[found.path] = found;
  act(Note{found.key, "", found.problem.empty() ? "checkpoint" : "damaged checkpoint",
           found.path + (found.problem.empty() ? "" : ": " + found.problem)});
  send(found);
  return found.problem.empty();
}

// Its attempt may be over by then: what was found out is true all the same.
void WorkerCore::on_checkpoint_checked(Now, const CheckpointChecked& checked) {
  auto* a = live(checked.key);
  const bool refused = checked.verdict == CheckpointVerdict::refused;
  if (refused && (!a || a->refused_checkpoints.size() >= kMaxRefused ||
                  !a->refused_checkpoints.insert(checked.path).second))
    return;
  if (checked.verdict != CheckpointVerdict::verified)
    act(Note{checked.key, "", refused ? "not taken for a checkpoint" : "damaged checkpoint",
             checked.path + ": " + checked.why});
  // After a reconnect it is said again; a refusal is not worth that.
  if (a && !refused && has_room(a->checked, checked.step)) a->checked[checked.path] = checked;
  send(checked);
}

void WorkerCore::on_delete_checkpoint(const protocol::DeleteCheckpoint& order) {
  const auto* a = live(order.key);
  // Not ours any more: the order comes again, to whoever has the job then.
  if (!a || !a->spec || a->spec->checkpoint.dir.empty() || order.path == a->prepare.resume_path) return;
  act(DeleteFiles{order});
}

void WorkerCore::on_checkpoint_deleted(const protocol::CheckpointDeleted& deleted) {
  act(Note{deleted.key, "", deleted.ok ? "checkpoint deleted" : "checkpoint not deleted",
           deleted.path + (deleted.ok ? "" : ": " + deleted.why)});
  send(deleted);
}

// After the setup, which may be what brings the files here.
void WorkerCore::check_resume(Now now, Attempt& a) {
  if (a.resume != Attempt::Resume::wanted || a.stage != Stage::supervised) return;
  if (a.status.phase == Phase::launched || a.status.phase == Phase::running) {
    a.resume = Attempt::Resume::none;  // a former worker has looked
  } else if (a.status.phase == Phase::ready && !a.stop) {
    a.resume = Attempt::Resume::checking;
    a.resume_by = now.mono + settings_.resume_check;
    act(CheckResume{a.key});
  }
}

void WorkerCore::on_resume_checked(Now now, AttemptKey key, const ResumeCheck& result) {
  auto* a = live(key);
  if (!a || a->resume != Attempt::Resume::checking) return;
  a->resume = Attempt::Resume::none;
  if (a->stage != Stage::supervised) return;
  if (result.what != ResumeCheck::What::usable && !a->stop && !a->failure) {
    const bool damaged = result.what == ResumeCheck::What::damaged;
    a->failure = failure(damaged ? "checkpoint" : "storage", a->prepare.resume_path + ": " + result.why, now);
    if (damaged) a->failure->step = a->prepare.resume_step;
    act(Note{key, "preparing", "failing", a->failure->detail});
    stop_attempt(now, *a, protocol::Stop{key, a->failure->kind, "KILL", 0});
  }
  push_orders(*a);
  publish(*a);
}

}  // namespace tutti::worker
