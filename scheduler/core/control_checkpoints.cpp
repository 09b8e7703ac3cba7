// Control plane: checkpoints. Which are registered, what is known of each, where an attempt begins, and which
// are deleted. The rows are the truth; docs/design/0007-checkpoints.md says why it is as it is.
#include <algorithm>
#include <tuple>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/core/retry.h"
#include "scheduler/model/assert.h"

namespace tutti {
namespace {

constexpr int kRestoresUntilDoubt = 2;  // attempts in a row that ended before their first new checkpoint

// What the end of an attempt may say about the checkpoint it began from. A node that is lost or a person who
// stops a job says nothing about it.
bool casts_doubt(Cause cause) {
  switch (class_of(cause)) {
    case CauseClass::user:
    case CauseClass::undecided: return cause != Cause::time_limit;
    case CauseClass::infrastructure: return cause != Cause::launch;
    case CauseClass::hardware:
    case CauseClass::ours:
    case CauseClass::person: return false;
  }
  return false;
}

// Of those that are to be deleted the newest good one, where none that is kept is known to be good.
bool is_last_good(const CheckpointBook& book, const CheckpointRow& row) {
  const auto good = [](const CheckpointRow& c) { return c.state == CheckpointState::good && !c.deleting; };
  return good(row) && !book.keeps_a_good_one() && std::ranges::none_of(book.rows(), [&](const auto& entry) {
           return good(entry.second) &&
                  std::tie(entry.second.step, entry.second.epoch) > std::tie(row.step, row.epoch);
         });
}

std::string what(const CheckpointRow& c) {
  return "step " + std::to_string(c.step) + " of epoch " + to_string(c.epoch) + " at " + c.path;
}

}  // namespace

void ControlPlane::store(const CheckpointRow& row) { out_.batch.checkpoints.push_back(row); }

// The only place that writes a checkpoint's state.
bool ControlPlane::apply(const Job& job, CheckpointRow& row, CheckpointEvent event, Now now,
                         std::string detail) {
  const auto to = next(kCheckpointEdges, row.state, event);
  if (!to) return false;
  const CheckpointState from = row.state;
  row.state = *to;
  row.detail = *to == CheckpointState::good ? "" : detail;
  store(row);
  record_job(job, now,
             {.kind = "checkpoint",
              .from = std::string(name(from)),
              .to = std::string(name(*to)),
              .detail = what(row) + (detail.empty() ? "" : ": " + detail)});
  return true;
}

void ControlPlane::remark(const Job& job, const CheckpointRow& row, Now now, std::string detail) {
  record_job(job, now,
             {.kind = "checkpoint",
              .from = std::string(name(row.state)),
              .to = std::string(name(row.state)),
              .detail = what(row) + ": " + std::move(detail)});
}

// ---------------------------------------------------------------- what workers say

void ControlPlane::on_checkpoint(Now now, NodeId node, const protocol::CheckpointFound& found) {
  const auto deciding = note<&ControlPlane::on_checkpoint>(now, node, found);
  Attempt* attempt = find_live(found.key);
  if (attempt == nullptr ||
      std::ranges::find(attempt->row.gang, node, &GangMember::node) == attempt->row.gang.end())
    return;  // fenced: it does not exist
  if (found.epoch_in_file != found.key.epoch.value) return;
  if (found.step < 0 || found.path.empty()) return;  // a job wrote nonsense: no checkpoint
  const CheckpointRow* known = checkpoints_[found.key.job].find(found.path);
  if (known != nullptr && known->epoch >= found.key.epoch) return;  // said before
  register_checkpoint(jobs_.at(found.key.job), *attempt, found, now);
  if (found.problem.empty() && attempt->leave_by) leave_now(*attempt, now);
}

// A path that an earlier epoch has used is another checkpoint now: what was known of the old one is over.
void ControlPlane::register_checkpoint(Job& job, Attempt& attempt, const protocol::CheckpointFound& found,
                                       Now now) {
  const bool good_enough = found.problem.empty();
  CheckpointBook& book = checkpoints_[found.key.job];
  const CheckpointRow& row = book.put({.job = found.key.job,
                                       .epoch = found.key.epoch,
                                       .step = found.step,
                                       .path = found.path,
                                       .bytes = std::max<std::int64_t>(found.bytes, 0),
                                       .shards = std::max(found.shards, 0),
                                       .at = now.wall,
                                       .state = good_enough ? CheckpointState::found : CheckpointState::bad,
                                       .detail = found.problem,
                                       .cost = Duration(std::max<std::int64_t>(found.cost_us, 0))});
  store(row);
  record_job(job, now,
             {.kind = "checkpoint",
              .from = "",
              .to = std::string(name(row.state)),
              .detail = "step " + std::to_string(found.step) + " at " + found.path +
                        (good_enough ? "" : ": " + found.problem)});
  if (!good_enough) return;
  if (found.step > attempt.row.last_step) {  // progress is told once a second, a checkpoint at once
    note_step(attempt, found.step, now);
    touch(attempt);
  }
  if (const auto newest = book.newest_step(); newest != job.row.best_step) {
    job.row.best_step = newest;
    touch(job);
  }
  planner_.checkpointed(job.row.id, now.wall);
  CheckpointRow* from = book.find(attempt.row.resume_path);
  if (from != nullptr && from->epoch < row.epoch && found.step > from->step && !from->restored) {
    from->restored = true;
    from->failed_restores = 0;
    const bool changed = from->state != CheckpointState::good &&
                         apply(job, *from, CheckpointEvent::proved, now, "a later one was made from it");
    if (!changed) store(*from);
  }
  retire_old(job, attempt.row, now);
}

void ControlPlane::on_checkpoint_checked(Now now, NodeId node, const protocol::CheckpointChecked& checked) {
  const auto deciding = note<&ControlPlane::on_checkpoint_checked>(now, node, checked);
  const auto found = jobs_.find(checked.key.job);
  if (found == jobs_.end() || cluster_.find(node) == nullptr) return;
  Job& job = found->second;
  if (checked.verdict == protocol::CheckpointVerdict::refused) {
    if (find_live(checked.key) != nullptr)
      record_job(job, now,
                 {.kind = "checkpoint",
                  .from = "",
                  .to = "",
                  .detail = "not taken for a checkpoint: " + checked.path + ": " + checked.why});
    return;
  }
  CheckpointBook& book = checkpoints_[job.row.id];
  CheckpointRow* row = book.find(checked.path);
  if (row == nullptr || row->epoch.value != checked.epoch_in_file) return;  // of one that was there before
  if (checked.verdict == protocol::CheckpointVerdict::verified) {
    if (row->state == CheckpointState::found)
      apply(job, *row, CheckpointEvent::verified, now, "its checksums hold");
    return;
  }
  if (!apply(job, *row, CheckpointEvent::damaged, now, checked.why)) return;
  if (const auto newest = book.newest_step(); newest != job.row.best_step) {
    job.row.best_step = newest;
    touch(job);
  }
}

// ---------------------------------------------------------------- where an attempt begins, and what its end
// says

void ControlPlane::choose_resume(Job& job, AttemptRow& attempt, Now now) {
  CheckpointBook& book = checkpoints_[job.row.id];
  const CheckpointRow* chosen = book.choose_resume();
  if (chosen == nullptr) {
    if (!book.rows().empty())
      record_job(
          job, now,
          {.kind = "checkpoint",
           .from = "",
           .to = "",
           .detail = "attempt " + std::to_string(attempt.number) + " begins from scratch: none of its " +
                     std::to_string(book.rows().size()) + " checkpoints can be used"});
    return;
  }
  CheckpointRow& row = *book.find(chosen->path);
  if (row.retired_at != Instant{}) {
    row.retired_at = {};
    store(row);
    remark(job, row, now, "kept after all: no newer one can be used");
  }
  attempt.resume_step = row.step;
  attempt.resume_path = row.path;
}

// The node that was to begin from it says that it cannot be used.
void ControlPlane::resume_damaged(Attempt& attempt, const protocol::Failure& failure, Now now) {
  Job& job = jobs_.at(attempt.row.job);
  CheckpointBook& book = checkpoints_[job.row.id];
  CheckpointRow* row = book.find(attempt.row.resume_path);
  if (row == nullptr || row->step != failure.step) return;
  apply(job, *row, CheckpointEvent::damaged, now, failure.detail);
  job.row.best_step = book.newest_step();
  touch(job);
}

// True: the attempt has got past the checkpoint it began from.
bool ControlPlane::mark_resumed(Job& job, const AttemptRow& ended, bool ok, Now now) {
  CheckpointBook& book = checkpoints_[job.row.id];
  if (book.has_newer(ended.epoch, ended.resume_step)) return true;
  CheckpointRow* from = book.find(ended.resume_path);
  if (ok || from == nullptr || ended.running_at == Instant{} || !casts_doubt(ended.cause)) return false;
  ++from->failed_restores;
  const int times = from->failed_restores;
  if (times < kRestoresUntilDoubt) {
    store(*from);
    return false;
  }
  from->failed_restores = 0;
  const bool doubted =
      apply(job, *from, CheckpointEvent::doubted, now,
            std::to_string(times) + " attempts in a row began from it and ended before a new one");
  if (!doubted) store(*from);
  job.row.best_step = book.newest_step();
  touch(job);
  return false;
}

// ---------------------------------------------------------------- retention

void ControlPlane::watch_retired(const CheckpointRow& row, Instant at) {
  retired_.emplace(at, row.job, row.path);
}

void ControlPlane::retire_old(const Job& job, const AttemptRow& attempt, Now now) {
  CheckpointBook& book = checkpoints_[job.row.id];
  for (const std::string& path : book.choose_retired(job.spec->checkpoint, attempt.resume_path)) {
    CheckpointRow& row = *book.find(path);
    row.retired_at = now.wall;
    store(row);
    watch_retired(row, now.wall + settings_.delete_after);
    remark(job, row, now, "no longer kept, will be deleted");
  }
}

// Told to a node of the gang, again and again until it answers. The row that says so is committed first: from
// then on no attempt begins from it.
void ControlPlane::delete_retired(Now now) {
  while (!retired_.empty() && std::get<Instant>(*retired_.begin()) <= now.wall) {
    const auto [due, id, path] = *retired_.begin();
    retired_.erase(retired_.begin());
    const auto job = jobs_.find(id);
    const auto book = checkpoints_.find(id);
    if (job == jobs_.end() || book == checkpoints_.end()) continue;
    CheckpointRow* row = book->second.find(path);
    if (row == nullptr || row->retired_at == Instant{}) continue;       // kept after all, or another one now
    if (row->retired_at + settings_.delete_after > now.wall) continue;  // retired anew: looked at later
    // The newer ones have turned out bad meanwhile; or it was retired for a good one that has.
    const bool needed = book->second.choose_resume() == row;
    if (needed || is_last_good(book->second, *row)) {
      row->retired_at = {};
      store(*row);
      remark(job->second, *row, now,
             needed ? "kept after all: no newer one can be used"
                    : "kept after all: no other is known to be good");
      continue;
    }
    const auto attempt = attempts_.find({id, job->second.row.epoch});
    const bool runs = attempt != attempts_.end() && attempt->second.row.state == AttemptState::running;
    if (runs && attempt->second.row.resume_path != path) {
      if (!row->deleting) {
        row->deleting = true;
        store(*row);
      }
      send(attempt->second.row.gang.front().node,
           protocol::DeleteCheckpoint{
               .key = attempt->first, .epoch_in_file = row->epoch.value, .step = row->step, .path = path});
    }
    watch_retired(*row, now.wall + settings_.delete_again);
  }
}

void ControlPlane::on_checkpoint_deleted(Now now, NodeId node, const protocol::CheckpointDeleted& deleted) {
  const auto deciding = note<&ControlPlane::on_checkpoint_deleted>(now, node, deleted);
  const auto found = jobs_.find(deleted.key.job);
  if (found == jobs_.end() || cluster_.find(node) == nullptr) return;
  CheckpointBook& book = checkpoints_[found->first];
  CheckpointRow* row = book.find(deleted.path);
  if (row == nullptr || row->epoch.value != deleted.epoch_in_file || !row->deleting) return;
  if (!deleted.ok) return remark(found->second, *row, now, "could not be deleted: " + deleted.why);
  row->deleted_at = now.wall;
  store(*row);
  remark(found->second, *row, now, "deleted");
  book.erase(deleted.path);
}

}  // namespace tutti
