// The scheduler process, part 3: what lies between it and the store.
#include <algorithm>
#include <utility>

#include "tests/sim/scheduler_process.h"

namespace tutti::sim {
namespace {
constexpr Duration kNoAnswer = 1s, kNoAnswerAtMost = 3s;  // of a store that is cut off
}

bool Server::older_connected() const {
  return std::ranges::any_of(schedulers, [](const auto* s) { return s->is_before() && s->connected(); });
}

void SchedulerProcess::server_changed() {
  if (store_) store_->set_reachable(server_.up);
}
void SchedulerProcess::cut_session() {
  if (store_) store_->drop_session();
}

void SchedulerProcess::cut_store(Duration server_ends_it_after) {
  store_cut_ = true;
  world_.after(server_ends_it_after, [this, cut = ++cuts_] {
    if (store_cut_ && cut == cuts_) cut_session();
  });
}

// Its end of the session has been given up meanwhile: the server hears of it now.
void SchedulerProcess::heal_store() {
  store_cut_ = false;
  cut_session();
}

void SchedulerProcess::stay_behind(Snapshot rows) {
  behind_ = std::move(rows);
  cut_session();  // the new primary has none of it
}

void SchedulerProcess::rejoin() {
  behind_.reset();
  cut_session();
}

// The request travels to the server, is executed there whatever becomes of us, and its answer travels back.
void SchedulerProcess::store_op(Ask ask, std::function<Outcome()> work, std::function<void(Outcome)> done) {
  auto outcome = std::make_shared<Outcome>(Outcome::lost);
  auto run = std::make_shared<std::function<void()>>(
      [this, ask, work = std::move(work), outcome] { *outcome = executed(ask, work); });
  under_way_ = run;
  const Duration there = dice_.between(50us, server_.slowest), back = dice_.between(50us, server_.slowest);
  const Duration patience = dice_.between(kNoAnswer, kNoAnswerAtMost);
  world_.after(there, [this, run, ask, outcome, life = life_] {
    if (life != life_) return;  // killed meanwhile: kill() has decided
    if (!store_cut_) (*run)();
    under_way_.reset();
    if (ask != Ask::commit || *outcome != Outcome::ok || !doomed_) return;
    world_.mark("killed between commit and send");
    kill();
    world_.after(dice_.between(10ms, 2s), [this] {
      if (!alive_) start();
    });
  });
  world_.after(there + back, [this, ask, outcome, patience, life = life_, done = std::move(done)]() mutable {
    if (life == life_) answered(ask, *outcome, patience, std::move(done));
  });
}

// The answer is here, or never will be. It is read when the process takes its next step, whatever has become
// of the connection by then.
void SchedulerProcess::answered(Ask ask, Outcome outcome, Duration patience,
                                std::function<void(Outcome)> done) {
  const bool here =
      has_store() || outcome == Outcome::deposed || (behind_.has_value() && outcome == Outcome::ok);
  const bool confirms = (ask == Ask::commit || ask == Ask::confirm) && outcome == Outcome::ok;
  if (here && confirms && !paused_ && before_next_answer_) {
    pause();
    std::exchange(before_next_answer_, nullptr)();
  }
  gate([this, here, outcome, patience, done = std::move(done)] {
    if (here) return done(outcome);
    // No answer: it waits for one until its deadline.
    if (outcome == Outcome::ok) world_.mark("the answer of the store is lost");
    after(patience, [done] { done(Outcome::lost); });
  });
}

// A primary that was replaced reads as ever. What is written waits for its standby, in vain.
SchedulerProcess::Outcome SchedulerProcess::executed(Ask ask, const std::function<Outcome()>& work) {
  if (!behind_ || ask == Ask::load) return work();
  if (ask == Ask::confirm && canary_ == Canary::reads_confirm) return Outcome::ok;
  world_.mark("an old primary cannot commit");
  return Outcome::lost;
}

SchedulerProcess::Outcome SchedulerProcess::attempt(const std::function<void()>& call) {
  try {
    call();
    return Outcome::ok;
  } catch (const StoreError& e) {
    world_.log([&] { return name_ + ": store says " + std::string(tutti::name(e.kind)) + ": " + e.what(); });
    if (e.kind == StoreError::conflict || e.kind == StoreError::corrupt)
      world_.fail(std::string("I3: decided on rows that are not so: ") + tutti::name(e.kind) + ": " +
                  e.what());
    return e.kind == StoreError::deposed ? Outcome::deposed : Outcome::lost;
  }
}

void SchedulerProcess::commit(const Batch& batch) {
  if (canary_ == Canary::old_term_writes) {
    server_.database->commit(batch, server_.database->leader().term);
  } else if (const auto fault = std::exchange(server_.next_fault, db::MemoryStore::Fault::none);
             fault == db::MemoryStore::Fault::in_doubt_applied) {
    store_->fail_next_commit(fault);
    try {
      store_->commit(batch);
    } catch (const StoreError& e) {
      if (e.kind == StoreError::in_doubt) written(batch);
      throw;
    }
  } else {
    store_->fail_next_commit(fault);
    store_->commit(batch);
  }
  world_.note(batch.events.size() * 31 + batch.attempts.size());
  if (const Term newest = server_.database->leader().term; newest != term_)
    return world_.fail("I9: " + name_ + " has written under term " + to_string(term_) + ", the newest is " +
                       to_string(newest));
  written(batch);
}

// In the same transaction, tasks that have no rows get them, or their array becomes one row.
void SchedulerProcess::written(const Batch& batch) {
  server_.folded.unfold(batch);
  const bool folds = !is_before() && !server_.older_connected();
  if (folds && server_.folded.fold(batch) > 0) world_.mark("an array is one row");
  if (!is_before() && !folds && FoldedTasks::foldable(batch))
    world_.mark("an array is not folded beside a scheduler of the version before");
  oracle_.committed(batch);
}

}  // namespace tutti::sim
