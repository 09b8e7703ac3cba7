#include "tests/sim/machine.h"

#include <algorithm>

#include "tests/sim/worker_process.h"

namespace tutti::sim {
namespace {
constexpr Instant kEpoch{std::chrono::hours(24 * 365 * 56)};
constexpr std::int64_t kMillion = 1'000'000;
}  // namespace

Machine::Machine(Place& place, std::size_t index, int gpus)
    : place_(place),
      index_(index),
      name_("n" + std::to_string(index)),
      dice_(place.network.world().dice(100 + index)),
      drift_ppm_(dice_.between(-200, 200)),
      skew_(dice_.between(0ms, 4s) - 2s),
      old_version_(place.upgrade && dice_.chance(400)) {
  for (int i = 0; i < gpus; ++i) gpus_.push_back({"GPU-" + name_ + "-" + std::to_string(i), false});
}
Machine::~Machine() = default;

Now Machine::clock() const {
  const auto up = (place_.network.world().now() - booted_at_).count();
  const auto mono = 100 * kMillion + up + up * drift_ppm_ / kMillion;
  return {kEpoch + place_.network.world().now() + skew_, Mono(Duration(mono))};
}

Time Machine::when(std::int64_t boot_us) const {
  const auto up = boot_us - 100 * kMillion;
  return booted_at_ + Duration(up - up * drift_ppm_ / kMillion) + 2us;
}

void Machine::boot() {
  world().log([&] { return name_ + " boots"; });
  powered_ = true;
  ++boots_;
  booted_at_ = world().now();
  for (auto& gpu : gpus_) gpu.lost = false;  // booting resets them
  start_worker();
}

void Machine::power_off() {
  if (!powered_) return;
  world().log([&] { return name_ + " loses power"; });
  powered_ = false;
  if (worker_) worker_->end(false);
  for (auto& [key, supervisor] : supervisors_) supervisor->power_off();
  oracle().power_is_lost();
  supervisors_.clear();
}

void Machine::start_worker() {
  if (!powered_ || (worker_ && worker_->alive())) return;
  world().log([&] { return name_ + ": worker starts"; });
  if (!worker_) worker_ = std::make_unique<WorkerProcess>(*this);
  worker_->start();
}

void Machine::kill_worker() {
  if (worker_ && worker_->alive()) {
    world().log([&] { return name_ + ": worker is killed"; });
    worker_->end(true);
  }
}

std::shared_ptr<SupervisorProcess> Machine::spawn_supervisor(const supervisor::Config& config,
                                                             const std::string& job,
                                                             const std::string& checkpoint_dir) {
  oracle().begun(config.key, index_);
  auto supervisor =
      std::make_shared<SupervisorProcess>(*this, config, workload().plans.at(job), checkpoint_dir);
  supervisors_[config.key] = supervisor;
  supervisor->start();
  return supervisor;
}

std::shared_ptr<SupervisorProcess> Machine::supervisor_of(AttemptKey key) const {
  const auto it = supervisors_.find(key);
  return it == supervisors_.end() ? nullptr : it->second;
}

std::vector<unsigned> Machine::processes_on(const std::string& uuid) const {
  std::vector<unsigned> pids;
  for (const auto& [key, supervisor] : supervisors_)
    if (supervisor->uses(uuid)) pids.push_back(static_cast<unsigned>(1000 + key.job.value));
  return pids;
}

nvml::Inventory Machine::inventory() const {
  nvml::Inventory m;
  m.driver = "550.54";
  m.simulated = true;
  for (std::size_t i = 0; i < gpus_.size(); ++i) {
    nvml::GpuInfo g;
    g.index = static_cast<unsigned>(i);
    g.uuid = gpus_[i].uuid;
    g.name = "NVIDIA H100 80GB HBM3";
    g.memory_bytes = 80ULL << 30;
    g.pci = "0000:1" + std::to_string(i) + ":00";
    g.device_path = "/dev/sim/" + gpus_[i].uuid;
    g.nvlink_island = static_cast<unsigned>(i / 2);
    m.gpus.push_back(std::move(g));
  }
  return m;
}

void Machine::xid(std::size_t gpu, unsigned number) {
  if (!powered_ || gpu >= gpus_.size()) return;
  constexpr unsigned kOffTheBus = 79;
  if (number == kOffTheBus) gpus_[gpu].lost = true;
  nvml::Fault fault;
  fault.uuid = gpus_[gpu].uuid;
  fault.kind = nvml::FaultKind::xid;
  fault.xid = number;
  fault.boot_us = boot_us();
  fault.detail = "simulated";
  if (worker_) worker_->on_driver(fault);
  if (number == kOffTheBus && worker_) {
    fault.kind = nvml::FaultKind::gpu_lost;
    fault.xid.reset();
    worker_->on_driver(fault);
  }
  for (auto& [key, supervisor] : supervisors_) supervisor->gpu_failed(gpus_[gpu].uuid, dice_);
}

void Machine::reset_gpus() {
  for (auto& gpu : gpus_) {
    gpu.lost = false;
    nvml::Recovered recovered;
    recovered.uuid = gpu.uuid;
    recovered.kind = nvml::FaultKind::gpu_lost;
    recovered.boot_us = boot_us();
    if (worker_) worker_->on_driver(recovered);
  }
}

}  // namespace tutti::sim
