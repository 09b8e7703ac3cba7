// The rules and files of a simulated machine, and the tool that changes them.
#include <gmock/gmock.h>

#include <fstream>
#include <thread>

#include "tests/nvml/child.h"
#include "tests/nvml/machine.h"

namespace tutti::nvml::test {
namespace {

using sim::GpuMode;
using ::testing::HasSubstr;

TEST(SimState, TextFormKeepsEverything) {
  sim::State state = sim::make_state({"node-a", 3, "A100", 0, 2, "/x/dev"});
  state.gpus[1].mode = GpuMode::reset_required;
  state.gpus[1].last_xid = 95;
  state.gpus[1].uncorrected_errors = 7;
  state.faults = {{sim::CallFault::Kind::hang, "nvmlInit_v2", -1},
                  {sim::CallFault::Kind::slow, "*", 20},
                  {sim::CallFault::Kind::fail, "*", 9},
                  {sim::CallFault::Kind::crash, "nvmlDeviceGetName", 0}};
  std::string problem;
  EXPECT_EQ(sim::parse_state(sim::format_state(state), problem), state) << problem;
}

TEST(SimState, NamesTheLineThatIsWrong) {
  std::string problem;
  EXPECT_FALSE(sim::parse_state("tutti-gpu-sim state 1\nnode = a\n[gpu]\nmode = sleepy\n", problem));
  EXPECT_THAT(problem, HasSubstr("line 4"));
  EXPECT_FALSE(sim::parse_state("tutti-gpu-sim state 1\ncolour = red\n", problem));
  EXPECT_THAT(problem, HasSubstr("unknown key 'colour'"));
  EXPECT_FALSE(sim::parse_state("", problem));
  EXPECT_FALSE(sim::parse_state("something else\n", problem));
}

TEST(SimState, SameNodeNameGivesTheSameGpus) {
  auto machine_of = [](const char* node) {
    sim::NodePlan plan;
    plan.node = node;
    return sim::make_state(plan);
  };
  EXPECT_EQ(machine_of("node-a"), machine_of("node-a"));
  std::set<std::string> uuids;
  for (const char* node : {"node-a", "node-b"}) {
    for (const sim::Gpu& gpu : machine_of(node).gpus) uuids.insert(gpu.uuid);
  }
  EXPECT_EQ(uuids.size(), 16U);
  EXPECT_THAT(*uuids.begin(), ::testing::MatchesRegex(
                                  "GPU-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
}

TEST(SimState, XidMakesWorseNeverBetter) {
  const unsigned order[] = {31, 63, 48, 74, 64, 95, 79};
  sim::Gpu gpu;
  GpuMode before = gpu.mode;
  for (unsigned xid : order) {
    sim::apply_xid(gpu, xid);
    EXPECT_GE(gpu.mode, before) << xid;
    before = gpu.mode;
  }
  EXPECT_EQ(gpu.mode, GpuMode::lost);
  for (unsigned xid : order) sim::apply_xid(gpu, xid);
  EXPECT_EQ(gpu.mode, GpuMode::lost);
  sim::apply_reset(gpu);
  EXPECT_EQ(gpu.mode, GpuMode::healthy);
}

TEST(SimState, XidsOfAProcessLeaveTheGpuHealthy) {
  for (unsigned xid : {13U, 31U, 43U, 45U, 154U}) {
    sim::Gpu gpu;
    sim::apply_xid(gpu, xid);
    EXPECT_EQ(gpu.mode, GpuMode::healthy) << xid;
    EXPECT_EQ(gpu.last_xid, xid);
  }
}

TEST(SimState, RefusesWhatIsNoFault) {
  std::string problem;
  for (const char* text :
       {"", "hang", "hang:f", "hang:f:soon", "hang:f:10", "slow::10ms", "fail:f:x", "crash:f:1"}) {
    EXPECT_FALSE(sim::parse_fault(text, problem)) << text;
  }
  EXPECT_EQ(sim::parse_fault("hang:f:10s", problem)->value, 10'000);
  EXPECT_EQ(sim::parse_fault("hang:f:forever", problem)->value, -1);
}

TEST(SimState, BytesHaveUnits) {
  EXPECT_EQ(sim::parse_bytes("80GB"), 80'000'000'000ULL);
  EXPECT_EQ(sim::parse_bytes("80GiB"), 80ULL << 30);
  EXPECT_EQ(sim::parse_bytes("123"), 123ULL);
  EXPECT_FALSE(sim::parse_bytes("80 potatoes"));
  EXPECT_FALSE(sim::parse_bytes("99999999999TB"));
}

TEST(SimFiles, TwoWritersLoseNothing) {
  Machine machine(2);
  auto count_up = [&machine](unsigned gpu) {
    for (int i = 0; i < 50; ++i) machine.change(gpu, [](sim::Gpu& each) { ++each.corrected_errors; });
  };
  std::thread other(count_up, 1);
  count_up(0);
  other.join();
  EXPECT_EQ(machine.state().gpus[0].corrected_errors, 50U);
  EXPECT_EQ(machine.state().gpus[1].corrected_errors, 50U);
}

TEST(SimFiles, StateIsFoundByItsFolderAndByItsPath) {
  Machine machine(1);
  EXPECT_EQ(sim::folder_of(machine.path()).state(), machine.path() + "/state");
  EXPECT_EQ(sim::folder_of(machine.path() + "/state").state(), machine.path() + "/state");
}

class GpuSim : public ::testing::Test {
 protected:
  Finished sim(std::vector<std::string> words) {
    words.insert(words.begin(), program("tutti-gpu-sim"));
    words.insert(words.begin() + 2, {"--state", folder_});
    return run(words);
  }
  sim::State state() const {
    std::string problem;
    auto loaded = sim::load_state({folder_}, problem);
    EXPECT_TRUE(loaded) << problem;
    return loaded.value_or(sim::State{});
  }
  ScratchFolder scratch_;
  std::string folder_ = scratch_.path() + "/made/on/demand";
};

TEST_F(GpuSim, MakesAMachineWithDeviceFiles) {
  ASSERT_EQ(sim({"init", "--gpus", "2", "--model", "H100", "--memory", "80GB", "--node", "n7"}).exit_code, 0);
  const sim::State made = state();
  ASSERT_EQ(made.gpus.size(), 2U);
  EXPECT_EQ(made.node, "n7");
  EXPECT_EQ(made.gpus[0].memory_bytes, 80'000'000'000ULL);
  EXPECT_TRUE(std::filesystem::is_regular_file(made.gpus[1].device_path));
  EXPECT_EQ(std::filesystem::status(made.gpus[1].device_path).permissions(), std::filesystem::perms(0666));
}

TEST_F(GpuSim, XidTripsAndResetHeals) {
  ASSERT_EQ(sim({"init", "--gpus", "4"}).exit_code, 0);
  EXPECT_EQ(sim({"xid", "--gpu", "3", "--xid", "79"}).exit_code, 0);
  EXPECT_EQ(state().gpus[3].mode, GpuMode::lost);
  std::ifstream log(folder_ + "/events");
  std::string line;
  ASSERT_TRUE(std::getline(log, line));
  const auto event = sim::parse_event(line);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->uuid, state().gpus[3].uuid);
  EXPECT_EQ(event->data, 79U);
  EXPECT_EQ(sim({"reset", "--gpu", "3"}).exit_code, 0);
  EXPECT_EQ(state().gpus[3].mode, GpuMode::healthy);
}

TEST_F(GpuSim, SetsModesAndLibraryFaults) {
  ASSERT_EQ(sim({"init"}).exit_code, 0);
  EXPECT_EQ(sim({"mode", "--gpu", "0", "--set", "reset_required"}).exit_code, 0);
  EXPECT_EQ(state().gpus[0].mode, GpuMode::reset_required);
  EXPECT_EQ(sim({"library", "--set", "hang:nvmlDeviceGetCount_v2:10s"}).exit_code, 0);
  EXPECT_EQ(state().faults.size(), 1U);
  EXPECT_EQ(sim({"library", "--set", "ok"}).exit_code, 0);
  EXPECT_TRUE(state().faults.empty());
  EXPECT_THAT(sim({"show"}).output, HasSubstr("mode = reset_required"));
}

TEST_F(GpuSim, RefusesWhatItCannotDo) {
  EXPECT_EQ(sim({"show"}).exit_code, 1) << "there is no machine yet";
  ASSERT_EQ(sim({"init", "--gpus", "2"}).exit_code, 0);
  EXPECT_EQ(sim({"xid", "--gpu", "2", "--xid", "79"}).exit_code, 1);
  EXPECT_EQ(sim({"mode", "--gpu", "0", "--set", "sleepy"}).exit_code, 1);
  EXPECT_EQ(sim({"library", "--set", "hang"}).exit_code, 1);
  EXPECT_EQ(sim({"init", "--gpus", "65"}).exit_code, 1);
}

}  // namespace
}  // namespace tutti::nvml::test
