// One scheduler process in virtual time: the real control plane and lease table inside a shell that does what
// scheduler/service/leader and worker_hub do, step by step: natural group commit, decide -> commit -> speak,
// recovery from rows after a failed or doubtful commit, heartbeats answered from the lease table on the spot.
//
// It can be killed (memory is lost, a commit under way happens or not), started again, paused and continued.
// While it is paused everything that would happen to it waits, its transaction under way in the server does
// not.
//
// Several of them are replicas on one store, as in docs/design/0016-replicas.md: one leads, by the lock of
// its session and the term of its commits; the others wait for the lock and send workers to the leader. Only
// what is written confirms the lead. The host of one can be cut off from the store, whose side of the session
// ends later; or it keeps its session with a primary that has been replaced, which reads as ever and commits
// nothing, since its standby is gone.
//
// Its program may be the one of the version before (version_before.h), and another one is installed while it
// runs: that begins with its next start, after it has been killed or has stopped in good order.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/memory/memory_store.h"
#include "scheduler/core/control_plane.h"
#include "tests/sim/canary.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/version_before.h"

namespace tutti::sim {

struct Command {
  std::function<std::function<void()>(ControlPlane&, Now)> decide;
  std::function<void()> refuse;
};

class SchedulerProcess;

// The one PostgreSQL server of the run.
struct Server {
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  bool up = true;
  Duration continue_for{};                                           // as every scheduler is set up
  Duration renews_for = 600s;                                        // likewise: R
  Duration slowest = 3ms;                                            // of one half of a round trip
  db::MemoryStore::Fault next_fault = db::MemoryStore::Fault::none;  // for the next commit, whoever makes it
  FoldedTasks folded;
  bool led_by_before = false;  // the newest leader is of the version before
  std::vector<const SchedulerProcess*> schedulers;
  bool older_connected() const;
};

enum class Version : std::uint8_t {
  before,
  ours
};

class SchedulerProcess {
 public:
  SchedulerProcess(Network& network, Server& server, Oracle& oracle, Canary canary, std::string name,
                   std::uint64_t stream);

  // Told all that is decided here, over all its lives.
  void watched_by(PlaneWitness* witness) { witness_ = witness; }
  void start();
  void kill();
  void install(Version version) { installed_ = version; }  // of its next start
  // As the service manager does with a new package: it says its last word, ends, and is started again.
  void restart_in_order(Duration down);
  void pause();
  void resume();
  // When the next answer that confirms its lead has come to its host: before that is read. Then `what`.
  void pause_before_next_answer(std::function<void()> what) { before_next_answer_ = std::move(what); }
  void server_changed();  // it has gone down or come up
  void cut_session();     // the server ends this scheduler's session, as it does with a frozen leader
  // Its host hears nothing of the store any more; the server ends the session after a while.
  void cut_store(Duration server_ends_it_after);
  void heal_store();
  // The primary has been replaced, and its session is with the old one still.
  void stay_behind(Snapshot rows);
  void rejoin();
  bool has_store() const { return !store_cut_ && !behind_; }
  void jump_clock(Duration by) { skew_ = std::clamp<Duration>(skew_ + by, -2s, 2s); }
  void die_after_next_commit() { doomed_ = true; }  // before anything of it is said
  const std::string& name() const { return name_; }
  bool leads() const { return alive_ && leading_; }
  bool may_renew() const;
  Term term() const { return term_; }
  // Those before it may renew leases still: it cannot give nodes up that do not come to it.
  bool waits_for_others() const { return leads() && others_renew_until_ > clock().mono; }
  bool alive() const { return alive_; }
  bool is_before() const { return version_ == Version::before; }
  bool connected() const { return alive_ && store_ != nullptr && store_->healthy(); }
  bool paused() const { return paused_; }
  const ControlPlane* plane() const { return plane_.get(); }
  const LeaseTable* leases() const { return leases_.get(); }

  void accept(const LinkPtr& link);
  // From a client; false when nobody listens.
  bool post(Command command);
  // Runs inside the process: at once, when it continues, or never.
  void gate(std::function<void()> what);
  Now clock() const;

  // An order of the past once more: effects may repeat (faults use it).
  void repeat_an_order(Dice& dice);

 private:
  struct Connection {
    LinkPtr link;
    NodeId node;     // from the commit of its Hello on
    NodeId decided;  // from its decision on
    std::uint64_t generation = 0;
    std::string name;
    bool said_hello = false;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;
  struct InFlight {
    std::vector<Command> commands;
    std::vector<std::function<void()>> afters;
    std::vector<Effect> effects;
    Batch batch;
    Mono began{};
  };
  enum class Outcome {
    ok,
    lost,  // unavailable or in doubt
    deposed
  };

  enum class Ask {
    lead,
    load,
    commit,
    confirm,
    resign
  };

  // scheduler_process.cpp: the leader
  void after(Duration delay, std::function<void()> what);
  void store_op(Ask ask, std::function<Outcome()> work, std::function<void(Outcome)> done);
  void answered(Ask ask, Outcome outcome, Duration patience, std::function<void(Outcome)> done);
  Outcome executed(Ask ask, const std::function<Outcome()>& work);
  Outcome attempt(const std::function<void()>& call);
  void commit(const Batch& batch);
  void written(const Batch& batch);
  void take_lead();
  void led(Term term, Duration others_renew, Mono asked_at);
  void confirm();
  void confirmed(Mono asked_at);
  void load();
  void loaded(const std::shared_ptr<const Snapshot>& rows);
  void recover();
  void retry_later(std::function<void()> what);
  void refuse_all();
  void step_down();
  void finish_stop();
  Snapshot read_rows() const;
  void check_health();
  void kick();
  void run_batch();
  std::shared_ptr<InFlight> decide();
  void send(const std::shared_ptr<InFlight>& work);
  void committed(InFlight& done);
  void took_effect(const InFlight& done);
  void speak(InFlight& done);
  void failed(InFlight& lost, Outcome why);
  void arm_timer();
  bool time_to_check();

  // scheduler_hub.cpp: connections of workers
  void on_text(const ConnectionPtr& c, const std::string& text);
  void on_hello(const ConnectionPtr& c, protocol::Hello hello);
  void send_to_leader(const ConnectionPtr& c);
  void on_heartbeat(const ConnectionPtr& c, const protocol::Heartbeat& beat);
  void welcome_meanwhile(const ConnectionPtr& c, const protocol::Hello& hello);
  void bind(const ConnectionPtr& c, NodeId node);
  void on_closed(const ConnectionPtr& c);
  void report_loss(const ConnectionPtr& c);
  std::optional<std::int64_t> told_term() const;
  void deliver(Effect effect);
  void resync(const std::vector<NodeRow>& nodes);
  template <class Decide>
  void tell_plane(const ConnectionPtr& c, Decide decide);

  World& world_;
  Network& network_;
  Server& server_;
  Oracle& oracle_;
  const Canary canary_;
  const std::string name_;
  Dice dice_;
  PlaneWitness* witness_ = nullptr;
  bool alive_ = false, paused_ = false;
  const int drift_ppm_;
  Duration skew_{};  // of its calendar clock
  mutable Instant latest_wall_{};
  mutable Mono latest_mono_{};
  // Of its host: they outlive it.
  Version installed_ = Version::ours, version_ = Version::ours;
  bool store_cut_ = false;
  std::uint64_t cuts_ = 0;
  std::optional<Snapshot> behind_;
  bool doomed_ = false;
  std::uint64_t life_ = 0;  // rises with each start: what belongs to a former life is dropped
  std::vector<std::function<void()>> deferred_;

  // ---- lost by a kill
  std::unique_ptr<LeaseTable> leases_;
  std::shared_ptr<db::MemoryStore> store_;
  Term term_;
  bool leading_ = false;
  std::optional<Duration> stopping_;  // in good order; down for so long
  std::function<void()> before_next_answer_;
  Mono confirmed_at_{}, others_renew_until_{};
  std::optional<Snapshot> before_commit_;             // of a canary
  std::shared_ptr<std::function<void()>> under_way_;  // sent to the server, not executed yet
  std::unique_ptr<ControlPlane> plane_;
  std::deque<Command> inbox_;
  bool committing_ = false, kicked_ = false, tick_due_ = false;
  std::uint64_t timer_ = 0;
  Time checked_at_{};
  Mono last_store_contact_{};
  Duration retry_delay_ = 100ms;
  std::map<std::uint64_t, ConnectionPtr> connections_;  // by Link::id
  std::map<NodeId, ConnectionPtr> by_node_;
  struct Known {
    NodeId node;
    std::string boot_id;
  };
  std::map<std::string, Known> known_;
  std::map<NodeId, std::vector<std::string>> said_;  // orders per node, for repetition
};

SpecPtr parse_stored_spec(std::string_view json);

}  // namespace tutti::sim
