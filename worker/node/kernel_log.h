// What the kernel log says about GPUs, NVSwitches, PCIe and memory: records of /dev/kmsg in, findings out.
// Pure; used by the worker's kernel-log thread (kernel_reader.h), by tests and by a fuzzer. Formats: the
// kernel's Documentation/ABI/testing/dev-kmsg and NVIDIA's Xid documentation.
//
//   1. Any bytes are taken: what is not understood gives nothing, never an error.
//   2. A line counts only if the kernel itself wrote it (whoever may write to /dev/kmsg cannot pretend that),
//      and with the driver's own prefix ("NVRM: Xid (", "nvidia-nvswitchN: SXid ("): the bare
//      word occurs in names of containers and in what users print.
//   3. A PCI address is given as domain:bus:device in lower case ("0000:3b:00"), as in the GPU inventory.
//   4. Memory is bounded: one half-read report, and 64 addresses.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tutti::node {

/// One record: "6,1234,5678901,-;text" and lines that continue it, each beginning with a space.
struct KernelRecord {
  int priority = 6;          // syslog level, without the facility
  unsigned facility = 0;     // 0: the kernel itself; anything else was written into /dev/kmsg by a program
  std::uint64_t number = 0;  // counts records; a gap is a loss
  std::int64_t boot_us = 0;  // as the kernel stamped it, until kernel_clock.h has corrected that
  std::string text;          // escapes undone, without the continuation lines (a dictionary for udev)
};
std::optional<KernelRecord> parse_record(std::string_view record);

/// "PCI:0000:3B:00.0", "00000000:3B:00.0", "0000:3b:00" → "0000:3b:00". Nothing if it is none of these.
std::optional<std::string> normal_pci(std::string_view text);

struct KernelFinding {
  enum class Kind {
    xid,       // `xid` on the GPU at `pci`
    sxid,      // `xid` on an NVSwitch; `fatal` says how it is meant
    oom_kill,  // `fatal`: the whole node was out of memory, not only a job's own limit
    aer        // PCI Express error; `fatal` if so reported
  };
  Kind kind = Kind::xid;
  std::string pci;  // "" = not told
  std::int32_t xid = 0;
  std::optional<std::int32_t> subcode;  // of the NVLink family, 144 to 150
  std::string action;                   // of 154: what the driver recommends now, in its words
  bool fatal = false;
  bool deduced = false;  // the line had no number: a GPU that has fallen off the bus is 79
  std::int64_t boot_us = 0;
  std::string detail;  // one line for people, bounded

  bool operator==(const KernelFinding&) const = default;
};

class KernelLogParser {
 public:
  /// What this record says; records in the order of the log.
  std::optional<KernelFinding> take(const KernelRecord& record);

 private:
  std::optional<KernelFinding> off_the_bus(const KernelRecord& record, std::string_view text);
  bool is_news_79(const std::string& pci, std::int64_t boot_us);

  std::string waiting_pci_;  // of a report over several lines whose end has not come
  int waiting_lines_ = 0;
  std::map<std::string, std::int64_t> last_79_;  // the same loss is often told twice, with and without number
};

}  // namespace tutti::node
