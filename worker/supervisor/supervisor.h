// The keeper of one attempt on one machine: owns its processes, devices and sockets, obeys the worker while
// there is one and the lease in any case, and says that all is over only with proof. Run by tutti-supervisor,
// one thread.
//
// Invariants
// 1. The attempt is started at most once: a directory with a state.json has had its supervisor.
// 2. Once gang_part says `finishing`, nothing is started any more, and the kill comes before any file or
// socket.
// 3. What is told to a worker is in state.json first.
// 4. Device locks are let go, and the cgroup is gone, before the end is told: the next attempt may then come.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/secret_mask.h"
#include "worker/supervisor/agent_server.h"
#include "worker/supervisor/gang_part.h"
#include "worker/supervisor/lease.h"
#include "worker/supervisor/messages.h"
#include "worker/supervisor/peer.h"
#include "worker/supervisor/poller.h"
#include "worker/supervisor/rank_server.h"
#include "worker/supervisor/secrets_file.h"
#include "worker/supervisor/spawn.h"

namespace tutti::supervisor {

inline constexpr const char* kWorkerSocket = "supervisor.sock";

class Supervisor {
 public:
  explicit Supervisor(Config config);
  ~Supervisor();
  // Until Quit, or ten minutes after the end. The caller has made the process a session leader and a
  // subreaper and has blocked SIGCHLD, SIGTERM and SIGINT.
  void run();

 private:
  enum class Role {
    setup,
    launched,
    agent,
    shell  // of a person: no part of the gang
  };
  struct Running {
    Role role;
    bool is_rank = false;
    std::int32_t rank = -1;  // of a rank's keeper, as its environment says
    std::string name;        // for people
    std::string log;         // absolute, "" = none
    std::string cgroup{};    // below the attempt's, of a shell
    Fd trouble;
  };

  // supervisor_start.cpp: everything up to `launched`
  void prepare();
  bool check_user(std::string& problem);
  bool choose_kill_mode(std::string& problem);
  bool lock_devices(std::string& problem);
  void open_ports();
  void start_setup();
  void on_setup_ended(const Exit& exit, const std::string& trouble);
  void become_ready();
  void launch(Launch launch);
  pid_t start_agent_command(const std::string& command, int out, int err, std::string& refusal);
  pid_t start(Running running, SpawnPlan plan);
  // supervisor_shells.cpp
  void open_shell(const OpenShell& what);
  std::string why_no_shell(const OpenShell& what, pid_t& rank_of) const;
  void on_shell_ended(const Running& shell) const;
  void give(const std::string& path) const;  // to the job's user
  std::map<std::string, std::string> complete(std::map<std::string, std::string> env) const;
  void fail_launch(const std::string& kind, const std::string& detail);

  // supervisor.cpp: the loop and the end
  void listen();
  void accept_workers();
  void obey(ToSupervisor command);
  void stop(const Stop& stop);
  void signal_ranks(const SignalRanks& what);
  void reap();
  void on_process_ended(pid_t pid, const Exit& exit);
  void turn();
  void check_deadlines(std::int64_t now);
  void strike();
  void prove();
  void end(bool proven, const std::string& how);
  void publish();
  Status status() const;
  std::optional<std::int64_t> next_wake();

  const Config config_;
  User user_;
  Secrets secrets_;
  SecretMask mask_;  // of what is told
  Poller poller_;
  GangPart part_;
  Lease lease_;
  std::string cgroup_;  // "" = process-group mode
  std::vector<Fd> device_locks_;
  std::vector<std::string> held_devices_;
  Fd signals_, worker_listener_, reserved_port_;
  std::list<std::unique_ptr<Peer>> workers_;
  std::optional<RankServer> ranks_;
  std::optional<AgentServer> agents_;
  std::map<pid_t, Running> processes_;
  std::map<std::int32_t, RankState> rank_states_;  // those that have come up
  std::optional<Launch> early_launch_;             // came before we were ready
  std::int32_t agent_port_ = 0, master_port_ = 0;
  bool anything_started_ = false;
  std::optional<std::int64_t> setup_until_;
  std::optional<std::int64_t> struck_at_;  // the kill has begun
  std::int64_t prove_at_ = 0;              // next attempt at a proof
  std::string last_lines_log_;             // of the process that failed to launch
  std::string last_lines_;                 // read once, when the failure was seen
  std::optional<protocol::End> end_;
  std::string told_;  // the last Status, encoded
  bool quit_ = false;
};

}  // namespace tutti::supervisor
