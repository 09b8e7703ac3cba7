// The leader, after the store has refused a batch that it will never take: whose doing it was, and what is
// done so that everybody else's work goes on.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "scheduler/service/leader.h"

namespace tutti {

namespace {
constexpr std::size_t kAloneAfterRefusal = 1'000;
}

// What its commands are answered: `as_asked`, but where it is known whose doing it was.
Error Leader::refused(const InFlight& lost, const std::string& why, Error as_asked) {
  if (alone_ == 0) {
    alone_ = kAloneAfterRefusal;
    plan_next_ = true;
    return as_asked;
  }
  if (lost.commands.empty()) {
    suspect(*lost.batch, why);
    return as_asked;
  }
  spdlog::error("one command is refused by the store, and dropped: {}", why);
  return Error{.code = Errc::internal,
               .message = "the store refuses this change: " + why,
               .hint = "this is a bug: please report it with the scheduler's log",
               .field = ""};
}

// The planner's doing: no request and no node has a part in it. The jobs that were to start are held, or they
// would be started in the next batch as well; of several all but the culprit are let go again, one to a
// transaction.
void Leader::suspect(const Batch& batch, const std::string& why) {
  std::vector<JobId> starts;
  for (const auto& attempt : batch.attempts)
    if (attempt.state == AttemptState::placed && std::ranges::find(starts, attempt.job) == starts.end())
      starts.push_back(attempt.job);
  std::string names;
  for (const JobId id : starts) names += (names.empty() ? "" : ", ") + to_string(id);
  spdlog::error("what is due is refused by the store (job {}): {}", names.empty() ? "none" : names, why);
  why_refused_ = "the database refuses its start: " + why;
  for (const JobId id : starts) {
    to_hold_.push_back(id);
    if (starts.size() > 1) to_release_.push_back(id);
  }
}

// After each load, and after each of them: a commit that fails meanwhile loses nothing of what is still to be
// done.
void Leader::deal_with_suspects() {
  if (!to_hold_.empty()) {
    const JobId id = to_hold_.front();
    return change_suspect(id, true, [this] { to_hold_.erase(to_hold_.begin()); });
  }
  if (to_release_.empty()) return why_refused_.clear();
  const JobId id = to_release_.front();
  change_suspect(id, false, [this] { to_release_.pop_front(); });
}

void Leader::change_suspect(JobId id, bool hold, std::function<void()> done) {
  Command command;
  command.room = Command::Room::always;
  command.decide = [this, id, hold, done](ControlPlane& plane, Now now) -> std::function<void()> {
    // It may be gone, or somebody has held or cancelled it: then there is nothing to do.
    const auto changed = hold ? plane.on_hold(now, id, why_refused_, "the scheduler")
                              : plane.on_release(now, id, "the scheduler");
    if (hold && changed) spdlog::error("job={} is held: {}", id.value, why_refused_);
    return [this, done] {
      done();
      deal_with_suspects();
    };
  };
  command.refuse = [done](const Error& why) {
    if (why.code == Errc::internal) done();  // nor is that taken: nothing more is to be done for it
  };
  post(std::move(command));
}

}  // namespace tutti
