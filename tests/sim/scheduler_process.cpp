#include "tests/sim/scheduler_process.h"

#include <utility>

#include "api/wire/job_spec_codec.h"
#include "scheduler/model/assert.h"
#include "scheduler/model/lead_rules.h"

namespace tutti::sim {
namespace {

constexpr Duration kHealthEvery = 1s;
constexpr Duration kLockPause = 200ms;
constexpr std::size_t kMaxInbox = 2000;
constexpr std::size_t kMaxBatch = 100;
constexpr Instant kEpoch{std::chrono::hours(24 * 365 * 56)};
constexpr Mono kBoot{std::chrono::hours(1)};

LeaseSettings lease_settings(Canary canary) {
  LeaseSettings s;
  if (canary == Canary::short_lease) {
    s.lease = 3s;
    s.kill_margin = 0ms;
  }
  if (canary == Canary::no_margin) s.kill_margin = 0ms;
  return s;
}

ControlSettings control_settings(const Server& server) {
  ControlSettings s;
  s.continue_for = server.continue_for;
  s.delete_after = 3s;
  s.delete_again = 2s;
  s.prepare_deadline = 60s;  // both longer than the slowest commits in a row
  s.launch_deadline = 40s;
  s.inspect_after_failure = true;
  s.inspect_idle_every = 60s;
  return s;
}

}  // namespace

SpecPtr parse_stored_spec(std::string_view json) {
  auto parsed = wire::parse_spec_json(json, Now{});
  TUTTI_ASSERT(parsed.ok(), "the simulation writes legal specs");
  return std::make_shared<const JobSpec>(std::move(parsed.spec));
}

SchedulerProcess::SchedulerProcess(Network& network, Server& server, Oracle& oracle, Canary canary,
                                   std::string name, std::uint64_t stream)
    : world_(network.world()),
      network_(network),
      server_(server),
      oracle_(oracle),
      canary_(canary),
      name_(std::move(name)),
      dice_(world_.dice(stream)),
      drift_ppm_(dice_.between(-150, 150)) {
  server_.schedulers.push_back(this);
}

// As Leader::now(): its calendar never falls behind what has been written.
Now SchedulerProcess::clock() const {
  const auto passed_us = world_.now().count();
  const Mono mono = kBoot + Duration(passed_us + passed_us * drift_ppm_ / 1'000'000);
  const Duration passed = latest_mono_ == Mono{} ? Duration::zero() : mono - latest_mono_;
  latest_wall_ = std::max(kEpoch + world_.now() + skew_, latest_wall_ + passed / 2);
  latest_mono_ = mono;
  return {latest_wall_, mono};
}

void SchedulerProcess::gate(std::function<void()> what) {
  if (!alive_) return;
  if (paused_)
    deferred_.push_back(std::move(what));
  else
    what();
}

void SchedulerProcess::after(Duration delay, std::function<void()> what) {
  world_.after(delay, [this, life = life_, what = std::move(what)]() mutable {
    if (life == life_) gate(std::move(what));
  });
}

// ---------------------------------------------------------------- life and death

void SchedulerProcess::start() {
  version_ = installed_;
  world_.log([&] { return name_ + (is_before() ? " starts, of the version before" : " starts"); });
  alive_ = true;
  paused_ = false;
  ++life_;
  leases_ = std::make_unique<LeaseTable>(lease_settings(canary_));
  store_ = std::make_shared<db::MemoryStore>(server_.database);
  latest_wall_ = {};
  latest_mono_ = {};
  store_->set_time([this] { return kEpoch + world_.now(); });  // the server's
  // A data directory that was copied, machine and all, is to be another instance.
  store_->introduce({.url = name_,
                     .instance = canary_ == Canary::one_instance ? "copied" : name_,
                     .key_print = "",
                     .renews_for = server_.renews_for});
  store_->set_reachable(server_.up);
  take_lead();
  check_health();
}

void SchedulerProcess::kill() {
  if (!alive_) return;
  world_.log([&] { return name_ + " is killed"; });
  // What it had sent to the server happens or does not.
  if (auto work = std::exchange(under_way_, nullptr); work && has_store() && dice_.chance(500)) (*work)();
  alive_ = paused_ = leading_ = doomed_ = false;
  stopping_.reset();
  before_next_answer_ = nullptr;
  term_ = {};
  confirmed_at_ = others_renew_until_ = {};
  before_commit_.reset();
  ++life_;
  deferred_.clear();
  for (const auto& [link, c] : std::exchange(connections_, {})) c->link->vanish(Side::scheduler, true);
  by_node_.clear();
  known_.clear();
  said_.clear();
  plane_.reset();
  inbox_.clear();
  committing_ = kicked_ = tick_due_ = false;
  store_.reset();
}

// As Leader::stop(): no worker is answered from here on, and what is under way is waited for.
void SchedulerProcess::restart_in_order(Duration down) {
  if (!alive_ || stopping_) return;
  world_.log([&] { return name_ + " stops in good order"; });
  stopping_ = down;
  refuse_all();
  by_node_.clear();
  for (const auto& [link, c] : std::exchange(connections_, {})) c->link->abort(Side::scheduler, "stopping");
  if (!committing_) finish_stop();
}

void SchedulerProcess::finish_stop() {
  committing_ = true;  // nothing else is asked any more
  store_op(
      Ask::resign,
      [this] {
        store_->resign();
        return Outcome::ok;
      },
      [this](Outcome) {
        const Duration down = *stopping_;
        kill();
        world_.after(down, [this] {
          if (!alive_) start();
        });
      });
}

void SchedulerProcess::pause() {
  world_.log([&] { return name_ + " is paused"; });
  paused_ = true;
}

void SchedulerProcess::resume() {
  if (!paused_) return;
  world_.log([&] { return name_ + " continues"; });
  paused_ = false;
  auto waiting = std::exchange(deferred_, {});
  for (auto& what : waiting) gate(std::move(what));
}

// ---------------------------------------------------------------- lead, load, recover

void SchedulerProcess::take_lead() {
  if (stopping_) return;
  auto term = std::make_shared<Term>();
  auto others = std::make_shared<Duration>();
  store_op(
      Ask::lead,
      [this, term, others] {
        return attempt([&] {
          *term = store_->acquire_leadership(name_);
          if (is_before() && canary_ != Canary::not_unfolded && server_.folded.unfold_all() > 0)
            world_.mark("tasks get their rows for a leader of the version before");
          *others = store_->predecessors_renew();
        });
      },
      [this, term, others, asked_at = clock().mono](Outcome outcome) {
        if (stopping_) return;
        if (outcome == Outcome::ok) return led(*term, *others, asked_at);
        if (outcome == Outcome::lost) return retry_later([this] { take_lead(); });
        after(kLockPause, [this] { take_lead(); });  // another one leads
      });
}

void SchedulerProcess::led(Term term, Duration others_renew, Mono asked_at) {
  world_.log([&] { return name_ + " leads, term " + to_string(term); });
  term_ = term;
  leading_ = true;
  if (is_before()) world_.mark("a scheduler of the version before leads");
  if (std::exchange(server_.led_by_before, is_before()) != is_before() && term.value > 1)
    world_.mark(is_before() ? "a leader of the version before follows a newer one"
                            : "a leader follows one of the version before");
  confirmed_at_ = asked_at;
  if (others_renew > Duration::zero() && canary_ != Canary::forget_predecessors) {
    world_.mark("a leader believes in leases of one before it");
    others_renew_until_ = clock().mono + others_renew;
    leases_->others_renew_until(others_renew_until_);
  }
  load();
}

bool SchedulerProcess::may_renew() const {
  return leads() && !stopping_ &&
         (canary_ == Canary::renew_unconfirmed ||
          lead::may_renew(clock().mono, confirmed_at_, server_.renews_for));
}

void SchedulerProcess::confirmed(Mono asked_at) {
  confirmed_at_ = canary_ == Canary::confirmed_when_heard ? clock().mono : asked_at;
}

void SchedulerProcess::load() {
  if (stopping_) return;
  auto snapshot = std::make_shared<Snapshot>();
  store_op(
      Ask::load, [this, snapshot] { return attempt([&] { *snapshot = read_rows(); }); },
      [this, snapshot, asked_at = clock().mono](Outcome outcome) {
        if (stopping_) return;
        if (canary_ == Canary::reads_confirm && outcome == Outcome::ok) confirmed(asked_at);
        if (outcome == Outcome::deposed) return step_down();
        if (outcome != Outcome::ok) return retry_later([this] { load(); });
        if (auto denied = std::exchange(before_commit_, std::nullopt)) *snapshot = std::move(*denied);
        loaded(snapshot);
      });
}

Snapshot SchedulerProcess::read_rows() const {
  Snapshot rows = behind_ ? *behind_ : store_->load();
  if (!is_before()) return rows;
  if (!behind_) server_.folded.hide_in(rows);
  before::forget_younger_columns(rows);
  return rows;
}

void SchedulerProcess::loaded(const std::shared_ptr<const Snapshot>& rows) {
  const Snapshot& snapshot = *rows;
  latest_wall_ = std::max(latest_wall_, snapshot.written_at);
  for (const auto& a : snapshot.allocations) latest_wall_ = std::max(latest_wall_, a.from);
  for (const auto& j : snapshot.jobs) latest_wall_ = std::max(latest_wall_, j.created_at);
  for (const auto& n : snapshot.nodes) latest_wall_ = std::max(latest_wall_, n.state_at);
  if (canary_ == Canary::no_boot_grace)  // as if every node had been silent for long
    for (const auto& node : snapshot.nodes)
      if (leases_->heard_at(node.id) == Mono{}) leases_->grant(node.id, clock().mono - 7s);
  if (witness_ != nullptr) witness_->began(control_settings(server_), rows, *leases_, clock());
  plane_ = std::make_unique<ControlPlane>(control_settings(server_), snapshot,
                                          SpecText{.parse = parse_stored_spec, .encode = wire::encode_spec},
                                          *leases_, clock());
  plane_->watched_by(witness_);
  world_.log([&] {
    return name_ + ": rows loaded: " + std::to_string(snapshot.jobs.size()) + " jobs, " +
           std::to_string(snapshot.attempts.size()) + " attempts";
  });
  std::string why;
  if (!plane_->invariants_hold(&why)) world_.fail("after recovery: " + why);
  if (!behind_ && server_.database->leader().term == term_) oracle_.led(*plane_);
  retry_delay_ = 100ms;
  last_store_contact_ = clock().mono;
  resync(snapshot.nodes);
  tick_due_ = true;
  kick();
  arm_timer();
}

void SchedulerProcess::recover() {
  if (stopping_) return finish_stop();
  plane_.reset();
  refuse_all();
  load();
}

void SchedulerProcess::step_down() {
  if (stopping_) return finish_stop();
  world_.log([&] { return name_ + " is deposed"; });
  world_.mark("deposed");
  plane_.reset();
  leading_ = false;
  refuse_all();
  after(0us, [this] {  // the process ends, and whoever runs it starts it again
    kill();
    world_.after(dice_.between(100ms, 2s), [this] {
      if (!alive_) start();
    });
  });
}

void SchedulerProcess::retry_later(std::function<void()> what) {
  after(retry_delay_, std::move(what));
  retry_delay_ = std::min<Duration>(retry_delay_ * 2, 1s);
}

void SchedulerProcess::refuse_all() {
  for (auto& command : std::exchange(inbox_, {}))
    if (command.refuse) command.refuse();
}

void SchedulerProcess::check_health() {
  after(kHealthEvery, [this] {
    if (plane_ && !committing_ && !stopping_ &&
        (clock().mono - last_store_contact_ >= kHealthEvery || waits_for_others()))
      confirm();
    check_health();
  });
}

// By a write; and whether those before it are known to be over.
void SchedulerProcess::confirm() {
  committing_ = true;
  auto others = std::make_shared<Duration>(1s);
  store_op(
      Ask::confirm,
      [this, others] {
        return attempt([&] {
          if (canary_ == Canary::old_term_writes) return;
          store_->commit({});
          *others = store_->predecessors_renew();
        });
      },
      [this, others, asked_at = clock().mono](Outcome outcome) {
        committing_ = false;
        if (stopping_) return finish_stop();
        if (outcome == Outcome::deposed) return step_down();
        if (outcome != Outcome::ok) return recover();
        confirmed(asked_at);
        last_store_contact_ = clock().mono;
        if (*others <= Duration::zero() && waits_for_others()) {
          world_.mark("those before it are known to be over");
          others_renew_until_ = {};
          leases_->nobody_else_renews(clock().mono);
          tick_due_ = true;
        }
        kick();
      });
}

// ---------------------------------------------------------------- decide, commit, speak

bool SchedulerProcess::post(Command command) {
  if (!plane_ || stopping_ || inbox_.size() >= kMaxInbox) {
    if (command.refuse) command.refuse();
    return false;
  }
  inbox_.push_back(std::move(command));
  kick();
  return true;
}

void SchedulerProcess::kick() {
  if (kicked_ || committing_ || !plane_ || stopping_ || (inbox_.empty() && !tick_due_)) return;
  kicked_ = true;
  after(0us, [this] {
    kicked_ = false;
    if (!committing_ && plane_ && !stopping_) run_batch();
  });
}

void SchedulerProcess::run_batch() {
  const auto work = decide();
  if (work == nullptr) return;
  if (!work->batch.empty()) return send(work);
  took_effect(*work);
  speak(*work);
  kick();
}

// nullptr: the control plane is not sound, and the run is over.
std::shared_ptr<SchedulerProcess::InFlight> SchedulerProcess::decide() {
  const Now time = clock();
  auto work = std::make_shared<InFlight>();
  while (!inbox_.empty() && work->commands.size() < kMaxBatch) {
    work->commands.push_back(std::move(inbox_.front()));
    inbox_.pop_front();
    if (auto after_commit = work->commands.back().decide(*plane_, time))
      work->afters.push_back(std::move(after_commit));
  }
  if (std::exchange(tick_due_, false))
    plane_->on_tick(time);
  else
    plane_->plan(time);
  std::string why;
  if (time_to_check() && !plane_->invariants_hold(&why)) {
    world_.fail("invariant of the control plane: " + why);
    return nullptr;
  }
  Output out = plane_->take_output();
  work->batch = std::move(out.batch);
  work->effects = std::move(out.effects);
  work->began = time.mono;
  arm_timer();
  return work;
}

void SchedulerProcess::send(const std::shared_ptr<InFlight>& work) {
  if (canary_ == Canary::speak_before_commit) {
    for (auto& speak : std::exchange(work->afters, {})) speak();
    for (auto& effect : std::exchange(work->effects, {})) deliver(std::move(effect));
  }
  committing_ = true;
  if (canary_ == Canary::in_doubt_denied) before_commit_ = server_.database->load();
  store_op(
      Ask::commit, [this, work] { return attempt([&] { commit(work->batch); }); },
      [this, work](Outcome outcome) {
        committing_ = false;
        if (outcome == Outcome::ok)
          committed(*work);
        else
          failed(*work, outcome);
      });
}

// It looks at every node, GPU and job: on large clusters not after each of thousands of batches a second.
bool SchedulerProcess::time_to_check() {
  constexpr std::size_t kSmall = 100;
  if (plane_->cluster().nodes.size() <= kSmall) return true;
  if (world_.now() < checked_at_ + 500ms) return false;
  checked_at_ = world_.now();
  return true;
}

// As the real one: what has come meanwhile is on its way to the database before this is spoken of.
void SchedulerProcess::committed(InFlight& done) {
  took_effect(done);
  const auto next = !plane_ || stopping_ || inbox_.empty() ? nullptr : decide();
  const bool changes = next != nullptr && !next->batch.empty();
  if (changes) send(next);
  speak(done);
  if (next != nullptr && !changes) {
    took_effect(*next);
    speak(*next);
  }
  if (stopping_) return finish_stop();
  kick();
}

void SchedulerProcess::took_effect(const InFlight& done) {
  if (witness_ != nullptr) witness_->committed();
  if (!done.batch.empty()) {
    last_store_contact_ = clock().mono;
    before_commit_.reset();
    confirmed(done.began);
    world_.log([&] {
      std::string text = name_ + " committed";
      for (const auto& e : done.batch.events)
        text += "\n              " +
                (e.job ? "job " + to_string(e.job) + "/" + to_string(e.epoch) : "node " + to_string(e.node)) +
                " " + e.kind + " " + e.from + "->" + e.to + " " + std::string(tutti::name(e.cause)) + " " +
                e.detail;
      return text;
    });
  }
}

void SchedulerProcess::speak(InFlight& done) {
  for (auto& after_commit : done.afters) after_commit();
  for (auto& effect : done.effects) deliver(std::move(effect));
}

void SchedulerProcess::failed(InFlight& lost, Outcome why) {
  if (canary_ == Canary::blind_recovery && why == Outcome::lost) {  // goes on as if it had been committed
    for (auto& speak : lost.afters) speak();
    for (auto& effect : lost.effects) deliver(std::move(effect));
    (void)attempt([&] { (void)store_->load(); });
    return kick();
  }
  for (auto& command : lost.commands)
    if (command.refuse) command.refuse();
  if (why == Outcome::deposed) return step_down();
  recover();
}

void SchedulerProcess::arm_timer() {
  if (!plane_ || stopping_) return;
  after(plane_->next_wake(clock()), [this, armed = ++timer_] {
    if (armed != timer_) return;
    tick_due_ = true;
    if (!committing_) kick();
  });
}

}  // namespace tutti::sim
