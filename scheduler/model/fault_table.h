// Which GPU faults are fatal: first light's cut of the Xid table, as data. Source: NVIDIA's Xid catalogue
// (docs.nvidia.com, "Xid errors") read for Ampere and later; projects disagree on the rest, so everything
// not named here is watched, recorded and never kills a gang.
#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

enum class FaultAction : std::uint8_t {
  ignore,     // sympathetic or informational: recorded, never a first cause
  watch,      // recorded; the gang lives or dies by its ranks
  quarantine  // the GPU is unusable: its gang is killed, it gets no work until a reset or a person
};

struct FaultVerdict {
  FaultAction action = FaultAction::watch;
  std::string_view meaning;
};

// `kind` as in protocol::GpuFault ("xid", "gpu_lost", "reset_required", "ecc").
FaultVerdict judge_fault(std::string_view kind, std::int32_t xid);

inline constexpr std::string_view kFaultTableVersion = "2026-11-1";

}  // namespace tutti
