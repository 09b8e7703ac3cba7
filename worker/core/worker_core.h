// All decisions of a worker: what it says to the scheduler, what it asks of supervisors, when a GPU is free
// again, until when the node may run. Events and the time go in, actions come out; no clock, no socket, no
// file. Owned by the single thread of worker/service; tests drive it by hand.
//
//  1. Level-triggered: Hello carries every attempt that is not forgotten; after a Welcome all that is not to
//  be
//     kept is stopped. Repeated Prepare, Launch, Stop and Forget change nothing.
//  2. Nothing starts for an epoch that is not higher than every epoch seen of that job.
//  3. A GPU is held from Prepare until its attempt's end is proven: dead ranks, and no process on the GPU. A
//     Prepare for a held GPU fails.
//  4. `ended` is said once the supervisor is gone too (its device locks are free then), and after all that
//     the ranks have left: checkpoints, last progress, what an all-reduce reached. So it is over every
//     connection, for nobody knows what of the former one has arrived. An end that could not be proven is
//     proven later and said again.
//  5. `ready` is said once the checkpoint that the attempt begins from has been looked at, by its first node.
//  6. The lease runs from the sending of what was acknowledged, and never moves backwards. An attempt's own
//     lease lasts as long, and longer while all its peers acknowledge it; once it is over it stays over.
//  7. What is wrong with the node as a whole is said in full with each Hello and after each change; it stops
//     nothing that runs.
//  8. A fault of a GPU is said until a heartbeat that followed it has been answered; the scheduler takes it
//  once.
//  9. No supervisor is started before the node has passed its gate: what is known of it now, and a quick
//  look.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/protocol.h"
#include "worker/core/actions.h"
#include "worker/core/gpu_ledger.h"
#include "worker/core/node_conditions.h"
#include "worker/core/peer_watch.h"
#include "worker/node/fault_pairs.h"
#include "worker/node/kernel_log.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

struct CoreSettings {
  protocol::Hello self;  // who this node is; gpus, attempts and boot_us are filled in when it is said
  FatalFault fatal = nullptr;
  Duration gpu_proof = std::chrono::seconds(50);  // after the ranks' death, for the GPUs to be let go
  Duration gpu_poll = std::chrono::milliseconds(250);
  Duration gpu_answer = std::chrono::seconds(4);   // a question without an answer is taken for lost
  Duration prove_again = std::chrono::seconds(5);  // while an end is unproven
  // For a supervisor to do as it was told, beyond the grace of a Stop: longer than it looks for a proof
  // itself (50 s). Then it is killed, its ranks with it.
  Duration supervisor_patience = std::chrono::seconds(70);
  // For the check of the checkpoint that an attempt begins from. Then its folder does not answer.
  Duration resume_check = std::chrono::seconds(60);
  // After the lease, for the supervisors to kill by themselves. Then we do: well within the kill margin.
  Duration lease_second_look = std::chrono::milliseconds(250);
  bool gpus = true;   // false: there is no probe, and no inventory will come
  bool gate = false;  // before a supervisor is started: RunGate, and are its GPUs free of others?
  Duration gate_limit = std::chrono::seconds(5);
  std::uint64_t gpu_memory_slack = 1ULL << 30;  // above what a GPU uses when nobody uses it
  Mono started{};                               // of this worker; its former life may have acknowledged peers
};

/// A job spec, or why the one that came cannot be read.
struct ParsedSpec {
  SpecPtr spec;
  std::string error;
  std::string refusal{};  // why its owner's jobs may not run here, "" = they may
};

/// An attempt found on disk when the worker starts.
struct Adopted {
  protocol::Prepare prepare;
  ParsedSpec spec;
  std::optional<protocol::AttemptStatus> recorded_end;  // as RecordEnd wrote it
  std::optional<supervisor::Status> last_status;        // state.json
  bool supervisor_alive = false;
  bool former_boot = false;  // this machine has booted since: nothing of it lives
  Mono lease_until{};        // its own lease, as the former worker last wrote it; zero: it has none
};

class WorkerCore {
 public:
  struct Attempt;

  explicit WorkerCore(CoreSettings settings);
  ~WorkerCore();

  // ---- the scheduler
  void on_connected(Now);
  void on_disconnected(Now);
  void on_welcome(Now, const protocol::Welcome&);
  void on_heartbeat_ack(Now, const protocol::HeartbeatAck&);
  void on_prepare(Now, const protocol::Prepare&, const ParsedSpec&);
  void on_launch(Now, const protocol::Launch&);
  void on_stop(Now, const protocol::Stop&);
  void on_signal_ranks(const protocol::SignalRanks&);
  void on_forget(Now, const protocol::Forget&);
  void on_delete_checkpoint(const protocol::DeleteCheckpoint&);
  void on_inspect(Now, const protocol::Inspect&);
  void on_ask_silence(Now, const protocol::AskSilence&);

  // ---- other workers: worker_core_peers.cpp
  /// What to answer, over the way it came.
  std::optional<protocol::PeerAck> on_peer_ping(Now, const protocol::PeerPing&);
  void on_peer_ack(Now, const protocol::PeerAck&);

  // ---- supervisors
  void on_supervisor_status(Now, AttemptKey, const supervisor::Status&, bool first_of_connection);
  void on_supervisor_gone(Now, AttemptKey);  // its process has ended
  /// Before or instead of a supervisor: directory, spawn, launch plan. The attempt ends with kind "launch".
  void on_launch_failed(Now, AttemptKey, const std::string& why, bool supervisor_alive);
  void on_killed(Now, AttemptKey, bool proven, const std::string& how);
  void on_final_scan(Now, AttemptKey);

  // ---- this node
  /// For the next Hello; 0: this node takes part in no gang lease.
  void set_peer_port(std::uint16_t port) { settings_.self.peer_port = port; }
  /// The node's lease as the former worker last wrote it, in this boot. Before adopt().
  void restore_lease(Mono until) { lease_until_ = until; }
  void adopt(Now, const Adopted&);
  void forget_epoch(AttemptKey);  // a retired attempt found on disk: its epoch must not come again
  /// The GPUs that a former worker saw on this boot: told until the probe says which there are, so that they
  /// do not look as if they had gone. None is given to an attempt before that.
  void remember_gpus(const nvml::Inventory& last) { gpus_.on_inventory(last); }
  void on_probe(Now, const nvml::Message&);
  void on_probe_lost(Now);
  bool on_checkpoint(Now, const protocol::CheckpointFound&);  // true: it is new, and this attempt's
  void on_checkpoint_checked(Now, const protocol::CheckpointChecked&);
  void on_checkpoint_deleted(const protocol::CheckpointDeleted&);
  void on_resume_checked(Now, AttemptKey, const ResumeCheck&);
  void on_probe_hung(Now, const std::string& how,
                     bool for_good);  // no sign of life; for_good: again and again
  void on_kernel_finding(Now, const node::KernelFinding&);
  /// A fault that we were told has not been passed on for certain: who told us must do so again after a
  /// restart.
  bool holds_faults() const { return !findings_waiting_.empty() || !faults_untold_.empty(); }
  /// A condition of the node begins (or its detail changes), or is over.
  void on_condition(Now, const std::string& kind, const std::string& subject, const std::string& detail);
  void on_condition_over(Now, const std::string& kind, const std::string& subject);
  void on_incident(Now, const std::string& kind, const std::string& detail);
  /// The shell's part of the gate is done; `why` "" = passed.
  void on_gate(Now, AttemptKey, const std::string& why);
  /// All checks are done, or a former worker's report is read back.
  void on_inspection(Now, protocol::InspectionReport, Instant ended_at, bool read_back);
  bool on_progress(Now, const protocol::Progress&);  // false: too soon after the last one
  /// What the all-reduce before the program has reached. True: it is held from now on, and said.
  bool on_collective(const protocol::CollectiveResult&);
  void on_tick(Now);
  /// How long nothing will happen by itself; at most a second.
  Duration next_wake(Now) const;

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  // ---- reading
  struct View {  // what the shell needs to know of an attempt
    const protocol::Prepare* prepare = nullptr;
    SpecPtr spec;
    protocol::Phase phase = protocol::Phase::preparing;
    bool ended = false;
    bool stopping = false;                       // it was told to
    const supervisor::Status* status = nullptr;  // the supervisor's last
  };
  std::optional<View> find(AttemptKey) const;
  std::vector<AttemptKey> attempts() const;
  std::vector<DeviceFact> devices_of(AttemptKey) const;
  GpuLedger& gpus() { return gpus_; }
  std::int64_t lease_until_boot_us() const;
  std::int64_t lease_until_boot_us(AttemptKey) const;
  protocol::AttemptStatus status_of(AttemptKey) const;
  const NodeConditions& conditions() const { return conditions_; }
  bool probe_up() const { return probe_up_; }
  /// What a look at the GPUs through the last probe's eyes finds: part of every inspection.
  std::vector<protocol::CheckResult> check_gpus() const;

 private:
  void act(Action a) { actions_.push_back(std::move(a)); }
  void send(protocol::FromWorker m);
  void say_hello(Now);
  void heartbeat(Now);
  void extend_lease(Mono sent_at);
  void renew(Attempt&);
  void enforce_leases(Now);
  void ping_peers(Now);
  bool acknowledges(AttemptKey) const;
  std::string why_not(const protocol::Prepare&, const ParsedSpec&) const;
  const Attempt* holder_of(const std::string& uuid) const;
  bool is_stale(AttemptKey) const;
  Attempt* live(AttemptKey);
  void fail_before_start(Now, AttemptKey, const std::string& why);
  void stop_attempt(Now, Attempt&, const protocol::Stop&);
  void push_orders(Attempt&);
  void check_resume(Now, Attempt&);
  void begin_last_work(Now, Attempt&, const protocol::End&);
  void look_again(Now, Attempt&);
  void ask_gpus(Now, Attempt&);
  void conclude_if_done(Now, Attempt&);
  void say_left(const Attempt&);
  protocol::AttemptStatus status_to_say(const Attempt&) const;
  void publish(Attempt&);
  void forget(Now, AttemptKey);
  void answer_about_unknown(Now, AttemptKey);
  void inventory_changed();

  // worker_core_health.cpp
  void begin_gate(Now, Attempt&);
  void gate_answer(Now, Attempt&, const nvml::Processes&);
  void ask_gate(Now, Attempt&);
  void gate_failed(Now, Attempt&, const std::string& why);
  void pass_if_clean(Now, Attempt&);
  void tick_gates(Now);
  void say_health(Now);
  void end_old_conditions(Now);
  void tell_fault(Now, const nvml::Fault&, node::FaultPairs::Source);
  void say_untold_faults(Now);
  void take_waiting_findings(Now);
  void remember_memory(const nvml::Sample&);
  void take_loads(const nvml::Sample&);

  CoreSettings settings_;
  GpuLedger gpus_;
  bool probe_up_ = false;
  std::map<AttemptKey, std::unique_ptr<Attempt>> attempts_;
  std::map<JobId, Epoch> highest_;            // epochs seen; bounded, lowest job ids go first
  std::deque<protocol::AttemptStatus> past_;  // ends of forgotten attempts, newest last; bounded

  bool connected_ = false;
  bool welcome_ = false;
  Mono hello_sent_at_{};
  Duration lease_{};
  Duration heartbeat_every_ = std::chrono::seconds(1);
  Mono next_heartbeat_{};
  std::int64_t heartbeat_seq_ = 0;
  std::optional<std::int64_t> term_;  // of the leader that we obey, kept where our successor finds it
  std::map<std::int64_t, Mono> heartbeats_under_way_;  // seq → sent at; bounded
  Mono lease_until_{};                                 // zero = none yet
  PeerWatch peers_;
  Mono next_ping_{};
  std::int64_t next_question_ = 1;
  // Not known to have arrived: said at the next Welcome, once more perhaps. The newest; bounded.
  struct UntoldFault {
    std::int64_t boot_us = 0;     // CLOCK_BOOTTIME of the evidence
    std::int64_t said_after = 0;  // the heartbeat with this number: a later one's answer proves its arrival
    protocol::GpuFault fault;
  };
  std::deque<UntoldFault> faults_untold_;
  // Until it is known which GPUs there are, or that none can be read; bounded.
  std::vector<node::KernelFinding> findings_waiting_;
  bool probe_spoke_ = false;
  std::vector<Action> actions_;

  NodeConditions conditions_;
  node::FaultPairs fault_pairs_;
  std::optional<std::vector<protocol::GpuLoad>> loads_;  // of the last sample, until a heartbeat has said it
  std::map<std::string, std::uint64_t> idle_memory_;     // UUID → the least memory it was seen to use
  std::optional<std::int64_t> switch_fault_at_;          // CLOCK_BOOTTIME
  bool inspecting_ = false;
  std::optional<protocol::InspectionReport> inspection_;  // the last one
  Instant inspected_at_;
};

}  // namespace tutti::worker
