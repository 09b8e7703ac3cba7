// What we rely on in any NVML library: signatures, sizes, return codes on wrong arguments. It runs against
// the double; TUTTI_NVML_LIBRARY=/path runs the same against a real library, on a machine with a GPU.
#include <gmock/gmock.h>

#include <array>
#include <cstring>

#include "tests/nvml/machine.h"
#include "worker/nvml/inventory.h"
#include "worker/nvml/library.h"

namespace tutti::nvml::test {
namespace {

using ::testing::AnyOf;
using ::testing::StartsWith;

// A value with painted bytes behind it: a library with another idea of its size is caught.
template <class T>
struct Guarded {
  Guarded() { guard.fill(std::byte{0xA5}); }
  bool intact() const {
    return std::all_of(guard.begin(), guard.end(), [](std::byte each) { return each == std::byte{0xA5}; });
  }
  T value{};
  std::array<std::byte, 128> guard{};
};

class NvmlContract : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = from_environment("TUTTI_NVML_LIBRARY");
    if (path.empty()) {
      machine_.emplace(4U);
      path = double_library();
    }
    auto opened = Library::open(path);
    ASSERT_TRUE(opened.library) << opened.why;
    library_ = std::move(opened.library);
  }
  void TearDown() override {
    while (library_ && started_-- > 0) nvml().nvmlShutdown();
  }

  const Symbols& nvml() const { return library_->symbols(); }
  void start() {
    ASSERT_EQ(nvml().nvmlInit_v2(), Return::success);
    ++started_;
  }
  void stop() {
    ASSERT_EQ(nvml().nvmlShutdown(), Return::success);
    --started_;
  }
  // Starts the library and takes the first GPU; false (and the test is skipped) where there is none.
  bool start_with_gpu() {
    start();
    unsigned count = 0;
    if (HasFatalFailure() || nvml().nvmlDeviceGetCount_v2(&count) != Return::success || count == 0)
      return false;
    return nvml().nvmlDeviceGetHandleByIndex_v2(0, &gpu_) == Return::success;
  }

  std::optional<Machine> machine_;
  std::unique_ptr<Library> library_;
  int started_ = 0;
  Device gpu_ = nullptr;
};

#define START_WITH_GPU() \
  if (!start_with_gpu()) GTEST_SKIP() << "no GPU here"
#define NEED(symbol) \
  if (nvml().symbol == nullptr) GTEST_SKIP() << #symbol " is not in this library"

TEST_F(NvmlContract, RefusesCallsBeforeInit) {
  unsigned count = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::uninitialized);
  EXPECT_EQ(nvml().nvmlShutdown(), Return::uninitialized);
}

TEST_F(NvmlContract, InitIsReferenceCounted) {
  start();
  start();
  stop();
  unsigned count = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::success);
  stop();
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::uninitialized);
}

TEST_F(NvmlContract, EveryCodeHasAText) {
  for (int code : {0, 1, 2, 3, 4, 6, 7, 9, 10, 15, 16, 18, 20, 999, 12345}) {
    const char* text = nvml().nvmlErrorString(static_cast<Return>(code));
    ASSERT_NE(text, nullptr) << code;
    EXPECT_GT(std::strlen(text), 0U) << code;
  }
}

TEST_F(NvmlContract, RefusesNullPointers) {
  START_WITH_GPU();
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(nullptr), Return::invalid_argument);
  EXPECT_EQ(nvml().nvmlDeviceGetHandleByIndex_v2(0, nullptr), Return::invalid_argument);
  EXPECT_EQ(nvml().nvmlDeviceGetUUID(gpu_, nullptr, kUuidBufferSize), Return::invalid_argument);
  Device none = nullptr;
  char text[kUuidBufferSize];
  EXPECT_EQ(nvml().nvmlDeviceGetUUID(none, text, sizeof text), Return::invalid_argument);
}

TEST_F(NvmlContract, RefusesNullPointersInOptionalCalls) {
  START_WITH_GPU();
#define EXPECT_REFUSED(symbol, ...)                                             \
  if (nvml().symbol != nullptr) {                                               \
    EXPECT_EQ(nvml().symbol(__VA_ARGS__), Return::invalid_argument) << #symbol; \
  }
  EXPECT_REFUSED(nvmlSystemGetDriverVersion, nullptr, 80U)
  EXPECT_REFUSED(nvmlSystemGetNVMLVersion, nullptr, 80U)
  EXPECT_REFUSED(nvmlSystemGetCudaDriverVersion_v2, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetHandleByUUID, nullptr, &gpu_)
  EXPECT_REFUSED(nvmlDeviceGetHandleByPciBusId_v2, nullptr, &gpu_)
  EXPECT_REFUSED(nvmlDeviceGetName, gpu_, nullptr, kNameBufferSize)
  EXPECT_REFUSED(nvmlDeviceGetIndex, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetMinorNumber, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetPciInfo_v3, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetMemoryInfo, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetUtilizationRates, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetComputeRunningProcesses_v3, gpu_, nullptr, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetTemperature, gpu_, kTemperatureGpu, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetPowerUsage, gpu_, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetFieldValues, gpu_, 1, nullptr)
  EXPECT_REFUSED(nvmlDeviceGetSupportedEventTypes, gpu_, nullptr)
  EXPECT_REFUSED(nvmlEventSetCreate, nullptr)
#undef EXPECT_REFUSED
}

TEST_F(NvmlContract, RefusesAnIndexBeyondTheCount) {
  start();
  unsigned count = 0;
  ASSERT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::success);
  Device device = nullptr;
  EXPECT_EQ(nvml().nvmlDeviceGetHandleByIndex_v2(count, &device), Return::invalid_argument);
}

TEST_F(NvmlContract, SaysThatABufferIsTooSmall) {
  START_WITH_GPU();
  char text[8];
  EXPECT_EQ(nvml().nvmlDeviceGetUUID(gpu_, text, sizeof text), Return::insufficient_size);
  if (nvml().nvmlDeviceGetName) {
    EXPECT_EQ(nvml().nvmlDeviceGetName(gpu_, text, 2), Return::insufficient_size);
  }
}

TEST_F(NvmlContract, UuidLeadsBackToTheSameGpu) {
  START_WITH_GPU();
  NEED(nvmlDeviceGetHandleByUUID);
  char uuid[kUuidBufferSize];
  ASSERT_EQ(nvml().nvmlDeviceGetUUID(gpu_, uuid, sizeof uuid), Return::success);
  EXPECT_THAT(std::string(uuid), StartsWith("GPU-"));
  Device again = nullptr;
  ASSERT_EQ(nvml().nvmlDeviceGetHandleByUUID(uuid, &again), Return::success);
  EXPECT_EQ(again, gpu_);
  const Return unknown = nvml().nvmlDeviceGetHandleByUUID("GPU-00000000-0000-4000-8000-000000000000", &again);
  EXPECT_THAT(unknown, AnyOf(Return::not_found, Return::invalid_argument));
}

TEST_F(NvmlContract, PciAddressLeadsBackToTheSameGpu) {
  START_WITH_GPU();
  NEED(nvmlDeviceGetPciInfo_v3);
  NEED(nvmlDeviceGetHandleByPciBusId_v2);
  Guarded<PciInfo> pci;
  ASSERT_EQ(nvml().nvmlDeviceGetPciInfo_v3(gpu_, &pci.value), Return::success);
  EXPECT_TRUE(pci.intact());
  unsigned domain = 0;
  unsigned bus = 0;
  ASSERT_EQ(std::sscanf(pci.value.bus_id, "%x:%x", &domain, &bus), 2) << pci.value.bus_id;
  EXPECT_EQ(domain, pci.value.domain);
  EXPECT_EQ(bus, pci.value.bus);
  EXPECT_EQ(pci.value.pci_device_id & 0xFFFFU, 0x10DEU) << "the vendor is in the low half";
  Device again = nullptr;
  ASSERT_EQ(nvml().nvmlDeviceGetHandleByPciBusId_v2(pci.value.bus_id, &again), Return::success);
  EXPECT_EQ(again, gpu_);
}

TEST_F(NvmlContract, StructsHaveTheSizesWeDeclared) {
  START_WITH_GPU();
  if (nvml().nvmlDeviceGetMemoryInfo) {
    Guarded<Memory> memory;
    ASSERT_EQ(nvml().nvmlDeviceGetMemoryInfo(gpu_, &memory.value), Return::success);
    EXPECT_TRUE(memory.intact());
    EXPECT_GT(memory.value.total, 1ULL << 30);
    EXPECT_EQ(memory.value.used + memory.value.free, memory.value.total);
  }
  if (nvml().nvmlDeviceGetUtilizationRates) {
    Guarded<Utilization> load;
    ASSERT_EQ(nvml().nvmlDeviceGetUtilizationRates(gpu_, &load.value), Return::success);
    EXPECT_TRUE(load.intact());
    EXPECT_LE(load.value.gpu, 100U);
    EXPECT_LE(load.value.memory, 100U);
  }
}

TEST_F(NvmlContract, ReadingsAreInTheUnitsWeSay) {
  START_WITH_GPU();
  unsigned value = 0;
  if (nvml().nvmlDeviceGetTemperature) {
    ASSERT_EQ(nvml().nvmlDeviceGetTemperature(gpu_, kTemperatureGpu, &value), Return::success);
    EXPECT_GT(value, 5U);
    EXPECT_LT(value, 120U);
  }
  if (nvml().nvmlDeviceGetPowerUsage && nvml().nvmlDeviceGetPowerUsage(gpu_, &value) == Return::success) {
    EXPECT_GT(value, 1000U) << "milliwatts";
    EXPECT_LT(value, 3'000'000U) << "milliwatts";
  }
}

TEST_F(NvmlContract, UnknownFieldFailsAloneAndTheCallSucceeds) {
  START_WITH_GPU();
  NEED(nvmlDeviceGetFieldValues);
  Guarded<std::array<FieldValue, 2>> fields;
  fields.value[0].field_id = kFieldEccVolatileDbe;
  fields.value[1].field_id = 0xFFFF;
  ASSERT_EQ(nvml().nvmlDeviceGetFieldValues(gpu_, 2, fields.value.data()), Return::success);
  EXPECT_TRUE(fields.intact());
  EXPECT_THAT(fields.value[0].status, AnyOf(Return::success, Return::not_supported));
  EXPECT_NE(fields.value[1].status, Return::success);
}

TEST_F(NvmlContract, ProcessListSaysHowManyThereAre) {
  START_WITH_GPU();
  NEED(nvmlDeviceGetComputeRunningProcesses_v3);
  Guarded<std::array<ProcessInfo, 64>> infos;
  unsigned count = 64;
  ASSERT_EQ(nvml().nvmlDeviceGetComputeRunningProcesses_v3(gpu_, &count, infos.value.data()),
            Return::success);
  EXPECT_TRUE(infos.intact());
  unsigned none = 0;
  const Return asked = nvml().nvmlDeviceGetComputeRunningProcesses_v3(gpu_, &none, nullptr);
  EXPECT_EQ(asked, count == 0 ? Return::success : Return::insufficient_size);
  EXPECT_EQ(none, count);
}

TEST_F(NvmlContract, EccCountersAndRowRemapsAreReadable) {
  START_WITH_GPU();
  NEED(nvmlDeviceGetTotalEccErrors);
  NEED(nvmlDeviceGetRemappedRows);
  unsigned long long errors = 0;
  EXPECT_THAT(nvml().nvmlDeviceGetTotalEccErrors(gpu_, kEccUncorrected, kEccVolatile, &errors),
              AnyOf(Return::success, Return::not_supported));
  EXPECT_EQ(nvml().nvmlDeviceGetTotalEccErrors(gpu_, 7, kEccVolatile, &errors), Return::invalid_argument);
  unsigned rows[4] = {};
  EXPECT_THAT(nvml().nvmlDeviceGetRemappedRows(gpu_, &rows[0], &rows[1], &rows[2], &rows[3]),
              AnyOf(Return::success, Return::not_supported));
}

TEST_F(NvmlContract, QuietEventSetWaitsAsLongAsAsked) {
  START_WITH_GPU();
  NEED(nvmlEventSetWait_v2);
  unsigned long long types = 0;
  ASSERT_EQ(nvml().nvmlDeviceGetSupportedEventTypes(gpu_, &types), Return::success);
  if ((types & kEventXid) == 0) GTEST_SKIP() << "this GPU reports no Xids";
  EventSet set = nullptr;
  ASSERT_EQ(nvml().nvmlEventSetCreate(&set), Return::success);
  EXPECT_EQ(nvml().nvmlDeviceRegisterEvents(gpu_, kEventXid, set), Return::success);
  Guarded<EventData> data;
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(nvml().nvmlEventSetWait_v2(set, &data.value, 150), Return::timeout);
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_GE(took, std::chrono::milliseconds(140)) << "a wait that does not block makes its caller spin";
  EXPECT_LT(took, std::chrono::seconds(5));
  EXPECT_TRUE(data.intact());
  EXPECT_EQ(nvml().nvmlEventSetWait_v2(set, nullptr, 1), Return::invalid_argument);
  EXPECT_EQ(nvml().nvmlEventSetFree(set), Return::success);
}

TEST_F(NvmlContract, InventoryHasEveryGpuOnce) {
  START_WITH_GPU();
  const ReadInventory read = read_inventory(*library_);
  ASSERT_EQ(read.result, Return::success);
  unsigned count = 0;
  ASSERT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::success);
  EXPECT_EQ(read.message.gpus.size() + read.message.unidentified, count);
  std::set<std::string> uuids;
  for (const GpuInfo& gpu : read.message.gpus) uuids.insert(gpu.uuid);
  EXPECT_EQ(uuids.size(), read.message.gpus.size());
}

}  // namespace
}  // namespace tutti::nvml::test
