// The shell around WorkerCore: carries its actions out and tells it what happened. Everything here runs on
// the io_context's one thread; what can block for long (kills, file servers, removal) runs on pools and comes
// back by post.
//
//   1. Actions are carried out in the order in which the core gave them; an event that an action causes is
//      handled after the rest of them.
//   2. A supervisor's files are on disk before it is started, an end before it is told.
//   3. Stopping the worker stops no attempt.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "worker/core/worker_core.h"
#include "worker/service/attempt_dir.h"
#include "worker/service/job_files.h"
#include "worker/service/lease_file.h"
#include "worker/service/node_watch.h"
#include "worker/service/probe_process.h"
#include "worker/service/scheduler_client.h"
#include "worker/service/settings.h"
#include "worker/service/supervisor_link.h"

namespace tutti::worker {

class Worker {
 public:
  /// Throws std::runtime_error when the state directory cannot be used or another worker has it.
  Worker(boost::asio::io_context& io, Settings settings);
  ~Worker();

  /// Finds what a former worker left, starts the probe, then connects.
  void start();

 private:
  struct Watch {  // of an attempt that may write checkpoints and progress
    SeenCheckpoints seen;
    bool scanning = false;  // `seen` is away with the pool
    bool final_wanted = false;
    std::unique_ptr<boost::asio::steady_timer> final_deadline;
    std::optional<protocol::Progress> last_progress;
  };
  struct WaitingRead {
    protocol::ReadLog request;
    Mono until{};
  };

  // worker.cpp
  void lock_state_dir();
  void read_boot();
  void read_health();
  void open_client();
  void handle(const std::string& text);
  void settle();  // after every event: actions, then the timer
  void act(Send&);
  void act(SpawnSupervisor&);
  void act(LaunchRanks&);
  void act(TellSupervisor&);
  void act(KillAndProve&);
  void act(KillSupervisor&);
  void act(FinalScan&);
  void act(AskProcesses&);
  void act(RecordEnd&);
  void act(Retire&);
  void act(RunGate&);
  void act(RunInspection&);
  void act(SetLease&);
  void act(SaveHealth&);
  void act(Note&);
  void arm_tick();
  void on_probe(const nvml::Message&);
  void on_probe_hung(int times);

  // worker_health.cpp
  void start_node_watch();
  void read_inspection();
  void keep_kernel_log(const protocol::AttemptStatus& ended);

  // worker_attempts.cpp
  void recover();
  void recover_unreadable(AttemptKey key);
  void recover_one(AttemptKey);
  bool adopt_supervisor(AttemptKey);
  SupervisorLink& make_link(AttemptKey);
  NodeFacts facts_of(AttemptKey);
  ParsedSpec parse(const std::string& spec_json) const;
  void look_at_jobs();  // each scan_every: progress and checkpoints
  void scan(AttemptKey);
  void on_scanned(AttemptKey, SeenCheckpoints, std::vector<protocol::CheckpointFound>);
  void end_scan(AttemptKey);
  void read_progress_of(AttemptKey, Watch&);
  void read(const protocol::ReadLog&);
  bool answer(const protocol::ReadLog&, bool at_once);
  void poll_logs();
  void clean_up();

  boost::asio::io_context& io_;
  const Settings settings_;
  supervisor::Fd lock_;
  bool former_boot_ = false;
  AttemptDirs dirs_;
  std::unique_ptr<LeaseFile> lease_;
  WorkerCore core_;
  std::map<AttemptKey, std::unique_ptr<SupervisorLink>> links_;
  std::map<AttemptKey, supervisor::Fd> supervisor_locks_;  // of dead supervisors: none may start again
  std::map<AttemptKey, Watch> watches_;
  std::set<AttemptKey> being_killed_;
  std::list<WaitingRead> waiting_reads_;
  std::unique_ptr<ProbeProcess> probe_;
  std::unique_ptr<NodeWatch> node_;
  std::unique_ptr<SchedulerClient> client_;
  boost::asio::steady_timer tick_, look_, log_poll_, probe_wait_;
  bool settling_ = false;
  bool polling_logs_ = false;
  boost::asio::thread_pool kills_{2}, scans_{4};  // apart: a hung file server must not keep a kill waiting
};

}  // namespace tutti::worker
