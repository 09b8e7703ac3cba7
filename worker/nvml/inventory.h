// Reads from a started NVML library which GPUs there are, and keeps the handle of each beside its identity.
// Called by the probe, on its poll thread.
#pragma once

#include "worker/nvml/library.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::nvml {

struct NamedDevice {
  // Of the GPU itself where this is a slice (MIG): health and events are the whole GPU's.
  Device handle = nullptr;
  std::string handle_uuid;  // whose handle it is
  GpuInfo info;
};

struct ReadInventory {
  Return result = Return::success;  // of the call that counts the GPUs; without it there is no inventory
  Inventory message;
  std::vector<NamedDevice> devices;  // in the order of message.gpus
  unsigned named = 0;                // GPUs that could be named; one with slices counts once
};

// A GPU in MIG mode is listed as its slices, and not at all while it has none.
// A GPU that cannot be named (lost before we came) is counted as unidentified; the others are listed all the
// same.
ReadInventory read_inventory(const Library& library);

// "0000:18:00" out of what NVML says; kernel log and worker use the same form.
std::string pci_address(const PciInfo& pci);

}  // namespace tutti::nvml
