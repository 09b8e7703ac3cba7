// What a simulated GPU machine looks like: its GPUs, how each is broken, and how the NVML library itself
// misbehaves. Pure values and rules, shared by tutti-gpu-sim (which changes them) and by the double of
// libnvidia-ml (which answers from them). Standard library only; no files, no clock.
//
// Invariants
// 1. parse_state(format_state(s)) == s.
// 2. A tripped GPU stays tripped: an Xid can make its mode worse, never better. Only a reset, or a person
// setting
//    the mode, heals it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/nvml/abi.h"

namespace tutti::nvml::sim {

inline constexpr unsigned kMaxGpus = 64;

// Ordered from harmless to worst; every mode but `healthy` is left by reset or by setting another one.
enum class GpuMode {
  healthy,           // answers everything
  throttled,         // answers, with a hardware slowdown among its clock reasons
  pcie_degraded,     // answers, with half of its PCIe lanes
  pcie_slow,         // answers, its PCIe link stays at the first generation under load
  fabric_not_ready,  // answers, the fabric manager has not registered it
  remap_pending,     // answers, a row remap waits for a reset
  ecc,               // answers, has uncorrectable ECC errors and asks for drain and reset
  link_down,         // answers, its NVLinks are down
  remap_failed,      // answers, a row remap failed
  reset_required,    // identity only; every other call gives RESET_REQUIRED
  lost,              // every call gives GPU_IS_LOST
};
std::string_view name_of(GpuMode mode);
std::optional<GpuMode> parse_mode(std::string_view text);

struct Gpu {
  unsigned index = 0;
  unsigned minor = 0;
  std::string uuid;
  std::string name;
  std::string serial;
  unsigned long long memory_bytes = 0;
  unsigned pci_domain = 0;
  unsigned pci_bus = 0;
  unsigned pci_device_id = 0;
  unsigned nvlink_island = 0;
  std::string device_path;  // the regular file that stands for /dev/nvidiaN
  std::string slice_of;     // UUID of the GPU that this is a slice (MIG) of; empty: it is a GPU
  GpuMode mode = GpuMode::healthy;
  unsigned last_xid = 0;  // 0 = none since the last reset
  unsigned long long corrected_errors = 0;
  unsigned long long uncorrected_errors = 0;

  bool operator==(const Gpu&) const = default;
};
std::string pci_address(const Gpu& gpu);  // "0000:18:00", as every report names it

// One way a library call misbehaves while the entry stands. `call` is an exported name, or "*" for all that
// reach the driver.
struct CallFault {
  enum class Kind {
    hang,   // each call takes `value` milliseconds, or for ever when it is negative
    slow,   // each call takes `value` milliseconds more
    fail,   // each call returns the code `value`
    crash,  // each call dies of SIGSEGV
  };
  Kind kind = Kind::hang;
  std::string call;
  long long value = 0;

  bool operator==(const CallFault&) const = default;
};
std::string format_fault(const CallFault& fault);  // "hang:nvmlDeviceGetCount_v2:10000ms"
// Reads what format_fault writes and what people type: hang:CALL:10s|forever, slow:CALL:20ms, fail:CALL:CODE,
// crash:CALL, driver_not_loaded, version_mismatch.
std::optional<CallFault> parse_fault(std::string_view text, std::string& problem);
bool concerns(const CallFault& fault, std::string_view call);

struct State {
  std::string node;
  std::string driver_version;
  std::string nvml_version;
  int cuda_version = 0;  // 1000 × major + 10 × minor
  std::vector<CallFault> faults;
  std::vector<Gpu> gpus;

  bool operator==(const State&) const = default;
};
std::string format_state(const State& state);
std::optional<State> parse_state(std::string_view text, std::string& problem);

struct NodePlan {
  std::string node;
  unsigned gpus = 8;
  std::string model = "H100";           // H100, H200, B200, A100; other words become the name itself
  unsigned long long memory_bytes = 0;  // 0 = the model's
  unsigned island_size = 8;             // GPUs per NVLink island
  std::string device_folder;            // the GPU of minor N is <device_folder>/nvidiaN
  std::vector<std::string> slices{};    // of each GPU: profiles such as "1g.10gb"; empty: not in MIG mode
};
// The same plan gives the same machine, UUIDs included, on every run.
State make_state(const NodePlan& plan);

// The GPU with this index, or null.
Gpu* find_gpu(State& state, unsigned index);
void apply_xid(Gpu& gpu, unsigned xid);
void apply_reset(Gpu& gpu);

// "80GB", "80GiB", "512MB" or bytes. Nothing when it is none of them.
std::optional<unsigned long long> parse_bytes(std::string_view text);

// One line of the event log. Readers deliver it to the sets that registered `uuid` before it was written.
struct Event {
  long long boot_us = 0;  // CLOCK_BOOTTIME of the injection
  std::string uuid;
  unsigned long long type = kEventXid;
  unsigned long long data = 0;

  bool operator==(const Event&) const = default;
};
std::string format_event(const Event& event);  // with its newline
std::optional<Event> parse_event(std::string_view line);

}  // namespace tutti::nvml::sim
