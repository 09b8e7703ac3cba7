// The double behaves as a real library and driver do when things break: this is what makes tests against it
// worth something.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <thread>

#include "tests/nvml/child.h"
#include "tests/nvml/machine.h"
#include "worker/nvml/inventory.h"
#include "worker/nvml/library.h"

namespace tutti::nvml::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

class NvmlDouble : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = Library::open(double_library());
    ASSERT_TRUE(opened.library) << opened.why;
    library_ = std::move(opened.library);
  }
  void TearDown() override {
    if (started_) nvml().nvmlShutdown();
  }
  const Symbols& nvml() const { return library_->symbols(); }

  // Starting anew also reads the state anew, so no test has to wait for the re-read by the clock.
  Return restart() {
    if (started_) nvml().nvmlShutdown();
    const Return result = nvml().nvmlInit_v2();
    started_ = result == Return::success;
    return result;
  }
  Device gpu(unsigned index) {
    Device device = nullptr;
    EXPECT_EQ(nvml().nvmlDeviceGetHandleByIndex_v2(index, &device), Return::success);
    return device;
  }
  EventSet watch(std::initializer_list<unsigned> gpus) {
    EventSet set = nullptr;
    EXPECT_EQ(nvml().nvmlEventSetCreate(&set), Return::success);
    for (unsigned index : gpus) {
      EXPECT_EQ(nvml().nvmlDeviceRegisterEvents(gpu(index), kEventXid, set), Return::success);
    }
    return set;
  }
  // The Xids that are there without waiting for more.
  std::vector<unsigned long long> drain(EventSet set) {
    std::vector<unsigned long long> xids;
    EventData data{};
    while (nvml().nvmlEventSetWait_v2(set, &data, 0) == Return::success) xids.push_back(data.event_data);
    return xids;
  }
  std::vector<unsigned> processes(Device device) {
    ProcessInfo infos[64];
    unsigned count = 64;
    EXPECT_EQ(nvml().nvmlDeviceGetComputeRunningProcesses_v3(device, &count, infos), Return::success);
    std::vector<unsigned> pids;
    for (unsigned i = 0; i < count; ++i) pids.push_back(infos[i].pid);
    return pids;
  }
  Return temperature(Device device) {
    unsigned celsius = 0;
    return nvml().nvmlDeviceGetTemperature(device, kTemperatureGpu, &celsius);
  }
  unsigned field(Device device, unsigned id) {
    FieldValue value{};
    value.field_id = id;
    EXPECT_EQ(nvml().nvmlDeviceGetFieldValues(device, 1, &value), Return::success);
    EXPECT_EQ(value.status, Return::success);
    return value.value.as_unsigned;
  }

  std::unique_ptr<Library> library_;
  bool started_ = false;
};

TEST_F(NvmlDouble, WithoutAMachineThereIsNoDriver) {
  unsetenv("TUTTI_NVML_DOUBLE_STATE");
  EXPECT_EQ(restart(), Return::driver_not_loaded);
  setenv("TUTTI_NVML_DOUBLE_STATE", "/nonexistent", 1);
  EXPECT_EQ(restart(), Return::driver_not_loaded);
  unsetenv("TUTTI_NVML_DOUBLE_STATE");
}

TEST_F(NvmlDouble, ShowsTheMachineItWasGiven) {
  Machine machine(4, 2);
  ASSERT_EQ(restart(), Return::success);
  const ReadInventory read = read_inventory(*library_);
  ASSERT_EQ(read.message.gpus.size(), 4U);
  EXPECT_TRUE(read.message.simulated);
  const GpuInfo& third = read.message.gpus[2];
  EXPECT_EQ(third.uuid, machine.uuid(2));
  EXPECT_EQ(third.name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(third.pci, "0000:3a:00");
  EXPECT_EQ(third.minor, 2U);
  EXPECT_EQ(third.device_path, machine.state().gpus[2].device_path);
  EXPECT_EQ(read.message.gpus[0].nvlink_island, read.message.gpus[1].nvlink_island);
  EXPECT_NE(read.message.gpus[1].nvlink_island, third.nvlink_island);
}

TEST_F(NvmlDouble, WaitReallyBlocksAndWakesAtOnce) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const EventSet set = watch({0, 1, 2, 3});
  auto fastest = std::chrono::nanoseconds::max();
  for (unsigned round = 0; round < 8; ++round) {
    std::promise<void> about_to_wait;
    auto woken = std::async(std::launch::async, [&] {
      EventData data{};
      about_to_wait.set_value();
      const Return result = nvml().nvmlEventSetWait_v2(set, &data, 10'000);
      return std::pair(result == Return::success ? data.event_data : 0, Clock::now());
    });
    about_to_wait.get_future().wait();
    EXPECT_EQ(woken.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout)
        << "it does not block";
    machine.change(1, [](sim::Gpu& each) { sim::apply_xid(each, 31); });
    const sim::Event event{boot_us(), machine.uuid(1), kEventXid, 31};
    const auto injected = Clock::now();
    ASSERT_EQ(sim::append_event(machine.folder(), event), "");
    const auto [xid, at] = woken.get();
    EXPECT_EQ(xid, 31U);
    EXPECT_LT(at - injected, std::chrono::seconds(5));
    fastest = std::min<std::chrono::nanoseconds>(fastest, at - injected);
  }
  // Of several, because another program may have the processor at any one of them.
  EXPECT_LT(fastest, std::chrono::milliseconds(10));
}

TEST_F(NvmlDouble, EachSetGetsEachXidOnce) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const EventSet one = watch({0, 1});
  const EventSet other = watch({0, 1});
  machine.inject_xid(0, 13);
  machine.inject_xid(1, 31);
  machine.inject_xid(0, 13);
  EXPECT_THAT(drain(one), ElementsAre(13, 31, 13));
  EXPECT_THAT(drain(other), ElementsAre(13, 31, 13));
  EXPECT_THAT(drain(one), IsEmpty());
  machine.inject_xid(1, 43);
  EXPECT_THAT(drain(one), ElementsAre(43));
}

TEST_F(NvmlDouble, NothingFromBeforeRegistrationIsDelivered) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  machine.inject_xid(0, 13);
  const EventSet set = watch({0});
  machine.inject_xid(1, 31);  // not registered yet
  EXPECT_EQ(nvml().nvmlDeviceRegisterEvents(gpu(1), kEventXid, set), Return::success);
  machine.inject_xid(1, 43);
  EXPECT_THAT(drain(set), ElementsAre(43));
}

TEST_F(NvmlDouble, RegisteringTwiceNeitherRepeatsNorLoses) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const EventSet set = watch({0});
  machine.inject_xid(0, 13);
  EXPECT_EQ(nvml().nvmlDeviceRegisterEvents(gpu(0), kEventXid, set), Return::success);
  EXPECT_THAT(drain(set), ElementsAre(13));
}

TEST_F(NvmlDouble, UnsupportedEventsRegisterNothing) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const EventSet set = watch({});
  EXPECT_EQ(nvml().nvmlDeviceRegisterEvents(gpu(0), kEventXid | 0x4, set), Return::not_supported);
  machine.inject_xid(0, 13);
  EXPECT_THAT(drain(set), IsEmpty());
}

TEST_F(NvmlDouble, FreedSetIsRefused) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const EventSet set = watch({0});
  EXPECT_EQ(nvml().nvmlEventSetFree(set), Return::success);
  EventData data{};
  EXPECT_EQ(nvml().nvmlEventSetWait_v2(set, &data, 0), Return::invalid_argument);
  EXPECT_EQ(nvml().nvmlEventSetFree(set), Return::invalid_argument);
}

TEST_F(NvmlDouble, WhoIsWokenByAnXidAlreadyFindsTheGpuTripped) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(3);
  const EventSet set = watch({3});
  EXPECT_EQ(temperature(device), Return::success);
  machine.inject_xid(3, 79);
  EventData data{};
  ASSERT_EQ(nvml().nvmlEventSetWait_v2(set, &data, 5000), Return::success);
  EXPECT_EQ(data.device, device);
  EXPECT_EQ(temperature(device), Return::gpu_is_lost);
}

TEST_F(NvmlDouble, LostGpuAnswersNothingAndTheOthersGoOn) {
  Machine machine;
  machine.set_mode(1, sim::GpuMode::lost);
  ASSERT_EQ(restart(), Return::success);
  Device lost = nullptr;
  EXPECT_EQ(nvml().nvmlDeviceGetHandleByIndex_v2(1, &lost), Return::gpu_is_lost);
  EXPECT_EQ(nvml().nvmlDeviceGetHandleByUUID(machine.uuid(1).c_str(), &lost), Return::gpu_is_lost);
  EXPECT_EQ(temperature(gpu(0)), Return::success);
  unsigned count = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::success);
  EXPECT_EQ(count, 4U);
  const ReadInventory read = read_inventory(*library_);
  EXPECT_EQ(read.message.gpus.size(), 3U);
  EXPECT_EQ(read.message.unidentified, 1U);
}

TEST_F(NvmlDouble, TrippedGpuStaysTrippedUntilReset) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(0);
  machine.inject_xid(0, 79);
  machine.inject_xid(0, 48);  // a milder one does not make it better
  machine.inject_xid(0, 31);
  ASSERT_EQ(restart(), Return::success);
  EXPECT_EQ(temperature(device), Return::gpu_is_lost);
  machine.change(0, sim::apply_reset);
  ASSERT_EQ(restart(), Return::success);
  EXPECT_EQ(temperature(device), Return::success);
  EXPECT_EQ(field(device, kFieldEccVolatileDbe), 0U);
}

TEST_F(NvmlDouble, ResetRequiredStillTellsWhoItIs) {
  Machine machine;
  machine.set_mode(2, sim::GpuMode::reset_required);
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(2);
  char uuid[kUuidBufferSize];
  EXPECT_EQ(nvml().nvmlDeviceGetUUID(device, uuid, sizeof uuid), Return::success);
  EXPECT_EQ(machine.uuid(2), uuid);
  EXPECT_EQ(temperature(device), Return::reset_required);
  unsigned count = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetComputeRunningProcesses_v3(device, &count, nullptr), Return::reset_required);
}

TEST_F(NvmlDouble, OtherModesShowWhereTheyShould) {
  Machine machine(5);
  machine.inject_xid(0, 48);
  machine.inject_xid(1, 63);
  machine.inject_xid(2, 64);
  machine.inject_xid(3, 74);
  machine.set_mode(4, sim::GpuMode::throttled);
  ASSERT_EQ(restart(), Return::success);
  unsigned long long errors = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetTotalEccErrors(gpu(0), kEccUncorrected, kEccVolatile, &errors),
            Return::success);
  EXPECT_EQ(errors, 1U);
  EXPECT_EQ(field(gpu(0), kFieldRecoveryAction), kRecoveryDrainAndReset);
  EXPECT_EQ(field(gpu(1), kFieldRemapPending), 1U);
  EXPECT_EQ(field(gpu(2), kFieldRemapFailure), 1U);
  unsigned active = 1;
  EXPECT_EQ(nvml().nvmlDeviceGetNvLinkState(gpu(3), 0, &active), Return::success);
  EXPECT_EQ(active, 0U);
  unsigned long long reasons = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetCurrentClocksEventReasons(gpu(4), &reasons), Return::success);
  EXPECT_NE(reasons & kClockHwThermal, 0U);
}

TEST_F(NvmlDouble, ChangedStateIsSeenWithinASecondOrSo) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(0);
  EXPECT_EQ(temperature(device), Return::success);
  machine.set_mode(0, sim::GpuMode::lost);
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (temperature(device) == Return::success && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the library re-reads by the clock alone
  }
  EXPECT_EQ(temperature(device), Return::gpu_is_lost);
}

TEST_F(NvmlDouble, DriverCodesReachInit) {
  Machine machine;
  machine.misbehave("driver_not_loaded");
  EXPECT_EQ(restart(), Return::driver_not_loaded);
  Machine second;
  second.misbehave("version_mismatch");
  EXPECT_EQ(restart(), Return::version_mismatch);
}

TEST_F(NvmlDouble, SlowCallTakesLongerAndAnswers) {
  Machine machine;
  machine.misbehave("slow:nvmlDeviceGetTemperature:120ms");
  ASSERT_EQ(restart(), Return::success);
  const auto began = Clock::now();
  EXPECT_EQ(temperature(gpu(0)), Return::success);
  EXPECT_GE(Clock::now() - began, std::chrono::milliseconds(120));
}

TEST_F(NvmlDouble, OneHungCallDoesNotStopTheOthers) {
  Machine machine;
  machine.misbehave("hang:nvmlDeviceGetTemperature:1s");
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(0);
  auto hung = std::async(std::launch::async, [&] { return temperature(device); });
  unsigned count = 0;
  EXPECT_EQ(nvml().nvmlDeviceGetCount_v2(&count), Return::success);
  EXPECT_EQ(hung.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_EQ(hung.get(), Return::success);
}

TEST_F(NvmlDouble, CrashKillsTheCaller) {
  Machine machine;
  machine.misbehave("crash:nvmlDeviceGetCount_v2");
  ASSERT_EQ(restart(), Return::success);
  const pid_t child = fork();
  if (child == 0) {
    unsigned count = 0;
    nvml().nvmlDeviceGetCount_v2(&count);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

// A rank that opens its GPU and leaves its process group, as an orphan does; it says "ready" and then stays.
std::vector<std::string> holder_of(const std::string& device) {
  return {"/usr/bin/setsid", "/bin/sh", "-c", "exec 9<'" + device + "'; echo ready; read line"};
}

TEST_F(NvmlDouble, ProcessesAreThoseThatHoldTheDeviceOpen) {
  Machine machine;
  ASSERT_EQ(restart(), Return::success);
  const Device device = gpu(1);
  EXPECT_THAT(processes(device), IsEmpty());
  Memory idle{};
  ASSERT_EQ(nvml().nvmlDeviceGetMemoryInfo(device, &idle), Return::success);

  Child rank(holder_of(machine.state().gpus[1].device_path));
  ASSERT_EQ(rank.read_line(Milliseconds(10'000)), "ready");
  EXPECT_THAT(processes(device), ElementsAre(rank.pid()));
  EXPECT_THAT(processes(gpu(0)), IsEmpty());
  Memory used{};
  ASSERT_EQ(nvml().nvmlDeviceGetMemoryInfo(device, &used), Return::success);
  EXPECT_GT(used.used, idle.used);

  rank.kill(SIGKILL);
  ASSERT_TRUE(rank.wait(Milliseconds(10'000)));
  EXPECT_THAT(processes(device), IsEmpty()) << "asked after the death: an older answer is wrong";
  ASSERT_EQ(nvml().nvmlDeviceGetMemoryInfo(device, &used), Return::success);
  EXPECT_EQ(used.used, idle.used);
}

}  // namespace
}  // namespace tutti::nvml::test
