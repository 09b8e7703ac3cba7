// The GPUs of this node as the probe reports them, and which of them had a fatal fault since their last
// reset. Part of WorkerCore; std only.
//
//   1. A fatal fault is remembered per UUID until the probe says that a condition of that GPU has ended
//      (which takes a reset) and no fatal condition is left, or that the GPU, once gone, is there again. A
//      restart of the worker keeps the memory (`remembered`), a new boot ends it: booting resets GPUs.
//   2. GPUs keep their order by index; one without NVLink to any other has island -1.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/model/protocol.h"
#include "worker/core/environment.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::worker {

/// Is a fault of this kind and Xid fatal for the GPU? By the built-in table, until a scheduler tells its own.
using FatalFault = bool (*)(std::string_view kind, std::int32_t xid);

class GpuLedger {
 public:
  explicit GpuLedger(FatalFault fatal) : fatal_(fatal) {}

  /// As of Welcome; nullopt: an older scheduler, the built-in table counts.
  void use_table(const std::optional<std::vector<std::string>>& quarantining);
  void on_inventory(const nvml::Inventory&);
  /// The message for the scheduler; nothing if the GPU cannot be told.
  std::optional<protocol::GpuFault> on_fault(const nvml::Fault&, std::int64_t now_boot_us);
  void on_recovered(const nvml::Recovered&);

  /// True once after the health of a GPU or the set of GPUs has changed.
  bool take_changed() { return std::exchange(changed_, false); }

  bool known() const { return known_; }  // an inventory has come
  protocol::GpuInventory inventory() const;
  std::vector<DeviceFact> all_devices() const;
  const nvml::GpuInfo* find(const std::string& uuid) const;
  /// At this PCI address: one GPU, or all its slices.
  std::vector<std::string> uuids_at(const std::string& pci) const;
  /// "" = healthy, else why not.
  std::string why_unhealthy(const std::string& uuid) const;

  /// UUID → reason, to be stored; and read back after a restart of the worker on the same boot.
  std::map<std::string, std::string> remembered() const;
  void remember(const std::map<std::string, std::string>&);

 private:
  struct Health {
    std::string reason;                         // of the first fatal fault
    std::set<nvml::FaultKind> open_conditions;  // fatal ones that have not ended
  };
  std::string uuid_of(const std::string& uuid, const std::string& pci) const;
  bool is_fatal(std::string_view kind, std::int32_t xid) const;

  FatalFault fatal_;
  std::optional<std::set<std::string, std::less<>>> told_;  // the scheduler's table, if one has told it
  nvml::Inventory inventory_;
  bool known_ = false;
  bool changed_ = false;
  std::map<std::string, Health> unhealthy_;
};

}  // namespace tutti::worker
