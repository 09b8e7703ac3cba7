// The C functions of the double: NVML's names, answered by the Driver. Called by whoever loads the library,
// from any thread. No exception leaves this file.
//
// What the numbers mean: a GPU is busy when a process holds its device file open, and each such process has a
// quarter of its memory; load, power and temperature follow from that.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "worker/nvml/double/driver.h"
#include "worker/nvml/double/holders.h"

namespace tutti::nvml::sim {
namespace {

constexpr unsigned kDoubleVersion = 1;
constexpr unsigned kNvlinksPerGpu = 18;
constexpr unsigned kMostSlices = 7;
constexpr unsigned kPcieLanes = 16;
constexpr unsigned kPcieGeneration = 5;
constexpr unsigned long long kIdleMemoryBytes = 512ULL << 20;

Return copy_text(const std::string& text, char* buffer, unsigned size) {
  if (size < text.size() + 1) return Return::insufficient_size;
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return Return::success;
}

// A call about the library or the machine.
template <class Body>
Return on_driver(const char* call, bool arguments_ok, Body body) noexcept {
  try {
    Driver& driver = Driver::instance();
    if (Return result = driver.enter(call); result != Return::success) return result;
    return arguments_ok ? body(driver, *driver.state()) : Return::invalid_argument;
  } catch (...) {
    return Return::unknown;
  }
}

// A call about one GPU.
template <class Body>
Return on_device(const char* call, Device handle, Access access, bool arguments_ok, Body body) noexcept {
  return on_driver(call, arguments_ok, [&](Driver& driver, const State&) {
    Gpu gpu;
    if (Return result = driver.device(handle, access, gpu); result != Return::success) return result;
    return body(gpu);
  });
}

unsigned recovery_action(GpuMode mode) {
  switch (mode) {
    case GpuMode::healthy:
    case GpuMode::throttled:
    case GpuMode::pcie_degraded:
    case GpuMode::pcie_slow:
    case GpuMode::fabric_not_ready:
    case GpuMode::remap_pending: return kRecoveryNone;
    case GpuMode::ecc:
    case GpuMode::remap_failed: return kRecoveryDrainAndReset;
    case GpuMode::link_down:
    case GpuMode::reset_required: return kRecoveryReset;
    case GpuMode::lost: return kRecoveryReboot;
  }
  return kRecoveryNone;
}

// UUIDs of its slices.
std::vector<std::string> slices_of(const Gpu& gpu) {
  std::vector<std::string> out;
  const auto state = Driver::instance().state();
  for (const Gpu& other : state->gpus)
    if (other.slice_of == gpu.uuid) out.push_back(other.uuid);
  return out;
}

bool busy(const Gpu& gpu) { return !Holders::instance().recently(gpu.device_path).empty(); }

// A slow wave, different on each GPU, so that a chart of a busy machine is not a ruler line.
unsigned wobble(const Gpu& gpu, unsigned range) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto step = static_cast<unsigned>(now.tv_sec / 5) * 7 + gpu.index * 3;
  return step % (range + 1);
}

void answer_field(const Gpu& gpu, FieldValue& field) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  field.timestamp_us = now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
  field.latency_us = 0;
  field.status = Return::success;
  auto count = [&field](unsigned long long value) {
    field.value_type = kValueUnsignedLongLong;
    field.value.as_unsigned_long_long = value;
  };
  auto number = [&field](unsigned value) {
    field.value_type = kValueUnsignedInt;
    field.value.as_unsigned_long_long = 0;
    field.value.as_unsigned = value;
  };
  switch (field.field_id) {
    case kFieldEccVolatileSbe:
    case kFieldEccAggregateSbe: return count(gpu.corrected_errors);
    case kFieldEccVolatileDbe:
    case kFieldEccAggregateDbe: return count(gpu.uncorrected_errors);
    case kFieldRemappedCorrectable: return number(0);
    case kFieldRemappedUncorrectable:
    case kFieldRemapPending: return number(gpu.mode == GpuMode::remap_pending);
    case kFieldRemapFailure: return number(gpu.mode == GpuMode::remap_failed);
    case kFieldRecoveryAction: return number(recovery_action(gpu.mode));
    default: field.status = Return::not_supported;
  }
}

Return fill_processes(const Gpu& gpu, unsigned* count, ProcessInfo* infos) {
  const std::vector<unsigned> holders = Holders::instance().now(gpu.device_path);
  const unsigned room = *count;
  *count = static_cast<unsigned>(holders.size());
  if (holders.size() > room) return Return::insufficient_size;
  if (!holders.empty() && infos == nullptr) return Return::invalid_argument;
  for (std::size_t i = 0; i < holders.size(); ++i) {
    infos[i] = {holders[i], gpu.memory_bytes / 4, kNoMigInstance, kNoMigInstance};
  }
  return Return::success;
}

}  // namespace
}  // namespace tutti::nvml::sim

using namespace tutti::nvml;
using namespace tutti::nvml::sim;

extern "C" {

unsigned tutti_nvml_double_version() { return kDoubleVersion; }

Return tutti_nvml_double_device_path(unsigned index, char* path, unsigned size) {
  return on_driver(__func__, path != nullptr, [&](Driver&, const State& state) {
    for (const Gpu& gpu : state.gpus) {
      if (gpu.index == index) return copy_text(gpu.device_path, path, size);
    }
    return Return::not_found;
  });
}

Return nvmlInit_v2() {
  try {
    return Driver::instance().init();
  } catch (...) {
    return Return::unknown;
  }
}

Return nvmlShutdown() { return Driver::instance().shutdown(); }

const char* nvmlErrorString(Return code) {
  static constexpr std::pair<Return, const char*> kTexts[] = {
      {Return::success, "success"},
      {Return::uninitialized, "NVML is not initialized"},
      {Return::invalid_argument, "invalid argument"},
      {Return::not_supported, "not supported"},
      {Return::no_permission, "insufficient permissions"},
      {Return::not_found, "not found"},
      {Return::insufficient_size, "insufficient size"},
      {Return::driver_not_loaded, "driver not loaded"},
      {Return::timeout, "timeout"},
      {Return::gpu_is_lost, "GPU is lost"},
      {Return::reset_required, "GPU requires reset"},
      {Return::version_mismatch, "driver/library version mismatch"},
      {Return::memory, "insufficient memory"},
  };
  for (const auto& [value, text] : kTexts) {
    if (value == code) return text;
  }
  return "unknown error";
}

Return nvmlSystemGetDriverVersion(char* version, unsigned length) {
  return on_driver(__func__, version != nullptr, [&](Driver&, const State& state) {
    return copy_text(state.driver_version, version, length);
  });
}

Return nvmlSystemGetNVMLVersion(char* version, unsigned length) {
  return on_driver(__func__, version != nullptr, [&](Driver&, const State& state) {
    return copy_text(state.nvml_version, version, length);
  });
}

Return nvmlSystemGetCudaDriverVersion_v2(int* version) {
  return on_driver(__func__, version != nullptr, [&](Driver&, const State& state) {
    *version = state.cuda_version;
    return Return::success;
  });
}

Return nvmlDeviceGetCount_v2(unsigned* count) {
  return on_driver(__func__, count != nullptr, [&](Driver&, const State& state) {
    *count = static_cast<unsigned>(
        std::ranges::count_if(state.gpus, [](const Gpu& gpu) { return gpu.slice_of.empty(); }));
    return Return::success;
  });
}

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  return on_driver(__func__, device != nullptr, [&](Driver& driver, const State& state) {
    for (const Gpu& gpu : state.gpus) {
      if (gpu.index == index && gpu.slice_of.empty()) return driver.handle_for(gpu.uuid, device);
    }
    return Return::invalid_argument;
  });
}

Return nvmlDeviceGetHandleByUUID(const char* uuid, Device* device) {
  return on_driver(__func__, uuid != nullptr && device != nullptr, [&](Driver& driver, const State& state) {
    for (const Gpu& gpu : state.gpus) {
      if (gpu.uuid == uuid) return driver.handle_for(gpu.uuid, device);
    }
    return Return::not_found;
  });
}

Return nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, Device* device) {
  return on_driver(__func__, bus_id != nullptr && device != nullptr, [&](Driver& driver, const State& state) {
    unsigned domain = 0;
    unsigned bus = 0;
    unsigned slot = 0;
    if (std::sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3) return Return::invalid_argument;
    for (const Gpu& gpu : state.gpus) {
      if (gpu.pci_domain == domain && gpu.pci_bus == bus && slot == 0)
        return driver.handle_for(gpu.uuid, device);
    }
    return Return::not_found;
  });
}

Return nvmlDeviceGetUUID(Device device, char* uuid, unsigned length) {
  return on_device(__func__, device, Access::identity, uuid != nullptr,
                   [&](const Gpu& gpu) { return copy_text(gpu.uuid, uuid, length); });
}

Return nvmlDeviceGetName(Device device, char* name, unsigned length) {
  return on_device(__func__, device, Access::identity, name != nullptr,
                   [&](const Gpu& gpu) { return copy_text(gpu.name, name, length); });
}

Return nvmlDeviceGetSerial(Device device, char* serial, unsigned length) {
  return on_device(__func__, device, Access::identity, serial != nullptr,
                   [&](const Gpu& gpu) { return copy_text(gpu.serial, serial, length); });
}

Return nvmlDeviceGetIndex(Device device, unsigned* index) {
  return on_device(__func__, device, Access::identity, index != nullptr, [&](const Gpu& gpu) {
    *index = gpu.index;
    return Return::success;
  });
}

Return nvmlDeviceGetMinorNumber(Device device, unsigned* minor) {
  return on_device(__func__, device, Access::identity, minor != nullptr, [&](const Gpu& gpu) {
    *minor = gpu.minor;
    return Return::success;
  });
}

Return nvmlDeviceGetPciInfo_v3(Device device, PciInfo* pci) {
  return on_device(__func__, device, Access::identity, pci != nullptr, [&](const Gpu& gpu) {
    *pci = PciInfo{};
    std::snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:00.0", gpu.pci_domain & 0xFFFFU,
                  gpu.pci_bus & 0xFFU);
    std::snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:00.0", gpu.pci_domain, gpu.pci_bus & 0xFFU);
    pci->domain = gpu.pci_domain;
    pci->bus = gpu.pci_bus;
    pci->pci_device_id = gpu.pci_device_id;
    return Return::success;
  });
}

Return nvmlDeviceGetMemoryInfo(Device device, Memory* memory) {
  return on_device(__func__, device, Access::live, memory != nullptr, [&](const Gpu& gpu) {
    const unsigned long long held =
        Holders::instance().recently(gpu.device_path).size() * (gpu.memory_bytes / 4);
    memory->total = gpu.memory_bytes;
    memory->used = std::min(gpu.memory_bytes, kIdleMemoryBytes + held);
    memory->free = memory->total - memory->used;
    return Return::success;
  });
}

Return nvmlDeviceGetUtilizationRates(Device device, Utilization* utilization) {
  return on_device(__func__, device, Access::live, utilization != nullptr, [&](const Gpu& gpu) {
    *utilization = busy(gpu) ? Utilization{88 + wobble(gpu, 11), 50 + wobble(gpu, 20)} : Utilization{0, 0};
    return Return::success;
  });
}

Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned* count, ProcessInfo* infos) {
  return on_device(__func__, device, Access::live, count != nullptr,
                   [&](const Gpu& gpu) { return fill_processes(gpu, count, infos); });
}

Return nvmlDeviceGetTemperature(Device device, unsigned sensor, unsigned* celsius) {
  return on_device(__func__, device, Access::live, celsius != nullptr && sensor == kTemperatureGpu,
                   [&](const Gpu& gpu) {
                     *celsius = gpu.mode == GpuMode::throttled ? 91 : busy(gpu) ? 60 + wobble(gpu, 6) : 33;
                     return Return::success;
                   });
}

Return nvmlDeviceGetPowerUsage(Device device, unsigned* milliwatts) {
  return on_device(__func__, device, Access::live, milliwatts != nullptr, [&](const Gpu& gpu) {
    *milliwatts = busy(gpu) ? 560'000 + wobble(gpu, 90) * 1000 : 72'000;
    return Return::success;
  });
}

Return nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long* reasons) {
  return on_device(__func__, device, Access::live, reasons != nullptr, [&](const Gpu& gpu) {
    *reasons = gpu.mode == GpuMode::throttled ? kClockHwSlowdown | kClockHwThermal : 0;
    return Return::success;
  });
}

Return nvmlDeviceGetTotalEccErrors(Device device, unsigned error_type, unsigned counter_type,
                                   unsigned long long* count) {
  return on_device(__func__, device, Access::live,
                   count != nullptr && error_type <= kEccUncorrected && counter_type <= kEccAggregate,
                   [&](const Gpu& gpu) {
                     *count = error_type == kEccCorrected ? gpu.corrected_errors : gpu.uncorrected_errors;
                     return Return::success;
                   });
}

Return nvmlDeviceGetRemappedRows(Device device, unsigned* correctable, unsigned* uncorrectable,
                                 unsigned* pending, unsigned* failed) {
  return on_device(__func__, device, Access::live, correctable && uncorrectable && pending && failed,
                   [&](const Gpu& gpu) {
                     *correctable = 0;
                     *uncorrectable = gpu.mode == GpuMode::remap_pending;
                     *pending = gpu.mode == GpuMode::remap_pending;
                     *failed = gpu.mode == GpuMode::remap_failed;
                     return Return::success;
                   });
}

Return nvmlDeviceGetNvLinkState(Device device, unsigned link, unsigned* active) {
  return on_device(__func__, device, Access::live, active != nullptr && link < kNvlinksPerGpu,
                   [&](const Gpu& gpu) {
                     *active = gpu.mode != GpuMode::link_down;
                     return Return::success;
                   });
}

Return nvmlDeviceGetCurrPcieLinkWidth(Device device, unsigned* lanes) {
  return on_device(__func__, device, Access::live, lanes != nullptr, [&](const Gpu& gpu) {
    *lanes = gpu.mode == GpuMode::pcie_degraded ? kPcieLanes / 2 : kPcieLanes;
    return Return::success;
  });
}

Return nvmlDeviceGetMaxPcieLinkWidth(Device device, unsigned* lanes) {
  return on_device(__func__, device, Access::live, lanes != nullptr, [&](const Gpu&) {
    *lanes = kPcieLanes;
    return Return::success;
  });
}

Return nvmlDeviceGetCurrPcieLinkGeneration(Device device, unsigned* generation) {
  return on_device(__func__, device, Access::live, generation != nullptr, [&](const Gpu& gpu) {
    *generation =
        busy(gpu) && gpu.mode != GpuMode::pcie_slow ? kPcieGeneration : 1;  // an idle link saves power
    return Return::success;
  });
}

Return nvmlDeviceGetMaxPcieLinkGeneration(Device device, unsigned* generation) {
  return on_device(__func__, device, Access::live, generation != nullptr, [&](const Gpu&) {
    *generation = kPcieGeneration;
    return Return::success;
  });
}

Return nvmlDeviceGetGpuFabricInfoV(Device device, FabricInfo* info) {
  const bool known = info != nullptr && info->version == kFabricInfoVersion;
  return on_device(__func__, device, Access::live, known, [&](const Gpu& gpu) {
    *info = FabricInfo{};
    info->version = kFabricInfoVersion;
    info->state = gpu.mode == GpuMode::fabric_not_ready ? kFabricInProgress : kFabricCompleted;
    info->status = Return::success;
    return Return::success;
  });
}

Return nvmlDeviceGetP2PStatus(Device one, Device other, unsigned index, unsigned* status) {
  return on_device(__func__, one, Access::identity, status != nullptr && index <= 4, [&](const Gpu& first) {
    Gpu second;
    const Return result = Driver::instance().device(other, Access::identity, second);
    if (result != Return::success) return result;
    const bool linked = index != kP2pNvlink || first.nvlink_island == second.nvlink_island;
    *status = linked ? kP2pStatusOk : kP2pStatusNotSupported;
    return Return::success;
  });
}

// A GPU is in MIG mode when it has slices.
Return nvmlDeviceGetMigMode(Device device, unsigned* now, unsigned* after_reset) {
  return on_device(__func__, device, Access::identity, now != nullptr && after_reset != nullptr,
                   [&](const Gpu& gpu) {
                     *now = *after_reset = slices_of(gpu).empty() ? 0 : kMigEnabled;
                     return Return::success;
                   });
}

Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned* count) {
  return on_device(__func__, device, Access::identity, count != nullptr, [&](const Gpu&) {
    *count = kMostSlices;
    return Return::success;
  });
}

Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device* slice) {
  return on_device(__func__, device, Access::identity, slice != nullptr, [&](const Gpu& gpu) {
    const auto slices = slices_of(gpu);
    return index < slices.size() ? Driver::instance().handle_for(slices[index], slice) : Return::not_found;
  });
}

Return nvmlDeviceGetFieldValues(Device device, int count, FieldValue* fields) {
  return on_device(__func__, device, Access::live, count > 0 && fields != nullptr, [&](const Gpu& gpu) {
    for (int i = 0; i < count; ++i) answer_field(gpu, fields[i]);
    return Return::success;
  });
}

Return nvmlDeviceGetSupportedEventTypes(Device device, unsigned long long* types) {
  return on_device(__func__, device, Access::identity, types != nullptr, [&](const Gpu&) {
    *types = kEventSingleBitEcc | kEventDoubleBitEcc | kEventXid;
    return Return::success;
  });
}

Return nvmlEventSetCreate(EventSet* set) {
  return on_driver(__func__, set != nullptr,
                   [&](Driver& driver, const State&) { return driver.create_set(set); });
}

Return nvmlDeviceRegisterEvents(Device device, unsigned long long types, EventSet set) {
  return on_device(__func__, device, Access::identity, true, [&](const Gpu& gpu) {
    const auto reader = Driver::instance().find_set(set);
    if (!reader) return Return::invalid_argument;
    constexpr auto kSupported = kEventSingleBitEcc | kEventDoubleBitEcc | kEventXid;
    if ((types & ~kSupported) != 0) return Return::not_supported;  // and nothing is registered
    return reader->add(gpu.uuid, types) ? Return::success : Return::unknown;
  });
}

Return nvmlEventSetWait_v2(EventSet set, EventData* data, unsigned timeout_ms) {
  return on_driver(__func__, data != nullptr, [&](Driver& driver, const State&) {
    const auto reader = driver.find_set(set);
    if (!reader) return Return::invalid_argument;
    const auto event = reader->wait(std::chrono::milliseconds(std::min(timeout_ms, 0x7FFFFFFFU)));
    if (!event) return Return::timeout;
    driver.forget_state();
    *data = {driver.slot_of(event->uuid), event->type, event->data, kNoMigInstance, kNoMigInstance};
    return Return::success;
  });
}

Return nvmlEventSetFree(EventSet set) {
  return on_driver(__func__, true, [&](Driver& driver, const State&) { return driver.free_set(set); });
}

// What is exported has the very types the loader calls.
#define TUTTI_NVML_CHECK(name, arguments) static_assert(std::is_same_v<decltype(&::name), abi::name>);
TUTTI_NVML_SYMBOLS(TUTTI_NVML_CHECK, TUTTI_NVML_CHECK)
#undef TUTTI_NVML_CHECK
static_assert(std::is_same_v<decltype(&::nvmlErrorString), abi::nvmlErrorString>);
static_assert(std::is_same_v<decltype(&::tutti_nvml_double_version), abi::tutti_nvml_double_version>);
static_assert(std::is_same_v<decltype(&::tutti_nvml_double_device_path), abi::tutti_nvml_double_device_path>);

}  // extern "C"
