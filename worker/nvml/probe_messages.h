// The lines that tutti-nvml-probe and the worker say to each other: one JSON object per line. Encoded by the
// one and parsed by the other; both directions live here so that they cannot drift apart. Pure functions of
// values.
//
// Invariants
// 1. parse_message(encode(m)) == m, and likewise for commands.
// 2. "Not known" is absent, never zero or empty: an absent `pids` is no proof that a GPU is free.
// 3. A GPU is named by its UUID; `index` is only what the driver happens to call it now.
// 4. *_boot_us are microseconds of CLOCK_BOOTTIME, comparable between processes of one machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tutti::nvml {

inline constexpr std::size_t kMaxLineBytes = 1 << 20;  // longer lines are refused on both sides

// What is wrong with a GPU. `xid` is an event; the others are conditions: a Fault says they began, a
// Recovered that they ended.
enum class FaultKind {
  xid,               // the driver reported an Xid; `xid` holds the number
  ecc,               // uncorrectable ECC errors since the last reset
  gpu_lost,          // calls give GPU_IS_LOST; ends when the GPU answers again
  reset_required,    // calls give RESET_REQUIRED, or the driver recommends a reset
  reboot_required,   // the driver recommends a reboot of the node
  drain_required,    // the driver recommends to drain, and then to reset
  remap_pending,     // a row remap waits for a reset
  remap_failed,      // a row remap failed
  throttled,         // slowed down by hardware: heat, power brake
  nvlink_down,       // an NVLink that was up is down
  pcie_degraded,     // fewer PCIe lanes than the card has, or a lower generation under load
  fabric_not_ready,  // the fabric manager has not registered this GPU
  unreadable,        // it does not answer, for another reason; see detail
};
std::string_view name_of(FaultKind kind);
std::optional<FaultKind> parse_fault_kind(std::string_view text);

struct GpuInfo {
  unsigned index = 0;
  std::string uuid;
  std::string name;
  std::uint64_t memory_bytes = 0;
  std::string pci;  // "0000:18:00", domain:bus:device
  std::optional<unsigned> minor;
  std::string serial;
  std::string device_path;
  std::optional<unsigned> nvlink_island;  // GPUs with the same number reach each other over NVLink

  bool operator==(const GpuInfo&) const = default;
};

// After each successful start of the library, and whenever the set of GPUs changes. Replaces the one before.
struct Inventory {
  std::string driver;
  std::string nvml;
  bool simulated = false;
  std::vector<GpuInfo> gpus;
  unsigned unidentified = 0;  // GPUs the driver counts but cannot name: lost before we started
  std::vector<std::string> capabilities;

  bool operator==(const Inventory&) const = default;
};

// The library cannot be used now; the probe tries again by itself. Ends with the next Inventory.
struct Unavailable {
  std::string reason;
  std::optional<int> code;  // NVML's, when it was NVML that refused

  bool operator==(const Unavailable&) const = default;
};

struct Fault {
  std::string uuid;  // empty when the GPU cannot be told
  std::string pci;
  FaultKind kind = FaultKind::xid;
  std::optional<std::uint64_t> xid;
  std::int64_t boot_us = 0;
  std::string detail;

  bool operator==(const Fault&) const = default;
};

struct Recovered {
  std::string uuid;
  std::string pci;
  FaultKind kind = FaultKind::gpu_lost;
  std::int64_t boot_us = 0;

  bool operator==(const Recovered&) const = default;
};

struct GpuSample {
  std::string uuid;
  std::optional<unsigned> utilization;  // percent
  std::optional<std::uint64_t> memory_used_bytes;
  std::optional<unsigned> power_mw;
  std::optional<unsigned> temperature_c;
  std::optional<std::vector<unsigned>> processes;
  // One bit per NVLink that was ever seen up: told to the next probe, which would take one that is down for
  // one that is not there.
  std::optional<std::uint64_t> links_up;

  bool operator==(const GpuSample&) const = default;
};

struct Sample {  // of the GPUs that answer
  std::int64_t at_boot_us = 0;
  std::vector<GpuSample> gpus;

  bool operator==(const Sample&) const = default;
};

// Every poll interval as long as NVML calls return. No Alive within the worker's deadline: kill the probe.
struct Alive {
  std::int64_t boot_us = 0;

  bool operator==(const Alive&) const = default;
};

struct Processes {  // the answer to ProcessesCommand
  std::int64_t id = 0;
  std::string uuid;
  std::optional<std::vector<unsigned>> pids;
  std::optional<std::uint64_t> memory_used_bytes;
  std::string error;  // why something is absent

  bool operator==(const Processes&) const = default;
};

using Message = std::variant<Inventory, Unavailable, Fault, Recovered, Sample, Alive, Processes>;

// Who uses this GPU, read after the command came: the proof that a kill is complete.
struct ProcessesCommand {
  std::string uuid;
  std::int64_t id = 0;

  bool operator==(const ProcessesCommand&) const = default;
};

struct ParseError {
  std::string why;

  bool operator==(const ParseError&) const = default;
};

std::string encode(const Message& message);  // one line, without the newline
std::string encode(const ProcessesCommand& command);
std::variant<Message, ParseError> parse_message(std::string_view line);
std::variant<ProcessesCommand, ParseError> parse_command(std::string_view line);

}  // namespace tutti::nvml
