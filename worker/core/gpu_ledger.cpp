#include "worker/core/gpu_ledger.h"

#include "scheduler/model/fault_table.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tutti::worker {

void GpuLedger::on_inventory(const nvml::Inventory& m) {
  auto sorted = m;
  std::sort(sorted.gpus.begin(), sorted.gpus.end(), [](const auto& a, const auto& b) {
    return std::tie(a.index, a.uuid) < std::tie(b.index, b.uuid);
  });
  if (known_ && sorted == inventory_) return;
  // A GPU that had fallen off the bus is back: that took a reset.
  for (const auto& g : sorted.gpus)
    if (known_ && find(g.uuid) == nullptr) unhealthy_.erase(g.uuid);
  inventory_ = std::move(sorted);
  known_ = true;
  changed_ = true;
}

std::string GpuLedger::uuid_of(const std::string& uuid, const std::string& pci) const {
  if (!uuid.empty() || pci.empty()) return uuid;
  for (const auto& g : inventory_.gpus)
    if (g.pci == pci) return g.uuid;
  return {};
}

void GpuLedger::use_table(const std::optional<std::vector<std::string>>& quarantining) {
  told_.reset();
  if (quarantining) told_.emplace(quarantining->begin(), quarantining->end());
}

bool GpuLedger::is_fatal(std::string_view kind, std::int32_t xid) const {
  return told_ ? is_listed(*told_, kind, xid) : fatal_(kind, xid);
}

std::optional<protocol::GpuFault> GpuLedger::on_fault(const nvml::Fault& f, std::int64_t now_boot_us) {
  protocol::GpuFault out;
  out.uuid = uuid_of(f.uuid, f.pci);
  if (out.uuid.empty()) return std::nullopt;
  out.kind = std::string(nvml::name_of(f.kind));
  out.xid = static_cast<std::int32_t>(f.xid.value_or(0));
  out.age_us = std::max<std::int64_t>(0, now_boot_us - f.boot_us);
  out.detail = f.detail;
  if (is_fatal(out.kind, out.xid)) {
    auto& health = unhealthy_[out.uuid];
    if (health.reason.empty()) {
      health.reason = (f.xid ? "Xid " + std::to_string(*f.xid) : out.kind) + ": " + f.detail;
      changed_ = true;
    }
    if (f.kind != nvml::FaultKind::xid) health.open_conditions.insert(f.kind);
  }
  return out;
}

void GpuLedger::on_recovered(const nvml::Recovered& r) {
  const auto found = unhealthy_.find(uuid_of(r.uuid, r.pci));
  if (found == unhealthy_.end()) return;
  // The end of a condition that is not fatal (throttled) says nothing about a reset. One that was fatal when
  // it began does, even if the table has been changed since, or the worker has started anew; and so does what
  // is fatal by the nature of the thing, whatever a table makes of it.
  Health& health = found->second;
  const auto kind = nvml::name_of(r.kind);
  const bool began_as_fatal =
      health.open_conditions.erase(r.kind) > 0 || health.reason.starts_with(std::string(kind) + ":");
  if (!began_as_fatal && !is_fatal(kind, 0) && !fatal_(kind, 0)) return;
  if (!health.open_conditions.empty()) return;
  unhealthy_.erase(found);
  changed_ = true;
}

protocol::GpuInventory GpuLedger::inventory() const {
  protocol::GpuInventory out;
  out.driver = inventory_.driver;
  out.simulated_gpus = inventory_.simulated;
  for (const auto& g : inventory_.gpus) {
    protocol::GpuInfo info;
    info.uuid = g.uuid;
    info.index = static_cast<std::int32_t>(g.index);
    info.model = g.name;
    info.memory_bytes = static_cast<std::int64_t>(g.memory_bytes);
    info.pci = g.pci;
    info.island = g.nvlink_island ? static_cast<std::int32_t>(*g.nvlink_island) : -1;
    info.device_path = g.device_path;
    info.health_reason = why_unhealthy(g.uuid);
    info.healthy = info.health_reason.empty();
    out.gpus.push_back(std::move(info));
  }
  return out;
}

std::vector<DeviceFact> GpuLedger::all_devices() const {
  std::vector<DeviceFact> out;
  for (const auto& g : inventory_.gpus)
    out.push_back({g.uuid, static_cast<std::int32_t>(g.index), g.device_path, inventory_.simulated});
  return out;
}

const nvml::GpuInfo* GpuLedger::find(const std::string& uuid) const {
  for (const auto& g : inventory_.gpus)
    if (g.uuid == uuid) return &g;
  return nullptr;
}

std::vector<std::string> GpuLedger::uuids_at(const std::string& pci) const {
  std::vector<std::string> out;
  for (const auto& g : inventory_.gpus)
    if (g.pci == pci) out.push_back(g.uuid);
  return out;
}

std::string GpuLedger::why_unhealthy(const std::string& uuid) const {
  const auto found = unhealthy_.find(uuid);
  return found == unhealthy_.end() ? std::string() : found->second.reason;
}

std::map<std::string, std::string> GpuLedger::remembered() const {
  std::map<std::string, std::string> out;
  for (const auto& [uuid, health] : unhealthy_) out[uuid] = health.reason;
  return out;
}

// Conditions that still hold are reported again by a probe that starts anew; those that ended while we were
// away are noticed as "healthy" only by their next Recovered, so an operator's reset during our absence needs
// another one. That errs on the side of keeping work off the GPU.
void GpuLedger::remember(const std::map<std::string, std::string>& reasons) {
  for (const auto& [uuid, reason] : reasons)
    if (!reason.empty()) unhealthy_[uuid].reason = reason;
  changed_ = true;
}

}  // namespace tutti::worker
