// The leader, after the store has refused a batch that it will never take: whose doing it was, and what is
// done so that everybody else's work goes on.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "scheduler/service/leader.h"

namespace tutti {

namespace {
constexpr std::size_t kAloneAfterRefusal = 1'000;
}

// Whose turn it is; those who have nothing to say are passed over.
Leader::Turn Leader::next_turn() {
  if (alone_ == 0 && suspects_.empty()) return last_turn_ = Turn::all;
  const auto after = [](Turn turn) {
    return turn == Turn::command ? Turn::tick : turn == Turn::tick ? Turn::start : Turn::command;
  };
  const auto has_something = [this](Turn turn) {
    if (turn == Turn::command) return !inbox_.empty();
    return turn == Turn::tick ? tick_due_ : suspects_.empty();  // which wait in the inbox, to be held
  };
  for (int tried = 0; tried < 3; ++tried)
    if (last_turn_ = after(last_turn_); has_something(last_turn_)) return last_turn_;
  return Turn::tick;  // of which there is none
}

// What its commands are answered: `as_asked`, but where it is known whose doing it was.
Error Leader::refused(const InFlight& lost, const std::string& why, Error as_asked) {
  switch (lost.turn) {
    case Turn::all: alone_ = kAloneAfterRefusal; return as_asked;
    case Turn::tick: spdlog::error("what is due is refused by the store: {}", why); return as_asked;
    case Turn::start: suspect(*lost.batch, why); return as_asked;
    case Turn::command: break;
  }
  spdlog::error("one command is refused by the store, and dropped: {}", why);
  return Error{.code = Errc::internal,
               .message = "the store refuses this change: " + why,
               .hint = "this is a bug: please report it with the scheduler's log",
               .field = ""};
}

// The planner's doing: no request and no node has a part in it. The job that was to start is held, or it
// would be started again and again, and nobody behind it.
void Leader::suspect(const Batch& batch, const std::string& why) {
  std::string names;
  for (const auto& event : batch.events) {
    if (event.kind != "state" || event.to != name(JobState::starting)) continue;
    names += (names.empty() ? "" : ", ") + to_string(event.job);
    if (std::ranges::find(suspects_, event.job, &Suspect::job) == suspects_.end())
      suspects_.push_back({event.job, "the database refuses its start: " + why});
  }
  spdlog::error("a start is refused by the store (job {}): {}", names.empty() ? "none" : names, why);
}

// After each load: a commit that fails meanwhile loses nothing of what is still to be done.
void Leader::hold_suspects() {
  for (const auto& [job, why] : suspects_) {
    const auto done = [this, id = job] {
      std::erase_if(suspects_, [&](const Suspect& s) { return s.job == id; });
    };
    Command command;
    command.room = Command::Room::always;
    command.decide = [id = job, why, done](ControlPlane& plane, Now now) -> std::function<void()> {
      // It may be over, and somebody may have held it.
      const Job* found = plane.find_job(id);
      if (found != nullptr && found->row.state == JobState::queued &&
          plane.on_hold(now, id, why, "the scheduler"))
        spdlog::error("job={} is held: {}", id.value, why);
      return done;
    };
    command.refuse = [done](const Error& error) {
      if (error.code == Errc::internal) done();  // nor is that taken: nothing more is to be done for it
    };
    post(std::move(command));
  }
}

}  // namespace tutti
