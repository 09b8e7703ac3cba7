#include "scheduler/service/leader.h"

#include <malloc.h>

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <new>
#include <utility>

#include "api/wire/job_spec_codec.h"
#include "db/aside.h"
#include "scheduler/model/assert.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/event_log.h"

namespace tutti {

namespace asio = boost::asio;

namespace {

constexpr Duration kFirstRetry = std::chrono::milliseconds(100);

SpecPtr parse_stored(std::string_view json) {
  auto parsed = wire::parse_spec_json(json, Now{});
  if (!parsed.problems.empty())
    spdlog::error("a stored spec is not legal any more: {}", parsed.problems[0].message);
  return std::make_shared<const JobSpec>(std::move(parsed.spec));
}

}  // namespace

Leader::Leader(asio::any_io_executor executor, LeaderSettings settings, StoreThread& store,
               LeaseTable& leases, Metrics& metrics)
    : executor_(executor),
      settings_(std::move(settings)),
      store_(store),
      leases_(leases),
      metrics_(metrics),
      timer_(executor),
      retry_timer_(executor),
      health_timer_(executor),
      watch_timer_(executor) {}

// Never earlier than what has been written: rows that end before they begin are refused by the store, and a
// clock that was set back would make us ask for the same impossible commit for ever. It must not stand still
// either, or no back-off would end: behind what has been written our clock runs at half speed until the
// machine's has caught up.
Now Leader::now() const {
  Now t = now_of_machine();
  const Duration passed = latest_mono_ == Mono{} ? Duration::zero() : t.mono - latest_mono_;
  t.wall = latest_wall_ = std::max(t.wall, latest_wall_ + passed / 2);
  latest_mono_ = t.mono;
  return t;
}

void Leader::start(WorkerMessages& workers, std::function<void(std::string)> deposed) {
  workers_ = &workers;
  pulse_at_ = boot_now();
  deposed_ = std::move(deposed);
  store_.write([card = settings_.card](Store& store) { store.introduce(card); }, [](std::exception_ptr) {});
  take_lead();
  check_health();
  watch_leader();
}

void Leader::stop(std::function<void()> stopped) {
  stopped_ = std::move(stopped);
  stopping_ = true;
  timer_.cancel();
  retry_timer_.cancel();
  health_timer_.cancel();
  watch_timer_.cancel();
  refuse_all("the scheduler is stopping");
  if (!committing_) finish_stop();
}

// Nothing is said to any worker any more, so the next leader need not wait for our leases to be forgotten.
void Leader::finish_stop() {
  if (!stopped_) return;
  store_.write([](Store& store) { store.resign(); },
               [stopped = std::exchange(stopped_, nullptr)](std::exception_ptr) { stopped(); });
}

// ---------------------------------------------------------------- lead, load, recover

void Leader::take_lead() {
  if (stopping_ || deposed_already_) return;
  auto term = std::make_shared<Term>();
  auto others = std::make_shared<Duration>();
  store_.write(
      [term, others, holder = settings_.holder](Store& store) {
        *term = store.acquire_leadership(holder);
        *others = store.predecessors_renew();
      },
      [this, term, others, asked_at = boot_now()](std::exception_ptr failure) {
        if (stopping_) return;
        if (!failure) store_answers();
        if (!failure) return led(*term, *others, asked_at);
        // Waiting for the lock is what a standby does; the next wait begins at once, so that it has the lock
        // the moment it comes free.
        const bool known = std::exchange(lock_is_taken_, is_taken(failure));
        if (lock_is_taken_) store_answers();
        if (lock_is_taken_ && !known && seen_) look_at_leader(LeaderView(*seen_));
        if (lock_is_taken_) return ask_again_for_the_lock();
        if (is_deposed(failure)) return;
        detail_ = "waiting for the lead: " + text_of(failure);
        store_lost(text_of(failure));
        retry_later([this] { take_lead(); });
      });
}

void Leader::led(Term term, Duration others_renew, Mono asked_at) {
  term_ = term;
  confirmed_at_ = asked_at;
  lock_is_taken_ = false;
  spdlog::info("leader, term {}, {}", term_.value, settings_.holder);
  metrics_.leader_changed(true);
  if (others_renew > Duration::zero()) {
    others_renew_until_ = boot_now() + others_renew;
    leases_.others_renew_until(others_renew_until_);
    spdlog::warn(
        "a leader before this one may live: nodes that do not come here are not given up for {:.0f} s, or "
        "until it is known to be over",
        to_seconds(others_renew));
  }
  load();
}

void Leader::load() {
  if (stopping_) return;
  const std::shared_ptr<Snapshot> snapshot(new Snapshot, [](Snapshot* rows) {
    delete rows;
    ::malloc_trim(0);  // a million jobs twice over: glibc would keep one of them for good
  });
  store_.write([snapshot](Store& store) { *snapshot = store.load(); },
               [this, snapshot, asked_at = boot_now()](std::exception_ptr failure) {
                 if (!failure) {
                   confirmed_at_ = asked_at;  // it has written that
                   store_answers();
                   return loaded(snapshot);
                 }
                 if (is_deposed(failure)) return;
                 // Whoever cannot hold the rows does not keep the lead from others: the process ends.
                 if (is_no_memory(failure)) std::rethrow_exception(failure);
                 store_lost(text_of(failure));
                 detail_ = "recovering: " + text_of(failure);
                 retry_later([this] { load(); });
               });
}

void Leader::loaded(std::shared_ptr<Snapshot> snapshot) {
  if (stopping_ || deposed_already_) return;
  latest_wall_ = std::max(latest_wall_, snapshot->written_at);
  for (const auto& a : snapshot->allocations) latest_wall_ = std::max(latest_wall_, a.from);
  for (const auto& j : snapshot->jobs) latest_wall_ = std::max(latest_wall_, j.created_at);
  for (const auto& n : snapshot->nodes) latest_wall_ = std::max(latest_wall_, n.state_at);
  const Now time = now();
  if (witness_ != nullptr) witness_->began(settings_.control, snapshot, leases_, time);
  plane_ = std::make_unique<ControlPlane>(settings_.control, *snapshot,
                                          SpecText{.parse = parse_stored, .encode = wire::encode_spec},
                                          leases_, time);
  plane_->watched_by(witness_);
  committed_since_load_ = false;
  last_store_contact_ = boot_now();
  detail_ = "leader, term " + to_string(term_);
  spdlog::info("rows loaded: {} jobs, {} live attempts, {} nodes", snapshot->jobs.size(),
               snapshot->attempts.size(), snapshot->nodes.size());
  workers_->resync(snapshot->nodes);
  hold_suspects();
  tick_due_ = true;
  kick();
  arm_timer();
}

void Leader::recover(Why kind, const std::string& why) {
  if (kind == Why::store_lost)
    store_lost(why);
  else
    spdlog::error("a batch is refused by the store, recovering from rows: {}", why);
  metrics_.recoveries().Increment();
  plane_.reset();
  detail_ = "recovering: " + why;
  refuse_all("the store is unavailable");
  if (std::exchange(committed_since_load_, false)) return load();
  retry_later([this] { load(); });  // what fails right after a load must not spin
}

void Leader::retry_later(std::function<void()> what) {
  retry_timer_.expires_after(retry_delay_);
  retry_delay_ = std::min<Duration>(retry_delay_ * 2, std::chrono::seconds(1));
  retry_timer_.async_wait([what = std::move(what)](boost::system::error_code ec) {
    if (!ec) what();
  });
}

// Somebody else leads, or nobody of our version can any more.
bool Leader::is_deposed(std::exception_ptr why) {
  try {
    std::rethrow_exception(why);
  } catch (const StoreError& error) {
    if (error.kind != StoreError::deposed && error.kind != StoreError::outdated) return false;
    depose(error.what());
    return true;
  } catch (...) {
    return false;
  }
}

void Leader::depose(const std::string& why) {
  if (std::exchange(deposed_already_, true)) return;  // from here on no lease is renewed
  plane_.reset();
  detail_ = "deposed";
  refuse_all("this scheduler no longer leads");
  deposed_(why);
}

// The store has looked at the batch and will not have it, today or tomorrow.
bool Leader::is_refused(std::exception_ptr why) {
  try {
    std::rethrow_exception(why);
  } catch (const StoreError& error) {
    return error.kind == StoreError::conflict || error.kind == StoreError::corrupt;
  } catch (...) {
    return false;
  }
}

bool Leader::is_in_doubt(std::exception_ptr why) {
  try {
    std::rethrow_exception(why);
  } catch (const StoreError& error) {
    return error.kind == StoreError::in_doubt;
  } catch (...) {
    return true;  // such as no memory for the answer to a COMMIT that was sent
  }
}

bool Leader::is_no_memory(std::exception_ptr why) {
  try {
    std::rethrow_exception(why);
  } catch (const std::bad_alloc&) {
    return true;
  } catch (...) {
    return false;
  }
}

Error Leader::unavailable(std::string why) {
  return Error{
      .code = Errc::unavailable, .message = std::move(why), .hint = "try again in a second", .field = ""};
}

void Leader::refuse_all(const std::string& why) {
  inbox_weight_ = 0;
  for (auto& command : std::exchange(inbox_, {}))
    if (command.refuse) command.refuse(unavailable(why));
}

// ---------------------------------------------------------------- decide, commit, speak

bool Leader::post(Command command) {
  if (!plane_ || stopping_ || !has_room(command.room)) {
    if (command.refuse)
      command.refuse(unavailable(!plane_     ? "the scheduler is not ready: " + detail_
                                 : stopping_ ? "the scheduler is stopping"
                                             : "the scheduler is busy: its inbox is full"));
    return false;
  }
  inbox_.push_back(std::move(command));
  try {
    kick();
  } catch (...) {  // no memory for it: what is told to have failed must not happen later
    inbox_.pop_back();
    throw;
  }
  inbox_weight_ += inbox_.back().weight;
  return true;
}

bool Leader::has_room(Command::Room room) const {
  if (room == Command::Room::always) return true;
  return inbox_weight_ < settings_.max_inbox * (room == Command::Room::workers ? 2 : 1);
}

// Runs a batch soon: after everything that is already on its way to the inbox.
void Leader::kick() {
  if (kicked_ || committing_ || !plane_ || stopping_) return;  // after the last word nothing is decided
  if (inbox_.empty() && !tick_due_ && !starts_go_on_) return;
  asio::post(executor_, [this] {
    kicked_ = false;
    if (!committing_ && plane_ && !stopping_) run_batch();
  });
  kicked_ = true;  // not before: if that has thrown, the next command is to try again
}

void Leader::run_batch() {
  InFlight work = decide();
  if (!work.batch->empty()) return commit(std::move(work));
  took_effect(work);
  speak(std::move(work));
  kick();
}

Leader::InFlight Leader::decide() {
  const Now time = now();
  InFlight work;
  work.began = time.mono;
  work.turn = next_turn();
  const bool all = work.turn == Turn::all;
  if (all || work.turn == Turn::command) take_commands(work, all ? settings_.max_batch : 1, time);
  const Mono decided_at = boot_now();
  const bool ticks = (all || work.turn == Turn::tick) && std::exchange(tick_due_, false);
  if (ticks)
    plane_->on_tick(time, all ? kAllStarts : 0);
  else if (all || work.turn == Turn::start)
    plane_->plan(time, all ? kAllStarts : 1);
  work.decided = boot_now();
  metrics_.planned(to_seconds(work.decided - decided_at));
  Output out = plane_->take_output();
  work.batch = std::make_shared<Batch>(std::move(out.batch));
  starts_go_on_ =
      !all && (work.turn == Turn::command || ticks || (work.turn == Turn::start && !work.batch->empty()));
  work.stages = std::move(out.stages);
  work.effects = std::move(out.effects);
  arm_timer();
  return work;
}

void Leader::take_commands(InFlight& into, std::size_t most, Now time) {
  while (!inbox_.empty() && into.commands.size() < most) {
    const std::size_t jobs = plane_->changed_jobs() + inbox_.front().weight;
    if (!into.commands.empty() && jobs > settings_.max_batch_jobs) return;
    inbox_weight_ -= inbox_.front().weight;
    into.commands.push_back(std::move(inbox_.front()));
    inbox_.pop_front();
    auto after = into.commands.back().decide(*plane_, time);
    if (!after) continue;
    into.afters.push_back(std::move(after));
    into.reads_plane = into.reads_plane || into.commands.back().reads_plane;
  }
}

void Leader::commit(InFlight work) {
  committing_ = true;
  commit_began_ = work.began;
  auto batch = work.batch;
  auto shared = std::make_shared<InFlight>(std::move(work));
  store_.write(
      [batch, shared](Store& store) {
        store.commit(*batch);
        shared->committed = boot_now();
      },
      [this, shared](std::exception_ptr failure) {
        committing_ = false;
        commit_began_.reset();
        if (failure)
          failed(std::move(*shared), failure);
        else
          committed(std::move(*shared));
        if (stopping_) finish_stop();
      });
}

// The database need not wait for our words: what has come meanwhile is decided and on its way to it before
// they are said.
void Leader::committed(InFlight done) {
  took_effect(done);
  std::optional<InFlight> next;
  try {
    if (!done.reads_plane && alone_ == 0 && plane_ && !stopping_ && !inbox_.empty()) next = decide();
  } catch (...) {  // what is committed is answered all the same
    speak(std::move(done));
    throw;
  }
  const bool changes = next && !next->batch->empty();
  if (changes) commit(*std::exchange(next, std::nullopt));
  speak(std::move(done));
  if (next) {
    took_effect(*next);
    speak(*std::move(next));
  }
  kick();
}

void Leader::took_effect(const InFlight& done) {
  if (witness_ != nullptr) witness_->committed();
  if (!done.batch->empty()) {
    committed_at_ = done.committed;
    last_store_contact_ = std::max(last_store_contact_, committed_at_);
    confirmed_at_ = done.began;
    committed_since_load_ = true;
    retry_delay_ = kFirstRetry;
    commit_ms_ = to_seconds(committed_at_ - done.began) * 1e3;
    metrics_.batch_committed(*done.batch, plane_.get(), to_seconds(committed_at_ - done.began));
    log_events(*done.batch, plane_.get());
    if (observer_) observer_(*done.batch, done.decided - done.began, committed_at_ - done.decided);
    for (const auto& event : done.batch->events) {
      const auto sinks = subscriptions_;  // a sink may unsubscribe
      for (const auto& [id, sink] : sinks) sink(event);
    }
  }
  metrics_.recovery_stages(done.stages);  // not before: what is lost with a commit is decided again
  alone_ -= std::min(alone_, done.commands.size());
}

void Leader::speak(InFlight done) {
  for (auto& after : done.afters) after();
  for (auto& effect : done.effects) workers_->deliver(std::move(effect));
}

void Leader::failed(InFlight lost, std::exception_ptr why) {
  metrics_.commit_failed(why);
  Error refusal = unavailable("the store did not confirm the change: " + text_of(why));
  if (is_in_doubt(why))
    refusal = Error{.code = Errc::in_doubt,
                    .message =
                        "the store was lost while it took the change, it is not known whether this "
                        "happened: " +
                        text_of(why),
                    .hint = "repeat it under the same Idempotency-Key, or look first",
                    .field = ""};
  if (is_refused(why)) refusal = refused(lost, text_of(why), std::move(refusal));
  for (auto& command : lost.commands)
    if (command.refuse) command.refuse(refusal);
  if (!is_deposed(why)) recover(is_refused(why) ? Why::batch_refused : Why::store_lost, text_of(why));
}

// Every batch comes here. A tick that is due sooner stays as it is: batches that follow each other closely
// must not put it off, or no lease would end while there is much to do.
void Leader::arm_timer() {
  if (!plane_ || stopping_) return;
  const Mono at = boot_now() + plane_->next_wake(now());
  if (tick_at_ && *tick_at_ <= at) return;
  tick_at_ = at;
  timer_.expires_after(at - boot_now());
  timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    tick_at_.reset();
    tick_due_ = true;
    if (committing_) return;  // the batch that follows the commit ticks
    kick();
  });
}

}  // namespace tutti
