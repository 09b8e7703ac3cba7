// One GPU machine: its clock (with a rate of its own), its disk, its GPUs, the supervisors and ranks on it,
// and its worker process. It can lose power and boot again: the disk stays, all else is gone, GPUs are reset.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/canary.h"
#include "tests/sim/network.h"
#include "tests/sim/supervisor_process.h"
#include "tests/sim/workload.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::sim {

class WorkerProcess;
class SchedulerProcess;
class Machine;

struct AttemptDir {  // files in their text form, as they lie on the disk
  std::string prepare, config, state, end;
  std::int64_t lease_us = 0;
  bool retired = false;
};
struct Disk {
  std::map<AttemptKey, AttemptDir> attempts;
  std::int64_t lease_us = 0;
  std::int64_t term = 0;  // the highest that was obeyed; 0: nothing is claimed
  std::string boot_id;    // of the worker that was here last
  std::map<std::string, std::string> gpu_health;
};
struct SimGpu {
  std::string uuid;
  bool lost = false;  // until a reset
};

struct Place {  // what all machines share
  Network& network;
  Oracle& oracle;
  Workload& workload;
  std::vector<SchedulerProcess*> schedulers;
  Canary canary = Canary::none;
  bool benign = false;
  bool storm = false;    // many faults at once (storm.cpp)
  bool upgrade = false;  // some workers are one version older
  bool rolling = false;  // schedulers are, or have been, and are replaced
  std::vector<Machine*> machines{};
};

class Machine {
 public:
  Machine(Place& place, std::size_t index, int gpus);
  ~Machine();

  World& world() { return place_.network.world(); }
  Place& place() { return place_; }
  Oracle& oracle() { return place_.oracle; }
  Workload& workload() { return place_.workload; }
  Canary canary() const { return place_.canary; }
  std::size_t index() const { return index_; }
  const std::string& name() const { return name_; }
  Disk& disk() { return disk_; }
  Dice& dice() { return dice_; }

  // Its worker is one version older: it neither knows nor says anything of terms, and less of itself.
  bool old_version() const { return old_version_; }

  void jump_clock(Duration by) { skew_ += by; }  // of its calendar
  Now clock() const;
  std::int64_t boot_us() const { return clock().mono.time_since_epoch().count(); }
  Time when(std::int64_t boot_us) const;  // virtual time of a moment of this machine's clock

  void boot();
  void power_off();
  bool powered() const { return powered_; }
  std::string boot_id() const { return name_ + "-boot-" + std::to_string(boots_); }

  void start_worker();
  void kill_worker();
  WorkerProcess* worker() { return worker_.get(); }

  std::shared_ptr<SupervisorProcess> spawn_supervisor(const supervisor::Config&, const std::string& job,
                                                      const std::string& checkpoint_dir);
  std::shared_ptr<SupervisorProcess> supervisor_of(AttemptKey key) const;
  const std::map<AttemptKey, std::shared_ptr<SupervisorProcess>>& supervisors() const { return supervisors_; }

  const std::vector<SimGpu>& gpus() const { return gpus_; }
  void xid(std::size_t gpu, unsigned number);
  void reset_gpus();
  std::vector<unsigned> processes_on(const std::string& uuid) const;
  nvml::Inventory inventory() const;

 private:
  Place& place_;
  const std::size_t index_;
  const std::string name_;
  Dice dice_;
  const int drift_ppm_;
  Duration skew_;  // of its calendar clock
  const bool old_version_;
  Time booted_at_{};
  int boots_ = 0;
  bool powered_ = false;
  Disk disk_;
  std::vector<SimGpu> gpus_;
  std::map<AttemptKey, std::shared_ptr<SupervisorProcess>> supervisors_;
  std::unique_ptr<WorkerProcess> worker_;
};

}  // namespace tutti::sim
