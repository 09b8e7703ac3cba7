// One state of the small world that tests/model explores, and what can happen in it: two schedulers, two
// nodes, one store, one job (docs/design/0019-model.md). Time goes in ticks and is kept as ages, so that the
// same situation at another hour is the same state.
//
// The decisions about leases are those of the real LeaseTable and of scheduler/model/lead_rules.h; what
// stands round them (the store's rows, connections, orders) is as small as can be.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::model {

inline constexpr int kSchedulers = 2, kNodes = 2, kTermsAtMost = 8;
inline constexpr std::int8_t kNever = -100;

// Rules that can be broken, one at a time: the explorer must show how that ends.
enum class Mutation : std::uint8_t {
  none,
  renew_unconfirmed,     // a leader renews leases however long ago it was confirmed
  reads_confirm,         // what confirms is a read: a primary that was replaced answers it
  forget_predecessors,   // a new leader does not believe in leases of those before it
  settle_by_hello,       // it takes a node's hello for obedience
  falling_terms,         // a node obeys a leader of a lower term
  over_unproven,         // a scheduler that starts says of every other one that it is over
  no_margin,             // the kill itself is given no time
  no_boot_grace,         // nodes get no lease from a new leader's start
  lease_from_ack,        // a node counts its lease from the acknowledgement
  old_term_writes,       // the store does not look at the term of a commit
  order_before_commit,   // orders leave before the transaction
  answer_before_commit,  // the client is told before the transaction
  forget_epochs,         // a node starts whatever it is told, however old
  gives_up_once,         // one that was being given up when the view was lost is not given up again
  forgets_rows           // a fail-over loses what was acknowledged
};
inline constexpr int kMutations = 16;
std::string_view name(Mutation mutation);

struct Bounds {
  int lease = 2, margin = 1, renews = 2;  // T, K, R in ticks
  int terms = 3, epochs = 2;
  int faults = 2;            // processes killed or stopped, sessions ended; each costs one
  int losses = 2;            // connections lost with what was under way, orders repeated
  bool from_submit = false;  // else the job is queued and accepted at the beginning
};

enum class JobIs : std::uint8_t {
  unknown,
  queued,
  active  // on a node, under an epoch
};
struct Rows {
  JobIs job = JobIs::unknown;
  std::uint8_t epoch = 0, node = 0;
  bool operator==(const Rows&) const = default;
};

enum class Write : std::uint8_t {
  none,
  submit,
  place,   // on `op_node`, under the next epoch
  give_up  // the node's lease and margin are over: its attempt has ended
};

struct Scheduler {
  bool leads = false, ready = false;  // ready: it has a view of the rows
  bool session = false;               // on the server; it need not know of its end
  std::uint8_t term = 0;
  std::int8_t confirmed = kNever;  // when
  std::int8_t others_until = kNever;
  Rows view;
  Write op = Write::none;  // the store has looked at it, the answer is on its way
  std::uint8_t op_node = 0;
  bool op_done = false;
  struct Lease {
    std::int8_t granted = kNever;
    bool known = false, held = false, settled = false;
    bool met = false;  // its hello was committed in this process
  };
  std::array<Lease, kNodes> leases{};
  std::array<bool, kNodes> silent{};  // given up in this view
};

struct Worker {
  std::uint8_t term = 0;  // obeyed
  std::uint8_t peer = 0;  // whom it is connected to
  enum Phase : std::uint8_t {
    away,
    hello,    // its hello has been taken, the Welcome is on its way
    welcome,  // it may say heartbeats
  } phase = away;
  std::int8_t said = kNever;   // hello, or the heartbeat whose acknowledgement is on its way
  std::int8_t lease = kNever;  // until when
  std::uint8_t running = 0, highest = 0, order = 0;  // epochs; 0: none
};

struct Led {
  std::uint8_t by = 0;
  bool over = false;
  std::int8_t began = kNever;
};

struct State {
  std::int8_t now = 0;  // always 0 in what is stored: all else is relative to it
  std::uint8_t faults = 0, losses = 0;
  std::uint8_t term = 0;  // the newest
  std::array<Led, kTermsAtMost> led{};
  Rows rows;
  bool accepted = false;  // the client has been told so
  std::array<Scheduler, kSchedulers> schedulers{};
  std::array<Worker, kNodes> workers{};
};

using Bytes = std::array<std::uint8_t, 64>;

// Whoever applies steps; one for a run.
class Rules {
 public:
  Rules(Bounds bounds, Mutation mutation) : bounds_(bounds), mutation_(mutation) {}

  struct Next {
    State state;
    std::string what;                   // only if `words`
    std::optional<std::string> broken;  // an invariant
  };
  State start() const;
  // Everything that can happen next. `words`: with a description each.
  void next(const State& from, bool words, std::vector<Next>& out) const;

  // Without faults any more, and without bounds: true when the job runs within a while.
  bool comes_to_run(State state) const;

  // The same for two states that differ in the names of nodes or of schedulers only.
  static Bytes canonical(const State& state);
  const Bounds& bounds() const { return bounds_; }

 private:
  class Step;
  Bounds bounds_;
  Mutation mutation_;
};

}  // namespace tutti::model
