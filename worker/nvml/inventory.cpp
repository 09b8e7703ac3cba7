// See inventory.h.
#include "worker/nvml/inventory.h"

#include <cstdio>
#include <utility>

namespace tutti::nvml {
namespace {

template <class Call, class... Arguments>
std::string text_of(Call call, unsigned size, Arguments... arguments) {
  if (call == nullptr) return {};
  std::string buffer(size, '\0');
  if (call(arguments..., buffer.data(), size) != Return::success) return {};
  return buffer.c_str();
}

std::string device_path(const Symbols& nvml, const GpuInfo& gpu) {
  char path[4096] = {};
  if (nvml.tutti_nvml_double_device_path != nullptr &&
      nvml.tutti_nvml_double_device_path(gpu.index, path, sizeof path) == Return::success) {
    return path;
  }
  return gpu.minor ? "/dev/nvidia" + std::to_string(*gpu.minor) : std::string();
}

// Without a UUID there is nothing to call the GPU: the handle is then of no use.
bool identify(const Symbols& nvml, unsigned index, NamedDevice& device) {
  if (nvml.nvmlDeviceGetHandleByIndex_v2(index, &device.handle) != Return::success) return false;
  GpuInfo& gpu = device.info;
  gpu.index = index;
  gpu.uuid = text_of(nvml.nvmlDeviceGetUUID, kUuidBufferSize, device.handle);
  if (gpu.uuid.empty()) return false;
  gpu.name = text_of(nvml.nvmlDeviceGetName, kNameBufferSize, device.handle);
  gpu.serial = text_of(nvml.nvmlDeviceGetSerial, kSerialBufferSize, device.handle);
  unsigned minor = 0;
  if (nvml.nvmlDeviceGetMinorNumber &&
      nvml.nvmlDeviceGetMinorNumber(device.handle, &minor) == Return::success) {
    gpu.minor = minor;
  }
  PciInfo pci{};
  if (nvml.nvmlDeviceGetPciInfo_v3 && nvml.nvmlDeviceGetPciInfo_v3(device.handle, &pci) == Return::success) {
    gpu.pci = pci_address(pci);
  }
  Memory memory{};
  if (nvml.nvmlDeviceGetMemoryInfo &&
      nvml.nvmlDeviceGetMemoryInfo(device.handle, &memory) == Return::success) {
    gpu.memory_bytes = memory.total;
  }
  gpu.device_path = device_path(nvml, gpu);
  device.handle_uuid = gpu.uuid;
  return true;
}

bool is_sliced(const Symbols& nvml, Device gpu) {
  unsigned now = 0, after_reset = 0;
  return nvml.nvmlDeviceGetMigMode && nvml.nvmlDeviceGetMaxMigDeviceCount &&
         nvml.nvmlDeviceGetMigDeviceHandleByIndex &&
         nvml.nvmlDeviceGetMigMode(gpu, &now, &after_reset) == Return::success && now == kMigEnabled;
}

// Its slices, as devices of their own.
std::vector<NamedDevice> slices_of(const Symbols& nvml, const NamedDevice& gpu) {
  std::vector<NamedDevice> slices;
  unsigned most = 0;
  if (nvml.nvmlDeviceGetMaxMigDeviceCount(gpu.handle, &most) != Return::success) return slices;
  for (unsigned n = 0; n < most; ++n) {
    Device handle = nullptr;
    if (nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, n, &handle) != Return::success) continue;
    NamedDevice slice = gpu;
    slice.info.index = slice_index(gpu.info.index, n);
    slice.info.nvlink_island.reset();
    slice.info.uuid = text_of(nvml.nvmlDeviceGetUUID, kUuidBufferSize, handle);
    slice.info.name = text_of(nvml.nvmlDeviceGetName, kNameBufferSize, handle);
    Memory memory{};
    if (nvml.nvmlDeviceGetMemoryInfo && nvml.nvmlDeviceGetMemoryInfo(handle, &memory) == Return::success)
      slice.info.memory_bytes = memory.total;
    slice.info.device_path = device_path(nvml, slice.info);
    if (!slice.info.uuid.empty()) slices.push_back(std::move(slice));
  }
  return slices;
}

// Numbers the groups of GPUs that reach each other over NVLink, by way of a switch or directly. One that
// reaches no other has no number.
void number_islands(const Symbols& nvml, std::vector<NamedDevice>& devices) {
  if (nvml.nvmlDeviceGetP2PStatus == nullptr) return;
  unsigned islands = 0;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    for (std::size_t j = 0; j < i && !devices[i].info.nvlink_island; ++j) {
      unsigned status = kP2pStatusNotSupported;
      const Return result =
          nvml.nvmlDeviceGetP2PStatus(devices[i].handle, devices[j].handle, kP2pNvlink, &status);
      if (result == Return::success && status == kP2pStatusOk) {
        devices[i].info.nvlink_island = devices[j].info.nvlink_island;
      }
    }
    if (!devices[i].info.nvlink_island) devices[i].info.nvlink_island = islands++;
  }
  std::vector<unsigned> sizes(islands);
  for (const NamedDevice& device : devices) ++sizes[*device.info.nvlink_island];
  for (NamedDevice& device : devices)
    if (sizes[*device.info.nvlink_island] == 1) device.info.nvlink_island.reset();
}

}  // namespace

std::string pci_address(const PciInfo& pci) {
  char text[32];
  std::snprintf(text, sizeof text, "%04x:%02x:%02x", pci.domain, pci.bus, pci.device);
  return text;
}

ReadInventory read_inventory(const Library& library) {
  const Symbols& nvml = library.symbols();
  ReadInventory read;
  unsigned count = 0;
  read.result = nvml.nvmlDeviceGetCount_v2(&count);
  if (read.result != Return::success) return read;
  read.message.driver = text_of(nvml.nvmlSystemGetDriverVersion, kVersionBufferSize);
  read.message.nvml = text_of(nvml.nvmlSystemGetNVMLVersion, kVersionBufferSize);
  read.message.simulated = library.simulated();
  read.message.capabilities = library.capabilities();
  for (unsigned index = 0; index < count; ++index) {
    NamedDevice device;
    if (identify(nvml, index, device)) {
      read.devices.push_back(std::move(device));
    } else {
      ++read.message.unidentified;
    }
  }
  number_islands(nvml, read.devices);
  read.named = static_cast<unsigned>(read.devices.size());
  for (NamedDevice& device : std::exchange(read.devices, {})) {
    if (!is_sliced(nvml, device.handle)) {
      read.devices.push_back(std::move(device));
      continue;
    }
    auto slices = slices_of(nvml, device);
    read.devices.insert(read.devices.end(), slices.begin(), slices.end());
  }
  for (const NamedDevice& device : read.devices) read.message.gpus.push_back(device.info);
  return read;
}

}  // namespace tutti::nvml
