// The part of NVML's binary interface this project calls, declared by us from its public documentation:
// NVML is never linked and its header is not needed to build. Used by the loader (library.h), by the probe
// and by the test double, which checks at compile time that what it exports has these very types.
//
// Invariants
// 1. Only layouts and values; no behaviour. x86-64 System V and aarch64 share them.
// 2. Every struct that crosses the border has its size and offsets asserted below: a wrong layout must not
// compile.
// 3. Functions keep NVML's own spelling, so that a symbol can be searched for across code, logs and
// documentation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tutti::nvml {

// What every NVML call returns. A newer driver may return values not listed: compare, do not enumerate.
enum class Return : std::int32_t {
  success = 0,
  uninitialized = 1,
  invalid_argument = 2,
  not_supported = 3,
  no_permission = 4,
  not_found = 6,
  insufficient_size = 7,
  insufficient_power = 8,
  driver_not_loaded = 9,
  timeout = 10,
  irq_issue = 11,
  library_not_found = 12,
  function_not_found = 13,
  corrupted_inforom = 14,
  gpu_is_lost = 15,
  reset_required = 16,
  operating_system = 17,
  version_mismatch = 18,
  in_use = 19,
  memory = 20,
  no_data = 21,
  not_ready = 27,
  gpu_not_found = 28,
  invalid_state = 29,
  unknown = 999,
};

struct DeviceOpaque;
struct EventSetOpaque;
using Device = DeviceOpaque*;      // valid until shutdown or loss of the device; identify by UUID instead
using EventSet = EventSetOpaque*;  // from nvmlEventSetCreate until nvmlEventSetFree

inline constexpr unsigned kVersionBufferSize = 80;
inline constexpr unsigned kUuidBufferSize = 96;
inline constexpr unsigned kNameBufferSize = 96;
inline constexpr unsigned kSerialBufferSize = 30;

inline constexpr unsigned long long kEventSingleBitEcc = 0x1;
inline constexpr unsigned long long kEventDoubleBitEcc = 0x2;
inline constexpr unsigned long long kEventXid = 0x8;
inline constexpr unsigned long long kEventGpuUnavailable = 0x4000;
inline constexpr unsigned long long kEventRecoveryAction = 0x8000;

// Clock reasons that are faults; the software power cap and thermal bits are only trends.
inline constexpr unsigned long long kClockHwSlowdown = 0x8;
inline constexpr unsigned long long kClockHwThermal = 0x40;
inline constexpr unsigned long long kClockHwPowerBrake = 0x80;

inline constexpr unsigned kEccCorrected = 0;
inline constexpr unsigned kEccUncorrected = 1;
inline constexpr unsigned kEccVolatile = 0;  // since the driver was loaded or the GPU was reset
inline constexpr unsigned kEccAggregate = 1;

inline constexpr unsigned kFabricNotSupported = 0;
inline constexpr unsigned kFabricNotStarted = 1;
inline constexpr unsigned kFabricInProgress = 2;
inline constexpr unsigned kFabricCompleted = 3;
inline constexpr unsigned kMostNvlinks = 36;

inline constexpr unsigned kTemperatureGpu = 0;
inline constexpr unsigned kP2pNvlink = 2;
inline constexpr unsigned kP2pStatusOk = 0;
inline constexpr unsigned kP2pStatusNotSupported = 5;

inline constexpr unsigned kFieldEccVolatileSbe = 3;
inline constexpr unsigned kFieldEccVolatileDbe = 4;
inline constexpr unsigned kFieldEccAggregateSbe = 5;
inline constexpr unsigned kFieldEccAggregateDbe = 6;
inline constexpr unsigned kFieldRemappedCorrectable = 142;
inline constexpr unsigned kFieldRemappedUncorrectable = 143;
inline constexpr unsigned kFieldRemapPending = 144;
inline constexpr unsigned kFieldRemapFailure = 145;
inline constexpr unsigned kFieldRecoveryAction = 230;

inline constexpr unsigned kRecoveryNone = 0;
inline constexpr unsigned kRecoveryReset = 1;
inline constexpr unsigned kRecoveryReboot = 2;
inline constexpr unsigned kRecoveryDrainP2p = 3;
inline constexpr unsigned kRecoveryDrainAndReset = 4;

inline constexpr unsigned kValueUnsignedInt = 1;
inline constexpr unsigned kValueUnsignedLongLong = 3;
inline constexpr unsigned kNoMigInstance = 0xFFFFFFFFU;
inline constexpr unsigned kMigEnabled = 1;
// Slices (MIG) have no index of their own: what we call slice n of GPU g.
constexpr unsigned slice_index(unsigned gpu, unsigned n) { return (gpu + 1) * 100 + n; }
inline constexpr unsigned long long kMemoryNotAvailable = ~0ULL;

struct EventData {
  Device device;
  unsigned long long event_type;
  unsigned long long event_data;  // the Xid number for kEventXid, 999 when unknown; 0 for other events
  unsigned gpu_instance_id;
  unsigned compute_instance_id;
};
static_assert(sizeof(EventData) == 32);
static_assert(offsetof(EventData, event_type) == 8 && offsetof(EventData, event_data) == 16);
static_assert(offsetof(EventData, gpu_instance_id) == 24 && offsetof(EventData, compute_instance_id) == 28);

struct PciInfo {  // nvmlDeviceGetPciInfo_v3
  char bus_id_legacy[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68);
static_assert(offsetof(PciInfo, domain) == 16 && offsetof(PciInfo, bus) == 20 &&
              offsetof(PciInfo, device) == 24);
static_assert(offsetof(PciInfo, pci_device_id) == 28 && offsetof(PciInfo, pci_subsystem_id) == 32);
static_assert(offsetof(PciInfo, bus_id) == 36);

struct Memory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
static_assert(sizeof(Memory) == 24 && offsetof(Memory, free) == 8 && offsetof(Memory, used) == 16);

struct FabricInfo {  // nvmlDeviceGetGpuFabricInfoV, version 2
  unsigned version;
  unsigned char cluster_uuid[16];
  Return status;  // of the registration, once the state is completed
  unsigned clique_id;
  unsigned char state;
  unsigned health_mask;
};
inline constexpr unsigned kFabricInfoVersion = 0x2000024;
static_assert(sizeof(FabricInfo) == (kFabricInfoVersion & 0xFFFFFF));
static_assert(offsetof(FabricInfo, cluster_uuid) == 4 && offsetof(FabricInfo, status) == 20);
static_assert(offsetof(FabricInfo, clique_id) == 24 && offsetof(FabricInfo, state) == 28);
static_assert(offsetof(FabricInfo, health_mask) == 32);

struct Utilization {
  unsigned gpu;
  unsigned memory;
};
static_assert(sizeof(Utilization) == 8 && offsetof(Utilization, memory) == 4);

struct ProcessInfo {  // the v3 call
  unsigned pid;
  unsigned long long used_gpu_memory;  // kMemoryNotAvailable when the driver does not say
  unsigned gpu_instance_id;
  unsigned compute_instance_id;
};
static_assert(sizeof(ProcessInfo) == 24 && offsetof(ProcessInfo, used_gpu_memory) == 8);
static_assert(offsetof(ProcessInfo, gpu_instance_id) == 16 &&
              offsetof(ProcessInfo, compute_instance_id) == 20);

union FieldPayload {
  double as_double;
  unsigned as_unsigned;
  unsigned long long as_unsigned_long_long;
};

struct FieldValue {
  unsigned field_id;
  unsigned scope_id;
  long long timestamp_us;
  long long latency_us;
  unsigned value_type;
  Return status;  // of this one field: the call as a whole may succeed while a field fails
  FieldPayload value;
};
static_assert(sizeof(FieldValue) == 40 && offsetof(FieldValue, scope_id) == 4);
static_assert(offsetof(FieldValue, timestamp_us) == 8 && offsetof(FieldValue, latency_us) == 16);
static_assert(offsetof(FieldValue, value_type) == 24 && offsetof(FieldValue, status) == 28);
static_assert(offsetof(FieldValue, value) == 32);
static_assert(sizeof(Return) == 4);

// Every symbol we look up: REQUIRED ones must exist or the backend is unavailable; an absent OPTIONAL one
// only takes a capability away (old drivers lack new symbols, new drivers drop old ones).
// clang-format off
#define TUTTI_NVML_SYMBOLS(REQUIRED, OPTIONAL)                                                          \
  REQUIRED(nvmlInit_v2, ())                                                                             \
  REQUIRED(nvmlShutdown, ())                                                                            \
  REQUIRED(nvmlDeviceGetCount_v2, (unsigned*))                                                          \
  REQUIRED(nvmlDeviceGetHandleByIndex_v2, (unsigned, ::tutti::nvml::Device*))                           \
  REQUIRED(nvmlDeviceGetUUID, (::tutti::nvml::Device, char*, unsigned))                                 \
  OPTIONAL(nvmlSystemGetDriverVersion, (char*, unsigned))                                               \
  OPTIONAL(nvmlSystemGetNVMLVersion, (char*, unsigned))                                                 \
  OPTIONAL(nvmlSystemGetCudaDriverVersion_v2, (int*))                                                   \
  OPTIONAL(nvmlDeviceGetHandleByUUID, (const char*, ::tutti::nvml::Device*))                            \
  OPTIONAL(nvmlDeviceGetHandleByPciBusId_v2, (const char*, ::tutti::nvml::Device*))                     \
  OPTIONAL(nvmlDeviceGetName, (::tutti::nvml::Device, char*, unsigned))                                 \
  OPTIONAL(nvmlDeviceGetSerial, (::tutti::nvml::Device, char*, unsigned))                               \
  OPTIONAL(nvmlDeviceGetIndex, (::tutti::nvml::Device, unsigned*))                                      \
  OPTIONAL(nvmlDeviceGetMinorNumber, (::tutti::nvml::Device, unsigned*))                                \
  OPTIONAL(nvmlDeviceGetPciInfo_v3, (::tutti::nvml::Device, ::tutti::nvml::PciInfo*))                   \
  OPTIONAL(nvmlDeviceGetMemoryInfo, (::tutti::nvml::Device, ::tutti::nvml::Memory*))                    \
  OPTIONAL(nvmlDeviceGetUtilizationRates, (::tutti::nvml::Device, ::tutti::nvml::Utilization*))         \
  OPTIONAL(nvmlDeviceGetComputeRunningProcesses_v3,                                                     \
           (::tutti::nvml::Device, unsigned*, ::tutti::nvml::ProcessInfo*))                             \
  OPTIONAL(nvmlDeviceGetTemperature, (::tutti::nvml::Device, unsigned, unsigned*))                      \
  OPTIONAL(nvmlDeviceGetPowerUsage, (::tutti::nvml::Device, unsigned*))                                 \
  OPTIONAL(nvmlDeviceGetCurrentClocksEventReasons, (::tutti::nvml::Device, unsigned long long*))        \
  OPTIONAL(nvmlDeviceGetTotalEccErrors,                                                                 \
           (::tutti::nvml::Device, unsigned, unsigned, unsigned long long*))                            \
  OPTIONAL(nvmlDeviceGetRemappedRows,                                                                   \
           (::tutti::nvml::Device, unsigned*, unsigned*, unsigned*, unsigned*))                         \
  OPTIONAL(nvmlDeviceGetNvLinkState, (::tutti::nvml::Device, unsigned, unsigned*))                      \
  OPTIONAL(nvmlDeviceGetCurrPcieLinkWidth, (::tutti::nvml::Device, unsigned*))                          \
  OPTIONAL(nvmlDeviceGetMaxPcieLinkWidth, (::tutti::nvml::Device, unsigned*))                           \
  OPTIONAL(nvmlDeviceGetCurrPcieLinkGeneration, (::tutti::nvml::Device, unsigned*))                     \
  OPTIONAL(nvmlDeviceGetMaxPcieLinkGeneration, (::tutti::nvml::Device, unsigned*))                      \
  OPTIONAL(nvmlDeviceGetGpuFabricInfoV, (::tutti::nvml::Device, ::tutti::nvml::FabricInfo*))            \
  OPTIONAL(nvmlDeviceGetP2PStatus,                                                                      \
           (::tutti::nvml::Device, ::tutti::nvml::Device, unsigned, unsigned*))                         \
  OPTIONAL(nvmlDeviceGetMigMode, (::tutti::nvml::Device, unsigned*, unsigned*))                         \
  OPTIONAL(nvmlDeviceGetMaxMigDeviceCount, (::tutti::nvml::Device, unsigned*))                          \
  OPTIONAL(nvmlDeviceGetMigDeviceHandleByIndex,                                                         \
           (::tutti::nvml::Device, unsigned, ::tutti::nvml::Device*))                                   \
  OPTIONAL(nvmlDeviceGetFieldValues, (::tutti::nvml::Device, int, ::tutti::nvml::FieldValue*))          \
  OPTIONAL(nvmlDeviceGetSupportedEventTypes, (::tutti::nvml::Device, unsigned long long*))              \
  OPTIONAL(nvmlEventSetCreate, (::tutti::nvml::EventSet*))                                              \
  OPTIONAL(nvmlDeviceRegisterEvents,                                                                    \
           (::tutti::nvml::Device, unsigned long long, ::tutti::nvml::EventSet))                        \
  OPTIONAL(nvmlEventSetWait_v2, (::tutti::nvml::EventSet, ::tutti::nvml::EventData*, unsigned))         \
  OPTIONAL(nvmlEventSetFree, (::tutti::nvml::EventSet))
// clang-format on

// The function-pointer types, one per symbol: `abi::nvmlInit_v2` is `Return (*)()`.
namespace abi {
#define TUTTI_NVML_TYPE(name, arguments) using name = Return(*) arguments;
TUTTI_NVML_SYMBOLS(TUTTI_NVML_TYPE, TUTTI_NVML_TYPE)
#undef TUTTI_NVML_TYPE
using nvmlErrorString = const char* (*)(Return);  // required; the one call that does not return a Return

// Exported only by our double: it is how a reader knows that the GPUs are simulated, and where the files that
// stand for their device nodes are.
using tutti_nvml_double_version = unsigned (*)();
using tutti_nvml_double_device_path = Return (*)(unsigned index, char* path, unsigned size);
}  // namespace abi

}  // namespace tutti::nvml
