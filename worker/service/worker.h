// The shell around WorkerCore: carries its actions out and tells it what happened. Everything here runs on
// the io_context's one thread; what can block for long (kills, file servers, evidence, removal) runs on pools
// and comes back by post.
//
//   1. Actions are carried out in the order in which the core gave them; an event that an action causes is
//      handled after the rest of them.
//   2. A supervisor's files are on disk before it is started, an end before it is told.
//   3. Stopping the worker stops no attempt.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "worker/core/hang_watch.h"
#include "worker/core/worker_core.h"
#include "worker/service/accounts.h"
#include "worker/service/as_user.h"
#include "worker/service/attempt_dir.h"
#include "worker/service/checkpoint_files.h"
#include "worker/service/evidence.h"
#include "worker/service/job_files.h"
#include "worker/service/lease_file.h"
#include "worker/service/metrics_page.h"
#include "worker/service/node_watch.h"
#include "worker/service/peer_link.h"
#include "worker/service/probe_process.h"
#include "worker/service/rank_procs.h"
#include "worker/service/scheduler_client.h"
#include "worker/service/settings.h"
#include "worker/service/shell_host.h"
#include "worker/service/supervisor_link.h"

namespace tutti::worker {

class Worker {
 public:
  /// Throws std::runtime_error when the state directory cannot be used or another worker has it.
  Worker(boost::asio::io_context& io, Settings settings);
  ~Worker();

  /// Called whenever the worker has done what was due: at least once a second.
  void on_progress(std::function<void()> told) { on_progress_ = std::move(told); }
  /// One line for the service manager.
  std::string summary() const;

  /// Finds what a former worker left, starts the probe, then connects.
  void start();

  /// For Prometheus: what is so now, and what was counted since the start. Also of a worker without a page.
  std::string metrics_text();

 private:
  struct Watch {  // of an attempt that may write checkpoints and progress
    SeenCheckpoints seen;
    bool scanning = false;  // `seen` is away with the pool
    bool final_wanted = false;
    std::unique_ptr<boost::asio::steady_timer> final_deadline;
    std::optional<protocol::Progress> last_progress;
    bool collective_read = false;
  };
  struct RankWatch {  // of an attempt whose ranks run: do they move?
    explicit RankWatch(HangWatch w) : watch(std::move(w)) {}
    HangWatch watch;
    std::map<std::int32_t, pid_t> ours;    // rank → its program, seen to be the attempt's
    std::map<std::int32_t, RankUse> uses;  // at the last look
    std::map<std::int32_t, int> d_looks;   // in a row that it was in state D
    Mono looked_at{}, reported_at{}, saved_at{};
    protocol::RankReport last;  // as said
    HangWatch::Learned saved;
    bool captured = false;  // of the present stall
    int captures = 0;
    std::vector<pid_t> held;  // a killed debugger may have left them stopped
  };
  struct Capture {  // a tutti-capture under way
    std::unique_ptr<Watched> helper;
    std::unique_ptr<boost::asio::steady_timer> deadline;
    std::vector<pid_t> targets;  // processes that it may stop for a moment: they were not stopped before
    bool killed = false;
  };
  struct WaitingRead {
    protocol::ReadLog request;
    Mono until{};
  };

  // worker.cpp
  void lock_state_dir();
  void read_boot();
  void read_health();
  bool read_gpus();
  void open_client();
  void open_peer_link();
  void use_peer_secret(const std::string&);
  void settle();  // after every event: actions, then the timer
  void arm_tick();
  void write_later(std::string path, std::string text, mode_t mode = 0600);
  void write_evidence(AttemptKey, const std::string& file, std::string text);
  void on_probe(const nvml::Message&);
  void on_probe_hung(int times);

  // worker_orders.cpp
  void handle(const std::string& text);
  bool obey(const protocol::Welcome&);  // false: its leader's term is over
  bool nothing_lives() const;
  void prepare(const protocol::Prepare&);
  void open_shell(const protocol::OpenShell&);
  const Account* user_of(AttemptKey);         // none: nothing was ever started for it
  const SecretMask& mask_of(AttemptKey key);  // throws std::runtime_error

  // worker_actions.cpp
  void act(Send&);
  void act(SpawnSupervisor&);
  void act(LaunchRanks&);
  void act(TellSupervisor&);
  void act(KillAndProve&);
  void act(KillSupervisor&);
  void act(FinalScan&);
  void act(AskProcesses&);
  void act(RecordEnd&);
  void act(CheckResume&);
  void act(DeleteFiles&);
  void act(Retire&);
  void act(RunGate&);
  void act(RunInspection&);
  void act(SetLease&);
  void act(SetAttemptLease&);
  void act(PingPeer&);
  void act(SaveHealth&);
  void act(Note&);

  // worker_hang.cpp
  void watch_ranks(AttemptKey);  // each look
  RankWatch& rank_watch(AttemptKey, const WorkerCore::View&);
  void hear_ranks(AttemptKey, RankWatch&, const WorkerCore::View&, Now);
  void look_at_ranks(AttemptKey, RankWatch&, const WorkerCore::View&, Now);
  void report_ranks(AttemptKey, RankWatch&, const HangWatch::Verdict&, Now);
  void capture(AttemptKey, RankWatch&, const WorkerCore::View&);
  void start_capture(AttemptKey, const SpawnRequest&);
  void capture_late(AttemptKey);
  void captured(AttemptKey);
  void let_go(AttemptKey);
  void save_learned(AttemptKey, RankWatch&, Now);
  void say_ranks_again();
  void note_gpus(AttemptKey, const char* file);
  void read_evidence(const protocol::ReadLog&);
  // worker_metrics.cpp
  void open_metrics_page();
  // worker_health.cpp
  void start_node_watch();
  void read_inspection();
  std::optional<std::uint64_t> read_log_number() const;
  void save_log_number(std::uint64_t);
  void keep_kernel_log(const protocol::AttemptStatus& ended);

  // worker_attempts.cpp
  void recover();
  void recover_unreadable(AttemptKey key);
  void recover_one(AttemptKey);
  bool adopt_supervisor(AttemptKey);
  SupervisorLink& make_link(AttemptKey);
  NodeFacts facts_of(AttemptKey);
  void add_network(AttemptKey key, NodeFacts& facts);
  ParsedSpec parse(const std::string& spec_json) const;
  void look_at_jobs();  // each scan_every: progress and checkpoints
  void read_words_of(AttemptKey, Watch&);
  void read_progress_of(AttemptKey, Watch&);
  void read_collective_of(AttemptKey, Watch&);
  void read(const protocol::ReadLog&);
  bool answer(const protocol::ReadLog&, bool at_once);
  void poll_logs();
  void clean_up();

  // worker_checkpoints.cpp
  struct Verification {  // of one checkpoint, on a thread of its own
    AttemptKey key;
    std::string dir, path;
    std::int64_t step = 0, epoch = 0;
  };
  Account files_of(AttemptKey);
  void scan(AttemptKey, bool last = false);
  void on_scanned(AttemptKey, SeenCheckpoints, FoundCheckpoints);
  void end_scan(AttemptKey);
  void verify(Verification);
  void verify_next();

  struct Counted {  // since the start
    bool connected = false;
    std::uint64_t connects = 0, acks = 0, probe_hangs = 0;
  };

  boost::asio::io_context& io_;
  const Settings settings_;
  Accounts accounts_;
  std::map<AttemptKey, Account> users_;     // of attempts that are not retired
  Account retired_user_;                    // of the attempt that user_of() was last asked about
  std::set<AttemptKey> being_looked_up_;    // their owners' accounts
  std::map<AttemptKey, SecretMask> masks_;  // of attempts whose logs are read; bounded
  supervisor::Fd lock_;
  bool former_boot_ = false;
  AttemptDirs dirs_;
  std::unique_ptr<LeaseFile> lease_;
  std::map<AttemptKey, LeaseFile> leases_;  // of attempts that may run
  std::unique_ptr<PeerLink> peer_link_;
  WorkerCore core_;
  std::map<AttemptKey, std::unique_ptr<SupervisorLink>> links_;
  std::map<AttemptKey, supervisor::Fd> supervisor_locks_;  // of dead supervisors: none may start again
  std::map<AttemptKey, Watch> watches_;
  std::map<AttemptKey, std::unique_ptr<RankWatch>> rank_watches_;
  std::map<AttemptKey, Capture> captures_;
  std::string gpus_saved_;                              // as in gpus.json
  std::map<std::string, nvml::GpuSample> gpu_samples_;  // UUID → the last one
  std::int64_t gpu_sampled_boot_us_ = 0;
  EvidenceStore evidence_;
  ShellHost shells_;
  std::set<AttemptKey> being_killed_;
  std::list<WaitingRead> waiting_reads_;
  std::unique_ptr<ProbeProcess> probe_;
  std::unique_ptr<NodeWatch> node_;
  std::optional<std::uint64_t> log_number_saved_;
  std::unique_ptr<SchedulerClient> client_;
  Counted counted_;
  std::unique_ptr<MetricsPage> metrics_page_;
  std::int64_t term_ = 0;  // the highest leader's term that was obeyed here; 0: none, or it cannot be kept
  boost::asio::steady_timer tick_, look_, log_poll_, probe_wait_, metrics_wait_;
  std::function<void()> on_progress_;
  bool settling_ = false;
  bool polling_logs_ = false;
  std::deque<Verification> verifications_;  // the newest; bounded
  bool verifying_ = false;
  std::atomic<bool> leaving_{false};              // long reads give up
  boost::asio::thread_pool kills_{2}, scans_{4};  // apart: a hung file server must not keep a kill waiting
  boost::asio::thread_pool checks_{4}, verifier_{1}, deletions_{1};
  // The local disk, which may be slow: evidence, and what may be lost at a crash. One thread keeps the order.
  boost::asio::thread_pool disk_{1};
};

}  // namespace tutti::worker
