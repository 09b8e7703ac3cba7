#include "scheduler/model/fault_table.h"

#include <array>

namespace tutti {
namespace {

struct Row {
  std::int32_t xid;
  FaultVerdict verdict;
};

constexpr auto kXids = std::to_array<Row>({
    {13, {FaultAction::watch, "graphics engine exception"}},
    {31, {FaultAction::watch, "MMU fault"}},
    {43, {FaultAction::watch, "channel stopped after a user error"}},
    {45, {FaultAction::ignore, "preemptive cleanup"}},
    {46, {FaultAction::quarantine, "GPU stopped processing"}},
    {48, {FaultAction::quarantine, "double-bit ECC error"}},
    {54, {FaultAction::quarantine, "auxiliary power not connected"}},
    {62, {FaultAction::quarantine, "internal microcontroller halt"}},
    {63, {FaultAction::watch, "row remap recorded, active after a reset"}},
    {64, {FaultAction::quarantine, "row remap failure"}},
    {74, {FaultAction::quarantine, "NVLink error"}},
    {79, {FaultAction::quarantine, "GPU has fallen off the bus"}},
    {92, {FaultAction::watch, "high single-bit ECC rate"}},
    {94, {FaultAction::quarantine, "contained ECC error"}},
    {95, {FaultAction::quarantine, "uncontained ECC error"}},
    {119, {FaultAction::quarantine, "GSP RPC timeout"}},
    {120, {FaultAction::quarantine, "GSP error"}},
    {136, {FaultAction::quarantine, "link training failed"}},
    {140, {FaultAction::quarantine, "unrecovered ECC error"}},
    {143, {FaultAction::quarantine, "GPU initialisation failure"}},
    {154, {FaultAction::ignore, "GPU recovery action changed"}},
    {155, {FaultAction::quarantine, "GPU reset needed"}},
    {156, {FaultAction::quarantine, "GPU reset needed"}},
    {158, {FaultAction::quarantine, "GPU reset needed"}},
});

}  // namespace

FaultVerdict judge_fault(std::string_view kind, std::int32_t xid) {
  if (kind == "xid") {
    for (const auto& row : kXids)
      if (row.xid == xid) return row.verdict;
    return {FaultAction::watch, "unknown to the table"};
  }
  if (kind == "gpu_lost") return {FaultAction::quarantine, "GPU is lost"};
  if (kind == "reset_required") return {FaultAction::quarantine, "GPU needs a reset"};
  if (kind == "reboot_required") return {FaultAction::quarantine, "node needs a reboot"};
  if (kind == "drain_required") return {FaultAction::quarantine, "GPU is to be drained"};
  if (kind == "ecc") return {FaultAction::quarantine, "uncorrectable ECC error"};
  return {FaultAction::watch, "unknown to the table"};
}

}  // namespace tutti
