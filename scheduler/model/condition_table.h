// What follows from a condition of a node (protocol::NodeCondition), as data: one row per kind. No row ever
// kills a gang: what runs on the node goes on, and lives or dies by its ranks, its GPUs and its lease. Source
// of the kinds: taxonomy of node faults in docs/design/0010-node-health.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace tutti {

enum class ConditionEffect : std::uint8_t {
  watch,  // shown and recorded, nothing else
  close,  // nothing new starts there while it lasts
  cordon  // nothing new starts there until a person resumes the node
};
constexpr std::string_view name(ConditionEffect e) {
  switch (e) {
    case ConditionEffect::watch: return "watch";
    case ConditionEffect::close: return "close";
    case ConditionEffect::cordon: return "cordon";
  }
  return "?";
}

struct ConditionRow {
  std::string_view kind;
  ConditionEffect effect;
  std::string_view meaning;
};

inline constexpr auto kConditions = std::to_array<ConditionRow>({
    {"disk_full", ConditionEffect::close, "a disk that jobs need is full"},
    {"inodes_full", ConditionEffect::close, "a disk that jobs need has no room for another file"},
    {"disk_read_only", ConditionEffect::close, "a disk that jobs need cannot be written"},
    {"filesystem_hang", ConditionEffect::close, "a file system does not answer"},
    {"link_down", ConditionEffect::close, "a network link is down"},
    {"link_flapping", ConditionEffect::close, "a network link goes down again and again"},
    {"link_errors", ConditionEffect::watch, "a network link has symbol errors"},
    {"nvml_unavailable", ConditionEffect::close, "the GPU driver cannot be used"},
    {"nvml_missing", ConditionEffect::watch, "there is no GPU driver; perhaps there are no GPUs"},
    {"driver_mismatch", ConditionEffect::close, "the GPU driver and its library do not fit together"},
    {"probe_hangs", ConditionEffect::close, "the GPU driver does not answer"},
    {"fabric_not_ready", ConditionEffect::close, "the NVLink fabric is not up (fabric manager)"},
    {"nvswitch_fatal", ConditionEffect::cordon, "an NVSwitch reported a fatal error"},
    {"joined_cordoned", ConditionEffect::cordon, "its worker joined with --join-cordoned"},
    {"memory_low", ConditionEffect::watch, "the node is short of memory"},
    {"clock_skew", ConditionEffect::close, "the node's clock is off by more than a second"},
    {"kernel_log_unreadable", ConditionEffect::watch, "the kernel log cannot be read"},
    {"checks_stalled", ConditionEffect::watch, "the worker's look at links and memory does not come back"},
});

// An unknown kind (a newer worker) is watched.
constexpr ConditionRow judge_condition(std::string_view kind) {
  const auto row = std::ranges::find(kConditions, kind, &ConditionRow::kind);
  return row == kConditions.end() ? ConditionRow{kind, ConditionEffect::watch, "unknown to the table"} : *row;
}

inline constexpr std::string_view kClockSkew = "clock_skew";  // the one that the scheduler itself finds
inline constexpr std::string_view kFilesystemHang = "filesystem_hang";
// Said with a worker's first Hello, and over with its Welcome: what follows is for who opens the node.
inline constexpr std::string_view kJoinedCordoned = "joined_cordoned";

// A network link is in trouble, or has been: as a condition, or as an incident.
constexpr bool is_link_trouble(std::string_view kind) {
  return kind == "link_down" || kind == "link_flapping" || kind == "link_flap";
}

}  // namespace tutti
