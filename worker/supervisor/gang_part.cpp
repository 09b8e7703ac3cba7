#include "worker/supervisor/gang_part.h"

#include <algorithm>

namespace tutti::supervisor {

using protocol::Failure;
using protocol::Phase;

std::string describe(const Exit& exit) {
  return exit.signal != 0 ? "was killed by signal " + std::to_string(exit.signal)
                          : "exited " + std::to_string(exit.code);
}

void GangPart::on_ready() {
  if (phase_ == Phase::preparing && !finishing_) phase_ = Phase::ready;
}

void GangPart::on_launched() {
  if (phase_ == Phase::ready && !finishing_) phase_ = Phase::launched;
}

void GangPart::on_process_started() { ++live_processes_; }

void GangPart::on_process_ended(const Exit& exit, bool is_rank, bool reported, const std::string& detail,
                                std::int64_t now) {
  --live_processes_;
  last_process_ = exit;
  last_process_detail_ = detail;
  if (is_rank && !reported) {
    note_failure({.kind = "launch",
                  .exit_code = exit.code,
                  .signal = exit.signal,
                  .boot_us = now,
                  .detail = detail + " " + describe(exit) + " before its rank reported",
                  .last_lines = {}});
  } else if (!is_rank && !exit.well() && !all_up()) {
    note_failure({.kind = "launch",
                  .exit_code = exit.code,
                  .signal = exit.signal,
                  .boot_us = now,
                  .detail = detail + " " + describe(exit) + " before all its ranks were up",
                  .last_lines = {}});
  } else if (!is_rank && !exit.well() && local_ranks_ == 0) {  // no rank of its own will tell
    note_failure({.kind = exit.signal != 0 ? "signal" : "exit",
                  .exit_code = exit.code,
                  .signal = exit.signal,
                  .boot_us = now,
                  .detail = detail + " " + describe(exit),
                  .last_lines = {}});
  }
}

bool GangPart::on_rank_up(std::int32_t rank, std::int32_t world_size) {
  if (finishing_ || rank < 0 || all_up() || ranks_.contains(rank)) return false;
  ranks_[rank] = std::nullopt;
  world_size_ = std::max(world_size_, world_size);
  if (phase_ == Phase::launched && all_up()) phase_ = Phase::running;
  return true;
}

void GangPart::on_rank_ended(std::int32_t rank, const Exit& exit, bool vanished, std::int64_t when) {
  const auto it = ranks_.find(rank);
  if (it == ranks_.end() || it->second) return;
  it->second = exit;
  ++ranks_done_;
  if (exit.well()) return;
  std::string detail = "rank " + std::to_string(rank) + " " + describe(exit);
  if (vanished) detail += " (its keeper is gone without a report)";
  note_failure({.kind = exit.signal != 0 ? "signal" : "exit",
                .rank = rank,
                .exit_code = exit.code,
                .signal = exit.signal,
                .boot_us = when,
                .detail = std::move(detail),
                .last_lines = {}});
}

void GangPart::on_failure(Failure failure) { note_failure(std::move(failure)); }

void GangPart::on_lease_expired(std::int64_t now) {
  note_failure({.kind = "lease", .boot_us = now, .detail = "the node's lease ran out", .last_lines = {}});
  kill_by(now);
}

void GangPart::on_oom(std::int32_t rank) {
  if (!candidate_ || candidate_->rank != rank || candidate_->kind != "signal") return;
  candidate_->kind = "oom";
  candidate_->detail += ", out of memory";
}

void GangPart::note_failure(Failure failure) {
  if (finishing_ || failure_) return;
  if (!candidate_ || failure.boot_us < candidate_->boot_us) candidate_ = std::move(failure);
}

void GangPart::kill_by(std::int64_t when) { kill_at_ = std::min(kill_at_.value_or(when), when); }

void GangPart::on_stop(const std::string& signal, std::int64_t grace_us, std::int64_t now) {
  const bool at_once = signal.empty() || signal == "KILL" || grace_us <= 0 || !launched();
  const std::int64_t until = at_once ? now : now + grace_us;
  stop_until_ = std::min(stop_until_.value_or(until), until);
  kill_by(until);
}

// Whether the others may go on for a while after this.
void GangPart::judge(const Failure& failure, std::int64_t now) {
  const bool rank_ended_itself = failure.rank >= 0 && failure.kind != "oom";
  if (rank_ended_itself && stopping()) return;  // the Stop's own grace runs
  if (failure.kind == "exit" && failure.exit_code == kRestartExitCode)
    kill_by(now + patience_.restart_us);
  else
    finishing_ = true;
}

void GangPart::settle(std::int64_t now) {
  if (candidate_ && !failure_) {
    failure_ = std::move(candidate_);
    judge(*failure_, now);
  }
  candidate_.reset();
  if (finishing_) return;
  if (phase_ == Phase::launched && all_up()) phase_ = Phase::running;

  if (launched() && live_processes_ == 0) {
    const bool all_done = ranks_done_ >= local_ranks_;
    // Nothing was started here and no rank has come: the agent's command is still to arrive.
    const bool none_yet = !last_process_ || (patience_.by_agent && last_process_->well() && ranks_.empty());
    const bool awaits_agent = none_yet && local_ranks_ > 0 && !all_done;
    if (all_done) {
      finishing_ = true;
    } else if (!awaits_agent) {
      if (!orphaned_at_) orphaned_at_ = now;
      if (!stopping() && !failure_ && now >= *orphaned_at_ + patience_.orphan_us) {
        note_failure({.kind = "launch",
                      .exit_code = last_process_->code,
                      .signal = last_process_->signal,
                      .boot_us = now,
                      .detail = last_process_detail_ + " " + describe(*last_process_) + ", " +
                                std::to_string(local_ranks_ - ranks_done_) + " of its ranks did not end",
                      .last_lines = {}});
        failure_ = std::move(candidate_);
        candidate_.reset();
        finishing_ = true;
      } else if (!stopping() && !failure_) {
        kill_by(*orphaned_at_ + patience_.orphan_us);
      }
    }
  } else {
    orphaned_at_.reset();
    // Launchers of several nodes wait for ranks elsewhere, however long: only when all ranks were here is
    // theirs the time after the last one.
    if (launched() && local_ranks_ > 0 && ranks_done_ >= local_ranks_ && world_size_ == local_ranks_)
      kill_by(now + patience_.tail_us);
  }
  if (kill_at_ && now >= *kill_at_) finishing_ = true;
}

bool GangPart::all_ranks_well() const {
  return launched() && ranks_done_ >= local_ranks_ &&
         std::all_of(ranks_.begin(), ranks_.end(),
                     [](const auto& entry) { return entry.second && entry.second->well(); });
}

}  // namespace tutti::supervisor
