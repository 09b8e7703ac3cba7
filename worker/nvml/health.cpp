// See health.h.
#include "worker/nvml/health.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace tutti::nvml {
namespace {

constexpr unsigned kMaxProcesses = 4096;  // per GPU; more is an answer we do not believe

// The cheapest call that has to ask the GPU itself, so that a dead one cannot answer out of the driver's
// memory.
Return call_gpu(const Symbols& nvml, Device device) {
  unsigned celsius = 0;
  if (nvml.nvmlDeviceGetTemperature != nullptr) {
    const Return result = nvml.nvmlDeviceGetTemperature(device, kTemperatureGpu, &celsius);
    if (result != Return::not_supported) return result;
  }
  Memory memory{};
  if (nvml.nvmlDeviceGetMemoryInfo != nullptr) return nvml.nvmlDeviceGetMemoryInfo(device, &memory);
  std::array<char, kUuidBufferSize> uuid{};
  return nvml.nvmlDeviceGetUUID(device, uuid.data(), kUuidBufferSize);
}

void add_recommendation(const Symbols& nvml, Device device, Conditions& conditions) {
  if (nvml.nvmlDeviceGetFieldValues == nullptr) return;
  FieldValue field{};
  field.field_id = kFieldRecoveryAction;
  if (nvml.nvmlDeviceGetFieldValues(device, 1, &field) != Return::success) return;
  if (field.status != Return::success) return;
  switch (field.value.as_unsigned) {
    case kRecoveryReset:
      conditions.emplace(FaultKind::reset_required, "the driver recommends a GPU reset");
      break;
    case kRecoveryReboot:
      conditions.emplace(FaultKind::reboot_required, "the driver recommends a reboot of the node");
      break;
    case kRecoveryDrainP2p:
      conditions.emplace(FaultKind::drain_required, "the driver recommends to drain peer-to-peer work");
      break;
    case kRecoveryDrainAndReset:
      conditions.emplace(FaultKind::drain_required, "the driver recommends to drain the GPU and reset it");
      break;
    default: break;
  }
}

std::optional<std::vector<unsigned>> read_pids(const Symbols& nvml, Device device, Return& result) {
  result = Return::not_supported;
  if (nvml.nvmlDeviceGetComputeRunningProcesses_v3 == nullptr) return std::nullopt;
  unsigned room = 16;
  // Processes may start between the call that says how many and the next one.
  for (int attempt = 0; attempt < 4; ++attempt) {
    std::vector<ProcessInfo> infos(room);
    unsigned count = room;
    result = nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, &count, infos.data());
    if (result == Return::insufficient_size && count <= kMaxProcesses) {
      room = std::max(count + 8, room * 2);
      continue;
    }
    if (result != Return::success) return std::nullopt;
    std::vector<unsigned> pids;
    for (unsigned i = 0; i < std::min(count, room); ++i) pids.push_back(infos[i].pid);
    return pids;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> read_memory_used(const Symbols& nvml, Device device) {
  Memory memory{};
  if (nvml.nvmlDeviceGetMemoryInfo == nullptr) return std::nullopt;
  if (nvml.nvmlDeviceGetMemoryInfo(device, &memory) != Return::success) return std::nullopt;
  return memory.used;
}

}  // namespace

Conditions look_briefly(const Library& library, Device device) {
  Conditions conditions;
  const Return result = call_gpu(library.symbols(), device);
  if (result == Return::success || result == Return::not_supported) {
    add_recommendation(library.symbols(), device, conditions);
  } else if (result == Return::gpu_is_lost) {
    conditions.emplace(FaultKind::gpu_lost, library.describe(result));
  } else if (result == Return::reset_required) {
    conditions.emplace(FaultKind::reset_required, library.describe(result));
  } else {
    conditions.emplace(FaultKind::unreadable, library.describe(result));
  }
  return conditions;
}

Conditions look_closely(const Library& library, Device device, const Conditions& before) {
  const Symbols& nvml = library.symbols();
  Conditions conditions = before;
  auto settle = [&conditions](FaultKind kind, bool present, std::string detail) {
    conditions.erase(kind);
    if (present) conditions.emplace(kind, std::move(detail));
  };
  unsigned long long errors = 0;
  if (nvml.nvmlDeviceGetTotalEccErrors &&
      nvml.nvmlDeviceGetTotalEccErrors(device, kEccUncorrected, kEccVolatile, &errors) == Return::success) {
    settle(FaultKind::ecc, errors > 0,
           std::to_string(errors) + " uncorrectable ECC errors since the last reset");
  }
  unsigned correctable = 0;
  unsigned uncorrectable = 0;
  unsigned pending = 0;
  unsigned failed = 0;
  if (nvml.nvmlDeviceGetRemappedRows &&
      nvml.nvmlDeviceGetRemappedRows(device, &correctable, &uncorrectable, &pending, &failed) ==
          Return::success) {
    settle(FaultKind::remap_pending, pending != 0, "a row remap waits for a GPU reset");
    settle(FaultKind::remap_failed, failed != 0, "a row remap failed");
  }
  unsigned long long reasons = 0;
  constexpr auto kHardware = kClockHwSlowdown | kClockHwThermal | kClockHwPowerBrake;
  if (nvml.nvmlDeviceGetCurrentClocksEventReasons &&
      nvml.nvmlDeviceGetCurrentClocksEventReasons(device, &reasons) == Return::success) {
    settle(FaultKind::throttled, (reasons & kHardware) != 0,
           (reasons & kClockHwThermal) != 0      ? "hardware thermal slowdown"
           : (reasons & kClockHwPowerBrake) != 0 ? "hardware power brake"
                                                 : "hardware slowdown");
  }
  return conditions;
}

namespace {

// Idle GPUs lower the generation of their link to save power; the lanes they keep.
void look_at_pcie(const Symbols& nvml, Device device, Conditions& conditions) {
  constexpr unsigned kBusyPercent = 50;
  constexpr std::string_view kGeneration = "PCIe generation ";
  unsigned now = 0, most = 0;
  if (!nvml.nvmlDeviceGetCurrPcieLinkWidth || !nvml.nvmlDeviceGetMaxPcieLinkWidth) return;
  if (nvml.nvmlDeviceGetCurrPcieLinkWidth(device, &now) != Return::success ||
      nvml.nvmlDeviceGetMaxPcieLinkWidth(device, &most) != Return::success)
    return;
  const auto before = conditions.find(FaultKind::pcie_degraded);
  const bool slow = before != conditions.end() && before->second.starts_with(kGeneration);
  if (now < most || !slow) conditions.erase(FaultKind::pcie_degraded);
  if (now < most) {
    conditions.emplace(FaultKind::pcie_degraded,
                       std::to_string(now) + " of " + std::to_string(most) + " PCIe lanes are in use");
    return;
  }
  // Only a busy GPU can tell its generation: what was found under load holds until it is busy again.
  Utilization load{};
  if (!nvml.nvmlDeviceGetCurrPcieLinkGeneration || !nvml.nvmlDeviceGetMaxPcieLinkGeneration ||
      !nvml.nvmlDeviceGetUtilizationRates)
    return;
  if (nvml.nvmlDeviceGetUtilizationRates(device, &load) != Return::success || load.gpu < kBusyPercent) return;
  if (nvml.nvmlDeviceGetCurrPcieLinkGeneration(device, &now) != Return::success ||
      nvml.nvmlDeviceGetMaxPcieLinkGeneration(device, &most) != Return::success)
    return;
  conditions.erase(FaultKind::pcie_degraded);
  if (now < most)
    conditions.emplace(FaultKind::pcie_degraded, std::string(kGeneration) + std::to_string(now) + " of " +
                                                     std::to_string(most) + " under load");
}

void look_at_nvlinks(const Symbols& nvml, Device device, Conditions& conditions, std::uint64_t& links_up) {
  if (!nvml.nvmlDeviceGetNvLinkState) return;
  std::string down;
  for (unsigned link = 0; link < kMostNvlinks; ++link) {
    unsigned active = 0;
    const Return result = nvml.nvmlDeviceGetNvLinkState(device, link, &active);
    if (result == Return::invalid_argument || result == Return::not_supported) break;  // there are no more
    if (result != Return::success) return;                                             // nothing is known
    if (active != 0)
      links_up |= 1ULL << link;
    else if ((links_up & (1ULL << link)) != 0)
      down += (down.empty() ? "" : ", ") + std::to_string(link);
  }
  conditions.erase(FaultKind::nvlink_down);
  if (!down.empty()) conditions.emplace(FaultKind::nvlink_down, "NVLinks are down: " + down);
}

void look_at_fabric(const Symbols& nvml, Device device, Conditions& conditions) {
  if (!nvml.nvmlDeviceGetGpuFabricInfoV) return;
  FabricInfo info{};
  info.version = kFabricInfoVersion;
  if (nvml.nvmlDeviceGetGpuFabricInfoV(device, &info) != Return::success) return;
  conditions.erase(FaultKind::fabric_not_ready);
  if (info.state == kFabricNotSupported) return;
  if (info.state != kFabricCompleted)
    conditions.emplace(FaultKind::fabric_not_ready,
                       info.state == kFabricNotStarted
                           ? "the fabric manager has not begun to register it"
                           : "the fabric manager has not finished registering it");
  else if (info.status != Return::success)
    conditions.emplace(FaultKind::fabric_not_ready, "its registration with the fabric manager failed (" +
                                                        std::to_string(static_cast<int>(info.status)) + ")");
}

}  // namespace

Conditions look_deeply(const Library& library, Device device, const Conditions& before,
                       std::uint64_t& links_up) {
  Conditions conditions = before;
  look_at_pcie(library.symbols(), device, conditions);
  look_at_nvlinks(library.symbols(), device, conditions, links_up);
  look_at_fabric(library.symbols(), device, conditions);
  return conditions;
}

GpuSample take_sample(const Library& library, Device device, const std::string& uuid) {
  const Symbols& nvml = library.symbols();
  GpuSample sample;
  sample.uuid = uuid;
  Return result = Return::success;
  sample.processes = read_pids(nvml, device, result);
  sample.memory_used_bytes = read_memory_used(nvml, device);
  Utilization load{};
  if (nvml.nvmlDeviceGetUtilizationRates &&
      nvml.nvmlDeviceGetUtilizationRates(device, &load) == Return::success) {
    sample.utilization = load.gpu;
  }
  unsigned value = 0;
  if (nvml.nvmlDeviceGetPowerUsage && nvml.nvmlDeviceGetPowerUsage(device, &value) == Return::success) {
    sample.power_mw = value;
  }
  if (nvml.nvmlDeviceGetTemperature &&
      nvml.nvmlDeviceGetTemperature(device, kTemperatureGpu, &value) == Return::success) {
    sample.temperature_c = value;
  }
  return sample;
}

Processes read_processes(const Library& library, Device device, const ProcessesCommand& command) {
  Processes answer;
  answer.id = command.id;
  answer.uuid = command.uuid;
  Return result = Return::success;
  answer.pids = read_pids(library.symbols(), device, result);
  if (!answer.pids) answer.error = "processes: " + library.describe(result);
  answer.memory_used_bytes = read_memory_used(library.symbols(), device);
  return answer;
}

}  // namespace tutti::nvml
