// What can happen next, and what must never be true. Leases are asked of the real LeaseTable, which is filled
// from the state before each step and read back after it.
#include <algorithm>
#include <utility>

#include "scheduler/core/lease_table.h"
#include "scheduler/model/lead_rules.h"
#include "tests/model/model_state.h"

namespace tutti::model {
namespace {

constexpr Duration kTick = std::chrono::seconds(1);
constexpr Mono kZero{std::chrono::hours(1)};
constexpr std::array<std::string_view, kMutations> kNames = {"none",
                                                             "renew_unconfirmed",
                                                             "reads_confirm",
                                                             "forget_predecessors",
                                                             "settle_by_hello",
                                                             "falling_terms",
                                                             "over_unproven",
                                                             "no_margin",
                                                             "no_boot_grace",
                                                             "lease_from_ack",
                                                             "old_term_writes",
                                                             "order_before_commit",
                                                             "answer_before_commit",
                                                             "forget_epochs",
                                                             "gives_up_once",
                                                             "forgets_rows"};

Mono mono(std::int8_t at) { return kZero + at * kTick; }
std::int8_t ticks(Mono at) { return static_cast<std::int8_t>((at - kZero) / kTick); }
std::string of(std::size_t i) { return std::string(1, static_cast<char>('A' + i)); }
std::string node_name(std::size_t n) { return std::string(1, static_cast<char>('x' + n)); }

}  // namespace

std::string_view name(Mutation mutation) { return kNames[static_cast<std::size_t>(mutation)]; }

// The steps of one state. Each makes a copy, changes it, and puts it out.
class Rules::Step {
 public:
  Step(const Rules& rules, const State& from, bool words, std::vector<Next>& out)
      : b_(rules.bounds_), m_(rules.mutation_), from_(from), words_(words), out_(out) {}

  void all() {
    tick();
    for (std::size_t i = 0; i < kSchedulers; ++i) {
      leads(i);
      decides(i);
      if (from_.schedulers[i].op != Write::none)
        put([&](State& s) { answered(s, i); },
            [&] {
              return of(i) + (from_.schedulers[i].op_done ? " is answered, and says what follows"
                                                          : " is told that nothing was written");
            });
      faults(i);
    }
    for (std::size_t n = 0; n < kNodes; ++n) node(n);
  }

  void tick() {
    put(
        [&](State& s) {
          s.now = 1;
          for (auto& w : s.workers)  // it kills its ranks as late as it may
            if (w.running != 0 && w.lease + b_.margin <= 1) w.running = 0;
        },
        [&] {
          std::string text = "a tick";
          for (std::size_t n = 0; n < kNodes; ++n)
            if (const auto& w = from_.workers[n]; w.running != 0 && w.lease + b_.margin <= 1)
              text += "; " + node_name(n) + " has killed its ranks, its lease is over";
          return text;
        });
  }

  // ---------------------------------------------------------------- leading
  void leads(std::size_t i) {
    const Scheduler& p = from_.schedulers[i];
    const bool free = std::ranges::none_of(from_.schedulers, &Scheduler::session);
    const bool own_left = std::ranges::any_of(from_.led, [&](const Led& l) {
      return (l.by == i + 1 || (m_ == Mutation::over_unproven && l.by != 0)) && !l.over;
    });
    if (!p.leads && !free && own_left)
      put([&](State& s) { end_terms_of(s, i); },
          [&] { return of(i) + " waits for the lock, and says that its former self is over"; });
    if (!p.leads && free && from_.term < b_.terms)
      put([&](State& s) { take_lead(s, i); },
          [&] { return of(i) + " leads, term " + std::to_string(from_.term + 1); });
    if (!p.leads) return;
    const bool newest = p.term == from_.term;
    if (!p.ready && (p.session || free || !newest))
      put([&](State& s) { load(s, i); },
          [&] {
            return newest ? of(i) + " loads the rows"
                          : of(i) + " finds that term " + std::to_string(p.term) + " is over, and ends";
          });
    if (p.ready && p.op == Write::none && p.session && p.others_until > 0 && longest(from_, p.term) <= 0)
      put(
          [&](State& s) {
            with_table(s.schedulers[i], [](LeaseTable& t) { t.nobody_else_renews(mono(0)); });
          },
          [&] { return of(i) + " hears that those before it are over"; });
  }

  void end_terms_of(State& s, std::size_t i) const {
    for (auto& l : s.led)
      if (l.by == i + 1 || (m_ == Mutation::over_unproven && l.by != 0)) l.over = true;
  }

  // As the store computes it: of each term that is not over, since its successor began.
  int longest(const State& s, int term) const {
    int most = 0;
    for (int t = 1; t < term; ++t)
      if (!s.led[static_cast<std::size_t>(t - 1)].over)
        most = std::max(most, b_.renews + s.led[static_cast<std::size_t>(t)].began);
    return most;
  }

  void take_lead(State& s, std::size_t i) const {
    Scheduler& p = s.schedulers[i];
    end_terms_of(s, i);
    ++s.term;
    s.led[s.term - 1U] = {static_cast<std::uint8_t>(i + 1), false, 0};
    p.leads = p.session = true;
    p.term = s.term;
    if (const int most = longest(s, s.term); most > 0 && m_ != Mutation::forget_predecessors)
      with_table(p, [&](LeaseTable& t) { t.others_renew_until(mono(static_cast<std::int8_t>(most))); });
    load(s, i);
  }

  void load(State& s, std::size_t i) const {
    Scheduler& p = s.schedulers[i];
    if (p.term != s.term && m_ != Mutation::old_term_writes) {
      p = Scheduler{};
      return;
    }
    p.session = true;
    p.ready = true;
    p.view = s.rows;
    p.silent = {};
    with_table(p, [&](LeaseTable& t) {
      for (std::size_t n = 0; n < kNodes; ++n)
        if (!p.leases[n].known)
          t.grant(id(n), m_ == Mutation::no_boot_grace ? mono(static_cast<std::int8_t>(-b_.lease - b_.margin))
                                                       : mono(0));
    });
  }

  // ---------------------------------------------------------------- decide, commit, speak
  void decides(std::size_t i) {
    const Scheduler& p = from_.schedulers[i];
    if (!p.leads || !p.ready || p.op != Write::none) return;
    if (p.view.job == JobIs::unknown)
      put([&](State& s) { decide(s, i, Write::submit, 0); },
          [&] { return of(i) + " decides: the job is accepted"; });
    for (std::size_t n = 0; n < kNodes; ++n) {
      const bool here = from_.workers[n].phase != Worker::away && from_.workers[n].peer == i;
      if (p.view.job == JobIs::queued && p.view.epoch < b_.epochs && p.leases[n].held && here)
        put([&](State& s) { decide(s, i, Write::place, n); },
            [&] {
              return of(i) + " decides: epoch " + std::to_string(p.view.epoch + 1) + " on node " +
                     node_name(n);
            });
      if (p.view.job == JobIs::active && p.view.node == n && gives_up(p, n))
        put([&](State& s) { decide(s, i, Write::give_up, n); },
            [&] {
              return of(i) + " decides: epoch " + std::to_string(p.view.epoch) + " has ended, " +
                     node_name(n) + " is given up";
            });
    }
  }

  bool gives_up(const Scheduler& p, std::size_t n) const {
    const LeaseTable t = table(p);
    return mono(0) >= t.expires_at(id(n)) &&
           (t.held(id(n)) || (!p.silent[n] && m_ != Mutation::gives_up_once));
  }

  void decide(State& s, std::size_t i, Write op, std::size_t n) const {
    Scheduler& p = s.schedulers[i];
    p.op = op;
    p.op_node = static_cast<std::uint8_t>(n);
    if (op == Write::give_up) {
      p.silent[n] = true;
      with_table(p, [&](LeaseTable& t) { t.revoke(id(n)); });
      if (s.workers[n].peer == i) away(s.workers[n]);
    }
    if (op == Write::submit && m_ == Mutation::answer_before_commit) s.accepted = true;
    if (op == Write::place && m_ == Mutation::order_before_commit) order(s, i, n, p.view.epoch + 1);
    execute(s, i);
  }

  static Rows after(const Scheduler& p, Rows rows) {
    switch (p.op) {
      case Write::none: break;
      case Write::submit: rows.job = JobIs::queued; break;
      case Write::place: rows = {JobIs::active, static_cast<std::uint8_t>(rows.epoch + 1), p.op_node}; break;
      case Write::give_up: rows.job = JobIs::queued; break;
    }
    return rows;
  }

  void execute(State& s, std::size_t i) const {
    Scheduler& p = s.schedulers[i];
    const bool ours = (p.session && p.term == s.term) || m_ == Mutation::old_term_writes;
    p.op_done = ours && p.view == s.rows;  // compare and set
    if (!p.op_done) return;
    if (p.term != s.term) broken_ = "a deposed leader has written";
    s.rows = after(p, s.rows);
  }

  void answered(State& s, std::size_t i) const {
    Scheduler& p = s.schedulers[i];
    const Write op = std::exchange(p.op, Write::none);
    const std::size_t n = p.op_node;
    const bool done = std::exchange(p.op_done, false);
    p.op_node = 0;
    if (!done) {  // whether it happened is not known: from the rows again
      p.ready = false;
      p.view = {};
      p.silent = {};
      return;
    }
    p.view = s.rows;
    if (op == Write::submit) s.accepted = true;
    if (op == Write::place && m_ != Mutation::order_before_commit) order(s, i, n, p.view.epoch);
  }

  static void order(State& s, std::size_t i, std::size_t n, int epoch) {
    Worker& w = s.workers[n];
    if (w.phase != Worker::away && w.peer == i) w.order = static_cast<std::uint8_t>(epoch);
  }

  // ---------------------------------------------------------------- what can go wrong
  void faults(std::size_t i) {
    const Scheduler& p = from_.schedulers[i];
    if (from_.faults >= b_.faults) return;
    const auto put_fault = [&](auto change, auto text) {
      put(
          [&](State& s) {
            ++s.faults;
            change(s);
          },
          text);
    };
    if (p.leads)
      put_fault(
          [&](State& s) {
            s.schedulers[i] = Scheduler{};
            for (auto& w : s.workers)
              if (w.peer == i) away(w);
          },
          [&] { return of(i) + " is killed"; });
    if (p.session) {
      put_fault([&](State& s) { s.schedulers[i].session = false; },
                [&] { return "the session of " + of(i) + " ends; it has not heard of it"; });
      if (p.op == Write::none)
        put_fault(
            [&](State& s) {
              s.led[p.term - 1U].over = true;
              s.schedulers[i] = Scheduler{};
              for (auto& w : s.workers)
                if (w.peer == i) away(w);
            },
            [&] { return of(i) + " stops in good order"; });
      if (p.op_done)
        put_fault(
            [&](State& s) {
              Scheduler& q = s.schedulers[i];
              q.op = Write::none;
              q.op_node = 0;
              q.op_done = q.session = q.ready = false;
              q.silent = {};
              q.view = {};
            },
            [&] { return "the answer to " + of(i) + " is lost with its session: in doubt"; });
      if (m_ == Mutation::forgets_rows)
        put_fault(
            [&](State& s) {
              for (auto& q : s.schedulers) q.session = false;
              if (s.rows.job == JobIs::queued && s.rows.epoch == 0) s.rows = {};
            },
            [&] { return std::string("a fail-over to a replica that has not all"); });
    }
  }

  // ---------------------------------------------------------------- nodes
  static void away(Worker& w) {
    w.phase = Worker::away;
    w.peer = w.order = 0;
    w.said = kNever;
  }

  bool renews(const Scheduler& p) const {
    return p.leads && (m_ == Mutation::renew_unconfirmed ||
                       lead::may_renew(mono(0), mono(p.confirmed), b_.renews * kTick));
  }

  void node(std::size_t n) {
    const Worker& w = from_.workers[n];
    for (std::size_t i = 0; i < kSchedulers; ++i)
      if (w.phase == Worker::away) hello(n, i);
    if (w.phase == Worker::away) return;
    if (from_.losses < b_.losses)
      put(
          [&](State& s) {
            ++s.losses;
            away(s.workers[n]);
          },
          [&] { return node_name(n) + " loses its connection to " + of(w.peer); });
    if (w.phase == Worker::hello) {
      put([&](State& s) { welcomed(s, n); },
          [&] { return node_name(n) + " is told that it is welcome with " + of(w.peer); });
      return;
    }
    if (w.said == kNever)
      heartbeat(n);
    else
      put([&](State& s) { acknowledged(s, n); }, [&] { return node_name(n) + " hears the acknowledgement"; });
    if (w.order == 0 && w.highest != 0 && from_.losses < b_.losses)
      put(
          [&](State& s) {
            ++s.losses;
            s.workers[n].order = w.highest;
          },
          [&] { return of(w.peer) + " repeats an order to node " + node_name(n); });
    if (w.order != 0 && w.lease > 0)
      put([&](State& s) { start(s, n); },
          [&] { return node_name(n) + " is told to run epoch " + std::to_string(w.order); });
  }

  // With a commit, or without one while the leader knows the node and holds its lease.
  void hello(std::size_t n, std::size_t i) {
    const Scheduler& p = from_.schedulers[i];
    if (!renews(p)) return;
    const bool commits = p.ready && p.op == Write::none && p.session && p.term == from_.term;
    if (!commits && !(p.leases[n].met && p.leases[n].held)) return;
    put(
        [&](State& s) {
          Worker& w = s.workers[n];
          Scheduler& q = s.schedulers[i];
          w.phase = Worker::hello;
          w.peer = static_cast<std::uint8_t>(i);
          w.said = 0;
          with_table(q, [&](LeaseTable& t) {
            if (commits)
              t.grant(id(n), mono(0));
            else
              t.renew(id(n), mono(0));
            if (m_ == Mutation::settle_by_hello) t.settle(id(n));
          });
          if (!commits) return;
          q.leases[n].met = true;
          q.silent[n] = false;
          if (q.view.job != JobIs::active || q.view.node != n || w.running == q.view.epoch) return;
          if (w.highest < q.view.epoch) {
            w.order = q.view.epoch;  // it has never heard of it
          } else {
            s.rows.job = q.view.job = JobIs::queued;  // by its own word nothing of it lives
          }
        },
        [&] {
          return of(i) + " takes the hello of node " + node_name(n) + (commits ? "" : ", without a commit");
        });
  }

  void enforce(Worker& w) const {
    if (w.running != 0 && w.lease <= 0) w.running = 0;
  }
  void extend(Worker& w) const {
    const int from = m_ == Mutation::lease_from_ack ? 0 : w.said;
    w.lease = std::max<std::int8_t>(w.lease, static_cast<std::int8_t>(from + b_.lease));
    w.said = kNever;
  }

  void welcomed(State& s, std::size_t n) const {
    Worker& w = s.workers[n];
    const Scheduler& p = s.schedulers[w.peer];
    enforce(w);
    if (m_ != Mutation::falling_terms && !lead::obeys(p.term, w.term, w.running != 0)) return away(w);
    w.term = p.term;
    w.phase = Worker::welcome;
    extend(w);
    // What is not to be kept: only a leader that has the rows says so.
    const bool current = p.view.job == JobIs::active && p.view.node == n && p.view.epoch == w.running;
    if (p.ready && !current) w.running = 0;
  }

  void heartbeat(std::size_t n) {
    const Worker& w = from_.workers[n];
    const Scheduler& p = from_.schedulers[w.peer];
    if (!renews(p) || !table(p).held(id(n)))
      return put([&](State& s) { away(s.workers[n]); },
                 [&] { return of(w.peer) + " sends node " + node_name(n) + " away"; });
    if (beats_by_itself(from_, n)) return;
    put(
        [&](State& s) {
          with_table(s.schedulers[w.peer], [&](LeaseTable& t) {
            t.renew(id(n), mono(0));
            if (lead::settles(w.term, p.term)) t.settle(id(n));
          });
          // Answered at once it holds longest: by what the leader counts with.
          s.workers[n].said = 0;
          if (m_ != Mutation::lease_from_ack) acknowledged(s, n);
        },
        [&] {
          return of(w.peer) + " acknowledges a heartbeat of node " + node_name(n) + ", term " +
                 std::to_string(w.term);
        });
  }

  void acknowledged(State& s, std::size_t n) const {
    enforce(s.workers[n]);
    extend(s.workers[n]);
  }

  void start(State& s, std::size_t n) const {
    Worker& w = s.workers[n];
    const std::uint8_t epoch = std::exchange(w.order, 0);
    enforce(w);
    if (epoch <= w.highest && m_ != Mutation::forget_epochs) return;
    w.highest = std::max(w.highest, epoch);
    w.running = epoch;
  }

  // After the first one heartbeats are said and answered in every tick: a node that is connected and is not
  // acknowledged is as one that has lost its connection.
  bool beats_by_itself(const State& s, std::size_t n) const {
    const Worker& w = s.workers[n];
    const Scheduler& p = s.schedulers[w.peer];
    return w.phase == Worker::welcome && w.said == kNever && m_ != Mutation::lease_from_ack && renews(p) &&
           p.leases[n].held && p.leases[n].settled;
  }

  // ---------------------------------------------------------------- the real table
  static NodeId id(std::size_t n) { return NodeId(static_cast<std::int64_t>(n + 1)); }

  LeaseTable table(const Scheduler& p) const {
    LeaseTable t({.heartbeat = kTick,
                  .lease = b_.lease * kTick,
                  .kill_margin = m_ == Mutation::no_margin ? Duration::zero() : b_.margin * kTick,
                  .suspicion = kTick});
    for (std::size_t n = 0; n < kNodes; ++n) {
      const auto& l = p.leases[n];
      if (!l.known) continue;
      t.grant(id(n), mono(l.granted));
      if (!l.held) t.revoke(id(n));
      if (l.settled) t.settle(id(n));
    }
    if (p.others_until != kNever) t.others_renew_until(mono(p.others_until));
    return t;
  }

  template <class F>
  void with_table(Scheduler& p, F change) const {
    LeaseTable t = table(p);
    change(t);
    constexpr NodeId kProbe{99};
    t.grant(kProbe, Mono{});
    p.others_until = t.acknowledged_at(kProbe) == Mono{} ? kNever : ticks(t.acknowledged_at(kProbe));
    for (std::size_t n = 0; n < kNodes; ++n) {
      auto& l = p.leases[n];
      l.known = t.heard_at(id(n)) != Mono{};
      if (!l.known) continue;
      l.granted = ticks(t.heard_at(id(n)));
      l.held = t.held(id(n));
      LeaseTable late = t;
      late.others_renew_until(mono(100));
      l.settled = late.acknowledged_at(id(n)) == t.heard_at(id(n));
    }
  }

  // ----------------------------------------------------------------
  template <class Change, class Text>
  void put(Change change, Text text) {
    Next next{from_, words_ ? text() : std::string(), std::nullopt};
    broken_.clear();
    change(next.state);
    settle_time(next.state);
    check(next.state);
    if (!broken_.empty()) next.broken = broken_;
    out_.push_back(std::move(next));
  }

  void check(const State& s) const {
    if (s.workers[0].running != 0 && s.workers[1].running != 0)
      broken_ = "two gangs of one job are alive: epoch " + std::to_string(s.workers[0].running) +
                " on x, epoch " + std::to_string(s.workers[1].running) + " on y";
    for (const auto& w : s.workers)
      if (w.running > s.rows.epoch)
        broken_ = "epoch " + std::to_string(w.running) + " runs, and is not in the store";
    if (s.accepted && s.rows.job == JobIs::unknown) broken_ = "an accepted job is lost";
  }

  // Ages from now on; those that tell no more are all alike.
  void settle_time(State& s) const {
    const std::int8_t passed = std::exchange(s.now, 0);
    const int over = b_.lease + b_.margin;
    const auto age = [&](std::int8_t& at, int oldest) {
      if (at == kNever) return;
      at = static_cast<std::int8_t>(std::max(at - passed, -oldest));
    };
    for (std::size_t t = 0; t < s.led.size(); ++t) {
      auto& l = s.led[t];
      if (l.by != 0) age(l.began, b_.renews);
      if (t == 0 || s.led[t - 1].over) l.began = kNever;  // nobody asks
    }
    for (auto& p : s.schedulers) {
      age(p.confirmed, b_.renews + 1);
      // As often as can be: a leader that asks less often renews less.
      if (p.leads && (p.session || m_ == Mutation::reads_confirm)) p.confirmed = 0;
      age(p.others_until, over);
      if (p.others_until == -over) p.others_until = kNever;
      for (auto& l : p.leases)
        if (l.known) age(l.granted, over);
    }
    for (std::size_t n = 0; n < kNodes; ++n) {
      Worker& w = s.workers[n];
      age(w.said, b_.lease);
      age(w.lease, b_.margin);
      if (beats_by_itself(s, n)) {
        enforce(w);
        with_table(s.schedulers[w.peer], [&](LeaseTable& t) { t.renew(id(n), mono(0)); });
        w.said = 0;
        extend(w);
      }
      if (w.running == 0 && (w.lease <= 0 || w.phase == Worker::away)) w.lease = kNever;
    }
  }

  const Bounds& b_;
  const Mutation m_;
  const State& from_;
  const bool words_;
  std::vector<Next>& out_;
  mutable std::string broken_;
};

State Rules::start() const {
  State s;
  if (!bounds_.from_submit) {
    s.rows.job = JobIs::queued;
    s.accepted = true;
  }
  return s;
}

void Rules::next(const State& from, bool words, std::vector<Next>& out) const {
  out.clear();
  Step(*this, from, words, out).all();
}

// Everything is mended: whoever is down starts, both nodes but perhaps one find the leader, time passes. Node
// `lost` never comes again.
bool Rules::comes_to_run(State s) const {
  Rules free = *this;
  free.bounds_.terms = kTermsAtMost;
  free.bounds_.epochs = 100;
  free.bounds_.faults = free.bounds_.losses = 0;
  std::vector<Next> next;
  const auto lost = static_cast<std::size_t>(s.rows.job == JobIs::active ? s.rows.node : 0);
  const std::string gone = node_name(lost);
  s.workers[lost] = Worker{.term = s.workers[lost].term, .highest = s.workers[lost].highest};
  for (int step = 0; step < 400; ++step) {
    for (const auto& w : s.workers)
      if (w.running != 0 && w.running == s.rows.epoch && s.rows.job == JobIs::active) return true;
    free.next(s, true, next);
    // The first that is of use; time passes when nothing else is.
    const auto wanted = std::ranges::find_if(next, [&](const Next& n) {
      return !n.what.starts_with("a tick") && n.what.find("node " + gone) == std::string::npos &&
             !n.what.starts_with(gone + " ") && n.what.find("acknowledge") == std::string::npos;
    });
    if (wanted != next.end()) {
      s = wanted->state;
      continue;
    }
    // Each leader that can be is confirmed, each heartbeat answered, once in a tick.
    const auto small = std::ranges::find_if(next, [&](const Next& n) {
      return !n.what.starts_with("a tick") && n.what.find("node " + gone) == std::string::npos &&
             !n.what.starts_with(gone + " ");
    });
    if (small != next.end()) {
      s = small->state;
      continue;
    }
    const auto tick = std::ranges::find_if(next, [](const Next& n) { return n.what.starts_with("a tick"); });
    if (tick == next.end()) return false;
    s = tick->state;
  }
  return false;
}

}  // namespace tutti::model
