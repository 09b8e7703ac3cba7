// The one writer of the control plane: decide, commit, then speak.
//
// Requests and workers' messages are commands in a bounded inbox. While one commit is under way the next
// batch gathers by itself; then all that waits is decided in one go, its rows are committed in one
// transaction, and only after that replies, events and messages to workers leave. When a commit fails or
// nobody knows whether it happened, the control plane is thrown away and rebuilt from the rows: the same code
// as at boot. Leases are kept over that and go on being renewed, so a database outage disturbs no gang.
//
// A batch that the store will never take (a row breaks a rule: a bug of ours, or a client's or worker's odd
// word) must not stop the service. After a refused batch the commands that follow, the same ones again among
// them, are decided one to a transaction; the one that is refused alone is answered with Errc::internal. What
// time and the planner do is then decided apart from them, and a job whose start is refused is held
// (leader_refused.cpp).
//
// While another scheduler leads this one is a standby: it waits for the lock, and looks each second who
// leads. A process that has led and is deposed never leads again: it ends, and is started anew. Leases are
// renewed only while we have written lately that we lead, and after a take-over the former leader's leases
// are believed in until it is known to be over (docs/design/0016-replicas.md).
//
// Without memory: what a request needs to be taken in fails with that request (post() throws, and nothing of
// it happens). Where it fails in deciding, loading or speaking, bad_alloc leaves io_context::run(): the
// process is to end at once (daemon/last_words.h), since what it remembers may be half a change.
//
// Everything here runs on the control thread (one io_context); only StoreThread has threads of its own.
// Invariants: (1) at most one commit is under way; (2) no reply or message leaves before its commit; (3)
// every command is answered exactly once: by its decision after the commit, or refused with
// Errc::unavailable, Errc::internal, or, when it may have been committed, Errc::in_doubt.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "api/handlers/backend.h"
#include "scheduler/core/control_plane.h"
#include "scheduler/service/metrics.h"
#include "scheduler/service/store_thread.h"

namespace tutti {

struct LeaderSettings {
  ControlSettings control;
  std::string holder;  // who leads, for people: "host:pid"
  LeaderCard card{.renews_for = std::chrono::minutes(10)};
  std::size_t max_inbox = 20'000;                  // commands, or their jobs; beyond: Errc::unavailable
  std::size_t max_batch = 1'000;                   // commands decided in one transaction,
  std::size_t max_batch_jobs = 4'000;              // no command more once so many jobs are changed
  std::size_t max_reads = 1'000;                   // queries waiting for a read thread
  Duration slow_commit = std::chrono::seconds(1);  // one that takes as long is a reason in /readyz
  // A process that stood still for so long may have been taken for dead. A second is nothing.
  Duration stood_still = std::chrono::seconds(4);
  // While the store is away the log says why anew at most so often, and only if it is for another reason.
  Duration say_why_away = std::chrono::seconds(10);
};

// One thing to decide. `decide` runs on the control plane and returns what to do after the commit.
struct Command {
  std::function<std::function<void()>(ControlPlane&, Now)> decide;
  std::function<void(const Error&)> refuse;  // may be empty
  std::size_t weight = 1;                    // of its place in the inbox: so many jobs it brings or changes
  enum class Room : std::uint8_t {
    shared,   // as clients have it: none when the inbox is full
    workers,  // the same again beyond that: clients in a hurry do not cut workers off
    always    // few of them
  };
  Room room = Room::shared;
  // What `decide` returns reads the plane: nothing more is decided before it has, so that no answer tells of
  // what is not committed. Without it the next batch goes to the database first.
  bool reads_plane = true;
};

// Where messages to workers go; implemented by WorkerHub.
class WorkerMessages {
 public:
  virtual ~WorkerMessages() = default;
  virtual void deliver(Effect effect) = 0;
  // Workers must say again what they have: the control plane was rebuilt, of rows with these nodes.
  virtual void resync(const std::vector<NodeRow>& nodes) = 0;
  virtual void read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) = 0;
};

class Leader : public Backend {
 public:
  Leader(boost::asio::any_io_executor executor, LeaderSettings settings, StoreThread& store,
         LeaseTable& leases, Metrics& metrics);

  // Before start(): what is told of this scheduler while it leads.
  void introduce(LeaderCard card) { settings_.card = std::move(card); }

  // Before start(): it is told all that is decided here, and outlives this.
  void watched_by(PlaneWitness& witness) { witness_ = &witness; }

  // Before start(): is told of each batch after its commit, before its replies leave, and how long deciding
  // and committing took.
  using Observer = std::function<void(const Batch&, Duration deciding, Duration committing)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

  // Takes the lead (waits for it as long as another scheduler holds it), loads, begins. `deposed` is called
  // when somebody else has taken over, or this process cannot be a standby of whoever leads: it has nothing
  // left to do.
  void start(WorkerMessages& workers, std::function<void(std::string why)> deposed);
  // While a leader before us may still renew leases: where they are reached, to tell them our term.
  void tell_predecessors_by(std::function<void(std::vector<std::string> urls, Term ours)> tell) {
    tell_predecessors_ = std::move(tell);
  }
  // Another scheduler of this cluster says that it leads with that term. If it is a later one than ours, we
  // have been deposed without having seen it. False: it tells us nothing.
  bool told_of_term(Term term, const std::string& holder);
  // Commits what is under way, refuses the rest, resigns. Workers' connections are closed before this.
  void stop(std::function<void()> stopped);

  bool leads() const { return term_ && !deposed_already_; }
  Term term() const { return term_; }
  // Whether a heartbeat may be acknowledged now.
  bool may_renew() const;
  // Who leads as far as the store says; null: it has not been read yet. For standbys.
  const LeaderView* seen() const { return seen_ ? &*seen_ : nullptr; }

  // False: refused (the refuse callback has been called).
  bool post(Command command);

  // ---- Backend (leader_backend.cpp)
  void submit(std::vector<SubmitRequest> requests, SubmitReply reply) override;
  void change_jobs(std::function<Result<JobId>(ControlPlane&, Now)> change, Reply<JobId> reply) override;
  void change_shares(std::function<Result<Warnings>(ControlPlane&, Now)> change,
                     Reply<Warnings> reply) override;
  void change_nodes(std::function<Result<NodeId>(ControlPlane&, Now)> change, Reply<NodeId> reply) override;
  void read(Query query, std::function<void(Error)> failed) override;
  const ControlPlane* plane() const override { return plane_.get(); }
  Now now() const override;
  ServiceStatus status() const override;
  std::string metrics_text() const override;
  std::uint64_t subscribe(EventSink sink) override;
  void unsubscribe(std::uint64_t subscription) override;
  void read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) override;

 private:
  // What one transaction holds. After a refusal all have turns of their own.
  enum class Turn : std::uint8_t {
    all,
    command,  // one
    tick,
    start  // one
  };
  struct InFlight {
    std::vector<Command> commands;
    std::vector<std::function<void()>> afters;
    std::vector<Effect> effects;
    std::vector<StageSample> stages;
    std::shared_ptr<Batch> batch;
    Mono began, decided, committed;
    Turn turn = Turn::all;
    bool reads_plane = false;  // one of `afters` does
  };

  template <class T>  // leader_backend.cpp
  void ask(std::function<Result<T>(ControlPlane&, Now)> decide, Reply<T> reply);
  bool has_room(Command::Room room) const;
  void kick();
  void run_batch();
  InFlight decide();  // all that waits in the inbox
  void take_commands(InFlight& into, std::size_t most, Now time);
  void commit(InFlight work);  // committed() or failed() follows
  void committed(InFlight done);
  void took_effect(const InFlight& done);  // it is in the database, or there is nothing that has to be
  void speak(InFlight done);               // answers, and orders to workers
  void failed(InFlight lost, std::exception_ptr why);
  // leader_refused.cpp
  Error refused(const InFlight& lost, const std::string& why, Error as_asked);
  Turn next_turn();
  void suspect(const Batch& batch, const std::string& why);
  void hold_suspects();
  enum class Why : std::uint8_t {
    store_lost,
    batch_refused
  };
  void recover(Why kind, const std::string& why);
  void depose(const std::string& why);
  void take_lead();
  void led(Term term, Duration others_renew, Mono asked_at);
  void ask_again_for_the_lock();
  void watch_leader();
  void look_at_leader(const LeaderView& leader);
  void ask_predecessors();
  void finish_stop();
  void load();
  void loaded(std::shared_ptr<Snapshot> snapshot);
  void retry_later(std::function<void()> what);
  void refuse_all(const std::string& why);
  static Error unavailable(std::string why);  // what is refused may be tried again
  void arm_timer();
  void check_health();
  void ask_store();
  void notice_pause();
  void store_lost(const std::string& why);
  void say_why_away(const std::string& why);
  void store_answers();
  void count_outage();
  bool commits_are_slow() const;
  std::vector<std::string> reasons() const;
  bool is_deposed(std::exception_ptr why);
  static bool is_refused(std::exception_ptr why);
  static bool is_in_doubt(std::exception_ptr why);
  static bool is_no_memory(std::exception_ptr why);
  static bool is_taken(std::exception_ptr why);
  bool is_standby() const;

  boost::asio::any_io_executor executor_;
  LeaderSettings settings_;
  StoreThread& store_;
  LeaseTable& leases_;
  Metrics& metrics_;
  WorkerMessages* workers_ = nullptr;
  Observer observer_;
  std::function<void(std::string)> deposed_;
  std::function<void()> stopped_;
  bool stopping_ = false;

  std::unique_ptr<ControlPlane> plane_;  // null while recovering
  std::deque<Command> inbox_;
  std::size_t inbox_weight_ = 0;
  bool committing_ = false;
  std::optional<Mono> commit_began_;  // of the one under way
  bool kicked_ = false;
  bool tick_due_ = true;
  bool committed_since_load_ = false;
  std::size_t alone_ = 0;  // commands still to be decided one to a transaction
  Turn last_turn_ = Turn::start;
  bool starts_go_on_ = false;  // then: the planner had its turn, and may have more to start
  struct Suspect {
    JobId job;  // whose start was refused: it is to be held
    std::string why;
  };
  std::vector<Suspect> suspects_;
  boost::asio::steady_timer timer_;
  std::optional<Mono> tick_at_;  // when timer_ goes off
  boost::asio::steady_timer retry_timer_;
  boost::asio::steady_timer health_timer_;
  boost::asio::steady_timer watch_timer_;
  Mono last_store_contact_{};
  Mono confirmed_at_{};  // when the write was sent whose success said last that we lead
  Mono pulse_at_{};      // when this thread has last looked at the time
  Mono doubted_at_{};    // what was confirmed before does not count: we stood still
  std::optional<Mono> store_lost_at_, outage_counted_to_;  // while it is away
  std::string why_away_;                                   // as the log said last
  Mono said_why_away_at_{};
  Mono others_renew_until_{};  // former leaders may renew leases until then
  bool asking_predecessors_ = false;
  bool deposed_already_ = false;
  bool lock_is_taken_ = false;  // by another session: it was waited for in vain
  std::optional<LeaderView> seen_;
  Term told_of_;                                           // the last one that the log names
  mutable Instant latest_wall_{};                          // of now() and of the rows
  mutable Mono latest_mono_{};                             // of now()
  Duration retry_delay_ = std::chrono::milliseconds(100);  // after a commit; doubles to a second
  Term term_;
  std::string detail_ = "starting";
  double commit_ms_ = 0;
  Mono committed_at_{};
  std::function<void(std::vector<std::string>, Term)> tell_predecessors_;
  std::uint64_t next_subscription_ = 1;
  std::map<std::uint64_t, EventSink> subscriptions_;
  PlaneWitness* witness_ = nullptr;
};

}  // namespace tutti
