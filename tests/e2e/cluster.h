// A whole Tutti out of real processes: PostgreSQL, one scheduler, workers with simulated GPUs, each in a
// network namespace of its own if wanted. Tests start, kill, freeze and cut its parts, and talk REST to it.
//
// Called by: tests, e2e_figures. One thread (Rest clients of other threads: rest()).
//
// finish() is the oracle at the end of every test:
//  1. every job reaches a terminal state, every GPU is given back;
//  2. no process of an attempt lives;
//  3. no two epochs of one job ever ran at the same time (what the ranks themselves wrote down);
//  4. no GPU had two owners at a time (the rows), no process of ours died of a sanitizer or an assertion;
//  5. the schedulers' decision logs, decided again, give the same decisions.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/e2e/process.h"
#include "tests/e2e/rest.h"
#include "tests/e2e/site.h"

namespace tutti::e2e {

struct ClusterOptions {
  int workers = 2;
  int gpus = 2;             // per node
  bool namespaces = false;  // each worker with an interface, an address and a host name of its own
  bool own_database = false;
  bool embedded = false;  // the scheduler's own PostgreSQL
  bool standby = false;   // a second scheduler on the same database
  // With namespaces, a standby and an own database: the first scheduler is in a place of its own in the
  // network and speaks to PostgreSQL over it, so that it can be cut off from everything.
  bool apart = false;
  double lease = 6, margin = 1.5;  // as delivered
  double continue_minutes = 10;    // likewise
  bool blames = true;              // a history of faults sets hardware aside, as delivered
  std::string small_disk{};        // this node's state directory is a file system of kSmallDisk bytes
  bool check_shared = false;       // all workers look whether files can be written in checked()
  // Lines of a user database that only the workers see, beside the machine's: each job then runs as its
  // owner.
  std::string accounts{}, groups{};
  std::map<std::string, std::string> scheduler_env{};  // for its process alone
  std::map<std::string, std::string> worker_env{};     // for the processes of all workers
};

inline constexpr int kSmallDisk = 16 << 20;

/// The program as of so many versions ahead, which kVersionsAhead in its environment tells it
/// (next_protocol.cpp).
std::string program_of(const std::string& name, int ahead);
inline constexpr const char* kVersionsAhead = "E2E_VERSIONS_AHEAD";

class Worker {
 public:
  Worker(std::string name, int number, std::string directory)
      : name_(std::move(name)), number_(number), directory_(std::move(directory)) {}
  const std::string& name() const { return name_; }
  int number() const { return number_; }
  const std::string& directory() const { return directory_; }
  std::string log() const { return directory_ + "/worker.log"; }
  Process& process() { return process_; }
  void xid(int gpu, int number) const;
  /// tutti-gpu-sim WORD --state … MORE: breaks and mends GPUs and the NVML library.
  void gpu_sim(const std::string& word, const std::vector<std::string>& more) const;

 private:
  friend class Cluster;
  std::string name_;
  int number_;
  std::string directory_;
  int boots_ = 1;
  Process process_;
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options = {});
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // ---- parts
  void start_scheduler();  // on the port it had; returns when it is ready
  void kill_scheduler();
  void start_standby();  // likewise, with the first one's token and secret; not embedded
  Process& standby() { return standby_; }
  Rest standby_rest() const { return {standby_port_, token_, standby_host_}; }
  std::uint16_t standby_port() const { return standby_port_; }
  /// Whom the questions below are put to; at first the scheduler.
  void talk_to_standby(bool yes) { rest_ = std::make_unique<Rest>(yes ? standby_rest() : rest()); }
  /// Of a scheduler that is apart.
  void cut_scheduler() { Site::instance().network().cut(Site::kSchedulerPlace); }
  void heal_scheduler() { Site::instance().network().heal(Site::kSchedulerPlace); }
  Process& scheduler() { return scheduler_; }
  PostgresServer& postgres() { return own_postgres_ ? *own_postgres_ : Site::instance().postgres(); }
  std::vector<std::string> sql(const std::string& text) { return sql_rows(connection_, text); }
  pid_t embedded_postmaster() const;
  Worker& worker(const std::string& name);
  void start_worker(Worker& worker, bool rebooted = false);
  /// What is started from now on is so many versions ahead of the others.
  void install_schedulers(int ahead) { schedulers_ahead_ = ahead; }
  void install_workers(int ahead) { workers_ahead_ = ahead; }
  void await_linked(const std::vector<std::string>& names = {});  // all by default
  void cut(const std::string& node) { Site::instance().network().cut(worker(node).number()); }
  void heal(const std::string& node) { Site::instance().network().heal(worker(node).number()); }
  /// SIGKILL to everything that runs on the node.
  void kill_node(const std::string& node);
  const ClusterOptions& options() const { return options_; }

  // ---- jobs
  /// A spec with `run` on nodes × gpus; tests add to it.
  json::object spec(const std::string& name, const std::string& run, int nodes = 1, int gpus = 1) const;
  std::string rank(const std::string& options) const {
    return Site::instance().program("e2e_rank") + " " + options;
  }
  std::string checkpoints(const std::string& name) const { return shared_ + "/ckpt-" + name; }
  std::string shared() const { return shared_; }
  std::string checked() const { return shared_ + "/checked"; }
  std::int64_t submit(const json::object& spec);
  json::object job(std::int64_t id);
  json::object await_state(std::int64_t id, const std::string& state);
  json::object await_job(std::int64_t id, const std::string& what,
                         const std::function<bool(const json::object&)>& condition);
  json::object await_running(std::int64_t id, std::int64_t epoch);
  std::vector<json::object> attempts(std::int64_t id);
  std::vector<json::object> events(std::int64_t id);
  std::string log_of(std::int64_t id, int attempt, int rank = 0);
  json::object node(const std::string& name);
  std::string explain(std::int64_t id);
  /// Names of the nodes of the newest attempt, in the order of the gang.
  std::vector<std::string> gang(std::int64_t id);

  // ---- processes of jobs
  /// Every process of this attempt on every node: keepers, launchers, ranks, what they started.
  std::vector<Seen> attempt_processes(std::int64_t id, std::int64_t epoch);
  /// Those of them that are a rank's program.
  std::vector<Seen> ranks(std::int64_t id, std::int64_t epoch, const std::string& program = "e2e_rank");
  std::vector<Seen> await_ranks(std::int64_t id, std::int64_t epoch, std::size_t count,
                                const std::string& program = "e2e_rank");
  /// When this rank (e2e_rank) started, and its last sign of life; both 0 while it has given none.
  std::pair<std::int64_t, std::int64_t> stamp(std::int64_t id, std::int64_t epoch, int rank) const;
  std::int64_t await_started(std::int64_t id, std::int64_t epoch, int rank) const;  // when
  void await_alive(std::int64_t id, std::int64_t epoch, int rank, std::int64_t after_us) const;
  Seen supervisor(std::int64_t id, std::int64_t epoch, const std::string& node);

  std::string intervals() const { return shared_ + "/intervals"; }
  std::string stamps() const { return shared_ + "/stamps"; }
  /// Where ranks hold one lock per GPU; whoever finds one taken says so in the file `doubles` there.
  std::string gpu_locks() const { return shared_ + "/gpu-locks"; }
  std::vector<std::string> nodes() const;
  const std::string& connection() const { return connection_; }

  Rest rest() const { return {port_, token_, host_}; }
  std::uint16_t port() const { return port_; }
  const std::string& token() const { return token_; }
  const std::string& directory() const { return directory_; }

  /// `tutti replay` over the scheduler's decision log, as JSON; throws Failure where it does not succeed.
  json::object replay(const std::vector<std::string>& words) const;

  /// Ends everything in order and asks all oracles; throws Failure.
  void finish();
  /// Ends of the logs of all parts, for a failed test.
  std::string logs() const;

 private:
  SpawnOptions scheduler_options(const std::string& data, std::uint16_t port, const std::string& log) const;
  void be_apart(SpawnOptions& scheduler, bool second) const;
  void stop_jobs();
  void check_gpus();
  void check_logs() const;
  void check_decisions(const std::string& data) const;

  ClusterOptions options_;
  std::string directory_, shared_, connection_, token_;
  std::string host_ = "127.0.0.1", standby_host_ = "127.0.0.1";
  std::uint16_t port_ = 0;
  std::unique_ptr<PostgresServer> own_postgres_;
  Process scheduler_, standby_;
  std::uint16_t standby_port_ = 0;
  int schedulers_ahead_ = 0, workers_ahead_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Rest> rest_;
};

}  // namespace tutti::e2e
