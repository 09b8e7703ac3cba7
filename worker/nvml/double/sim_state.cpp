// The rules of sim_state.h: what a machine of a given model looks like, and what an Xid does to a GPU.
#include "worker/nvml/double/sim_state.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace tutti::nvml::sim {
namespace {

struct Model {
  std::string_view word;
  std::string_view name;
  unsigned long long memory_mib;
  unsigned pci_device_id;  // device in the high half, vendor 10DE in the low one
};
constexpr Model kModels[] = {
    {"H100", "NVIDIA H100 80GB HBM3", 81559, 0x233010DE},
    {"H200", "NVIDIA H200", 143771, 0x233510DE},
    {"B200", "NVIDIA B200", 183359, 0x290110DE},
    {"A100", "NVIDIA A100-SXM4-80GB", 81920, 0x20B210DE},
};

// The bus numbers of an eight-GPU NVSwitch board; a ninth GPU starts again in the next PCI domain.
constexpr unsigned kBuses[] = {0x18, 0x2a, 0x3a, 0x5d, 0x9a, 0xab, 0xba, 0xdb};

// What an Xid leaves behind on the GPU, from NVIDIA's catalogue. Xids that only concern a process (13, 31,
// 43, 45) or only inform (154) are absent: the GPU goes on.
struct XidEffect {
  unsigned xid;
  GpuMode mode;
  unsigned uncorrected;
};
constexpr XidEffect kXidEffects[] = {
    {46, GpuMode::reset_required, 0},
    {48, GpuMode::ecc, 1},
    {54, GpuMode::reset_required, 0},
    {62, GpuMode::reset_required, 0},
    {63, GpuMode::remap_pending, 0},
    {64, GpuMode::remap_failed, 0},
    {74, GpuMode::link_down, 0},
    {79, GpuMode::lost, 0},
    {94, GpuMode::ecc, 1},
    {95, GpuMode::reset_required, 1},
    {109, GpuMode::reset_required, 0},
    {110, GpuMode::reset_required, 0},
    {119, GpuMode::reset_required, 0},
    {120, GpuMode::reset_required, 0},
    {136, GpuMode::reset_required, 0},
    {140, GpuMode::reset_required, 1},
    {143, GpuMode::reset_required, 0},
    {155, GpuMode::reset_required, 0},
    {156, GpuMode::reset_required, 0},
    {158, GpuMode::reset_required, 0},
};
constexpr unsigned kXidHighSingleBitRate = 92;

std::uint64_t mix(std::uint64_t value) {  // splitmix64: well spread, and the same everywhere
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

std::uint64_t seed_of(std::string_view node, unsigned index) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (char letter : node) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3ULL;
  return mix(hash + index);
}

std::string make_uuid(std::uint64_t seed) {
  const std::uint64_t high = mix(seed);
  const std::uint64_t low = mix(high);
  char text[64];
  std::snprintf(text, sizeof text, "GPU-%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16) & 0xFFFFU, static_cast<unsigned>(high) & 0xFFFU,
                (static_cast<unsigned>(low >> 48) & 0x3FFFU) | 0x8000U,
                static_cast<unsigned long long>(low & 0xFFFFFFFFFFFFULL));
  return text;
}

Gpu slice_of(const Gpu& gpu, unsigned n, const std::string& profile) {
  Gpu slice = gpu;
  slice.index = slice_index(gpu.index, n);
  slice.slice_of = gpu.uuid;
  slice.uuid = "MIG" + make_uuid(seed_of(gpu.uuid, n)).substr(3);
  slice.name += " MIG " + profile;
  const auto dot = profile.find('.'), unit = profile.find("gb");
  const auto memory = dot == std::string::npos || unit == std::string::npos || unit < dot
                          ? std::nullopt
                          : parse_bytes(profile.substr(dot + 1, unit - dot - 1) + "GiB");
  slice.memory_bytes = memory.value_or(gpu.memory_bytes / 8);
  slice.device_path += "." + std::to_string(n);
  return slice;
}

}  // namespace

std::string pci_address(const Gpu& gpu) {
  char text[32];
  std::snprintf(text, sizeof text, "%04x:%02x:00", gpu.pci_domain, gpu.pci_bus);
  return text;
}

bool concerns(const CallFault& fault, std::string_view call) {
  return fault.call == "*" || fault.call == call;
}

State make_state(const NodePlan& plan) {
  const auto* known = std::find_if(std::begin(kModels), std::end(kModels),
                                   [&plan](const Model& model) { return model.word == plan.model; });
  State state;
  state.node = plan.node;
  state.driver_version = "570.124.06";
  state.nvml_version = "12.570.124.06";
  state.cuda_version = 12080;
  for (unsigned index = 0; index < std::min(plan.gpus, kMaxGpus); ++index) {
    const std::uint64_t seed = seed_of(plan.node, index);
    Gpu gpu;
    gpu.index = index;
    gpu.minor = index;
    gpu.uuid = make_uuid(seed);
    gpu.name = known != std::end(kModels) ? std::string(known->name) : "NVIDIA " + plan.model;
    gpu.serial = std::to_string(1'650'000'000'000ULL + seed % 10'000'000'000ULL);
    gpu.memory_bytes = plan.memory_bytes != 0       ? plan.memory_bytes
                       : known != std::end(kModels) ? known->memory_mib << 20
                                                    : 80ULL << 30;
    gpu.pci_domain = index / std::size(kBuses);
    gpu.pci_bus = kBuses[index % std::size(kBuses)];
    gpu.pci_device_id = known != std::end(kModels) ? known->pci_device_id : 0x233010DE;
    gpu.nvlink_island = index / std::max(plan.island_size, 1U);
    gpu.device_path = plan.device_folder + "/nvidia" + std::to_string(index);
    state.gpus.push_back(gpu);
    for (unsigned n = 0; n < plan.slices.size() && state.gpus.size() < kMaxGpus; ++n)
      state.gpus.push_back(slice_of(gpu, n, plan.slices[n]));
  }
  return state;
}

Gpu* find_gpu(State& state, unsigned index) {
  for (Gpu& gpu : state.gpus) {
    if (gpu.index == index) return &gpu;
  }
  return nullptr;
}

void apply_xid(Gpu& gpu, unsigned xid) {
  gpu.last_xid = xid;
  if (xid == kXidHighSingleBitRate) gpu.corrected_errors += 64;
  for (const XidEffect& effect : kXidEffects) {
    if (effect.xid != xid) continue;
    gpu.mode = std::max(gpu.mode, effect.mode);
    gpu.uncorrected_errors += effect.uncorrected;
  }
}

void apply_reset(Gpu& gpu) {
  gpu.mode = GpuMode::healthy;
  gpu.last_xid = 0;
  gpu.corrected_errors = 0;
  gpu.uncorrected_errors = 0;
}

}  // namespace tutti::nvml::sim
