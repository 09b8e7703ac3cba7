// One worker process in virtual time: the real WorkerCore inside a shell that does what worker/service does
// with its actions: adoption of what a former worker left on disk, supervisors and the connections to them,
// the probe, scans for checkpoints, the connection to a scheduler with its back-off and deadlines.
//
// It dies without a trace but for the disk; supervisors and ranks go on.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/machine.h"
#include "worker/core/worker_core.h"

namespace tutti::sim {

class WorkerProcess {
 public:
  explicit WorkerProcess(Machine& machine);

  void start();
  void end(bool machine_lives);
  void pause();  // as SIGSTOP: its supervisors go on
  void resume();
  bool alive() const { return alive_; }
  bool paused() const { return paused_; }
  void on_driver(const nvml::Message& message);  // through the probe, if that is up
  void crash_probe();
  const worker::WorkerCore* core() const { return core_.get(); }
  void drop_link();
  void go_to(std::size_t host);  // its connection breaks, and this scheduler is asked first
  void when_connected(std::size_t host, std::function<void()> what) { awaited_ = {host, std::move(what)}; }
  void hear_peer(Machine& from, const std::string& text);

 private:
  struct LocalLink {  // to one supervisor
    std::shared_ptr<SupervisorProcess> supervisor;
    std::uint64_t number = 0;
    bool connected = false, first = true;
    std::deque<supervisor::ToSupervisor> waiting;
    Time last_down{}, last_up{};
  };
  struct Watch {
    std::set<std::pair<std::string, std::int64_t>> seen;  // path and epoch
  };

  void gate(std::function<void()> what);                  // now, or when it continues
  void soon(Duration delay, std::function<void()> what);  // inside this process, if it lives then
  Now clock() const { return machine_.clock(); }
  void settle();
  void arm();

  // the scheduler
  void connect();
  void connected(const LinkPtr& link);
  void lost(const std::string& why);
  void try_next();
  void handle(const std::string& text);
  bool obey(const protocol::Welcome& welcome);
  void redirected(const protocol::Refused& refused);
  worker::ParsedSpec parse(const std::string& json) const;

  // actions
  void act(worker::Send&);
  void act(worker::SpawnSupervisor&);
  void act(worker::LaunchRanks&);
  void act(worker::TellSupervisor&);
  void act(worker::KillAndProve&);
  void act(worker::KillSupervisor&);
  void act(worker::FinalScan&);
  void act(worker::AskProcesses&);
  void act(worker::RecordEnd&);
  void act(worker::CheckResume&);
  void act(worker::DeleteFiles&);
  void act(worker::Retire&);
  void act(worker::RunGate&);
  void act(worker::RunInspection&);
  void act(worker::SetLease&);
  void act(worker::SetAttemptLease&);
  void act(worker::PingPeer&);
  void tell_peer(Machine& to, const protocol::PeerMessage& message);
  void act(worker::SaveHealth&);
  void act(worker::Note&);

  void build_core(bool remember_epochs);
  void recover(bool former_boot, bool remember_epochs);
  worker::NodeFacts facts_of(AttemptKey key) const;
  void open_local(AttemptKey key, const std::shared_ptr<SupervisorProcess>& supervisor);
  void connect_local(AttemptKey key, std::uint64_t number);
  void flush_local(LocalLink& link);
  void watch_death(AttemptKey key, std::uint64_t number);
  void kill_until(AttemptKey key, Time deadline);
  void start_probe();
  void probe_says(nvml::Message message);
  void look_at_jobs();
  void scan(AttemptKey key);
  void verify(AttemptKey key, const protocol::CheckpointFound& found);
  StoredCheckpoint* stored(AttemptKey key, const std::string& path, std::int64_t epoch);

  Machine& machine_;
  World& world_;
  Dice dice_;
  bool alive_ = false, paused_ = false;
  std::vector<std::function<void()>> deferred_;
  std::uint64_t life_ = 0;
  std::unique_ptr<worker::WorkerCore> core_;
  bool settling_ = false;
  Time tick_at_{};
  std::uint64_t tick_ = 0;

  LinkPtr link_;
  std::uint64_t connection_ = 0;
  std::size_t peer_ = 0;
  std::optional<std::size_t> next_told_;
  std::pair<std::size_t, std::function<void()>> awaited_;  // of a fault: once, its hello is on its way
  bool welcomed_ = false, client_open_ = false;
  Duration back_off_ = 100ms;

  bool probe_up_ = false;
  std::uint64_t probe_ = 0;
  Time probe_last_{};
  std::map<AttemptKey, LocalLink> locals_;
  std::uint64_t next_local_ = 1;
  std::map<AttemptKey, Watch> watches_;
  std::set<AttemptKey> being_killed_;
};

}  // namespace tutti::sim
