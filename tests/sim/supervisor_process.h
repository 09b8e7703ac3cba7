// One supervisor and the ranks it owns, in virtual time. Its decisions are the real ones
// (worker/supervisor/gang_part); around them stands what supervisor.cpp does: setup, launch, its own watch on
// the lease, the kill and its proof, its state on disk, its status to whichever worker is connected.
//
// The ranks outlive a killed supervisor by moments only (they die with their parent), unless one is stuck in
// the kernel: such a rank takes no step, keeps its GPU and dies late.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/oracle.h"
#include "tests/sim/workload.h"
#include "worker/supervisor/gang_part.h"
#include "worker/supervisor/messages.h"

namespace tutti::sim {

class Machine;

class SupervisorProcess : public std::enable_shared_from_this<SupervisorProcess> {
 public:
  SupervisorProcess(Machine& machine, supervisor::Config config, JobPlan plan, std::string checkpoint_dir);

  void start();
  void kill();    // SIGKILL to the supervisor itself
  void freeze();  // SIGSTOP: its ranks compute on
  void thaw();
  bool frozen() const { return frozen_; }
  void power_off();  // everything is gone at once
  void kill_a_rank(Dice& dice);
  void gpu_failed(const std::string& uuid, Dice& dice);  // programs on it notice, or hang

  // ---- its worker. The callback gets each status, whole; `nullptr`: nobody listens.
  using Listener = std::function<void(const supervisor::Status&)>;
  bool listening() const { return alive_ && listening_; }
  bool alive() const { return alive_; }
  void attach(Listener listener);
  void when_dead(std::function<void()> told) { watchers_.push_back(std::move(told)); }
  void obey(const supervisor::ToSupervisor& command);
  // kill_and_prove: SIGKILL to whatever of it still lives; true when nothing does.
  bool kill_and_look();
  bool uses(const std::string& uuid) const;  // a process of it is on this GPU
  std::optional<std::int64_t> step() const;  // of its first rank, while that runs

 private:
  enum class Life {
    starting,  // the process is there
    up,        // has reported
    struck,    // SIGKILL is under way
    dead
  };
  struct Rank {
    int number = 0;
    Life life = Life::starting;
    bool reported = false;
    bool stuck = false;
    Time up_at{};
    std::int64_t first_step = 0;
    bool first = false;  // writes the checkpoints
  };

  std::int64_t boot_us() const;
  void gate(std::function<void()> what);                  // now, or when it continues
  void soon(Duration delay, std::function<void()> what);  // inside this process, if it lives then
  void prepare();
  void launch(const supervisor::Launch& launch);
  void start_rank(const supervisor::Process& process);
  void rank_up(std::size_t i);
  void rank_exits(std::size_t i, supervisor::Exit exit);
  void write_checkpoint(std::size_t i, std::int64_t step);
  void checkpoint_later(std::size_t i);
  void strike_rank(std::size_t i);
  void strike();
  void prove();
  void end(bool proven, const std::string& how);
  std::int64_t lease_us() const;
  void turn();
  void arm();
  void publish();
  supervisor::Status status() const;
  bool any_alive() const;
  void die();
  std::int64_t step_of(const Rank& rank) const;

  Machine& machine_;
  World& world_;
  Oracle& oracle_;
  Dice dice_;
  const supervisor::Config config_;
  const JobPlan plan_;
  const std::string checkpoint_dir_;
  std::vector<std::string> gpus_;
  supervisor::GangPart part_;
  bool alive_ = false, listening_ = false, frozen_ = false;
  std::vector<std::function<void()>> deferred_;
  std::vector<Rank> ranks_;
  bool anything_started_ = false;
  std::optional<supervisor::Launch> early_launch_;
  std::optional<std::int64_t> struck_at_;
  std::optional<protocol::End> end_;
  std::int64_t prove_at_ = 0;
  std::int32_t master_port_ = 0;
  std::string told_;
  Listener listener_;
  std::vector<std::function<void()>> watchers_;
  std::uint64_t armed_ = 0;
};

}  // namespace tutti::sim
