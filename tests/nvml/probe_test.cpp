// The probe as the worker meets it: a process on a pair of pipes, over a simulated machine that is broken
// while it runs.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/nvml/child.h"
#include "tests/nvml/machine.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::nvml::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Clock = std::chrono::steady_clock;

constexpr Milliseconds kPatience{20'000};  // far above what is needed, below the test's own limit

class ProbeProcess : public ::testing::Test {
 protected:
  void start(std::vector<std::string> options = {"--poll-ms", "100"}) {
    start_with(double_library(), std::move(options));
  }
  void start_with(const std::string& library, std::vector<std::string> options = {"--poll-ms", "100"}) {
    std::vector<std::string> command = {program("tutti-nvml-probe"), "--library", library};
    command.insert(command.end(), options.begin(), options.end());
    probe_ = std::make_unique<Child>(command);
  }
  void sim(std::vector<std::string> words) {
    words.insert(words.begin(), program("tutti-gpu-sim"));
    words.insert(words.begin() + 2, {"--state", machine_.path()});
    ASSERT_EQ(run(words).exit_code, 0);
  }
  std::optional<Message> next(Milliseconds timeout) {
    const auto line = probe_->read_line(timeout);
    if (!line) return std::nullopt;
    auto parsed = parse_message(*line);
    if (auto* error = std::get_if<ParseError>(&parsed)) {
      ADD_FAILURE() << error->why << ": " << *line;
      return std::nullopt;
    }
    return std::get<Message>(std::move(parsed));
  }
  // The first message of this type that satisfies the condition; those before it are passed over.
  template <class T>
  std::optional<T> await(
      const std::function<bool(const T&)>& condition = [](const T&) { return true; },
      Milliseconds timeout = kPatience) {
    const auto until = Clock::now() + timeout;
    while (Clock::now() < until) {
      const auto message = next(std::chrono::ceil<Milliseconds>(until - Clock::now()));
      if (!message) return std::nullopt;
      if (const T* wanted = std::get_if<T>(&*message); wanted != nullptr && condition(*wanted))
        return *wanted;
    }
    return std::nullopt;
  }
  std::optional<Fault> await_fault(FaultKind kind) {
    return await<Fault>([kind](const Fault& fault) { return fault.kind == kind; });
  }
  // True when the probe falls silent for `gap`: what the worker's deadline would see.
  bool falls_silent(Milliseconds gap) {
    const auto until = Clock::now() + kPatience;
    while (Clock::now() < until) {
      if (!next(gap)) return !probe_->output_ended();
    }
    return false;
  }

  Machine machine_{4};
  std::unique_ptr<Child> probe_;
};

TEST_F(ProbeProcess, SaysFirstWhichGpusThereAre) {
  start();
  const auto first = next(kPatience);
  ASSERT_TRUE(first && std::holds_alternative<Inventory>(*first));
  const auto& inventory = std::get<Inventory>(*first);
  EXPECT_TRUE(inventory.simulated);
  ASSERT_THAT(inventory.gpus, SizeIs(4));
  EXPECT_EQ(inventory.gpus[2].uuid, machine_.uuid(2));
  EXPECT_EQ(inventory.gpus[2].device_path, machine_.state().gpus[2].device_path);
  EXPECT_EQ(inventory.unidentified, 0U);
  EXPECT_TRUE(await<Alive>());
}

TEST_F(ProbeProcess, TellsAnXidAtOnceAndThenThatTheGpuIsLost) {
  start({"--poll-ms", "5000"});
  ASSERT_TRUE(await<Alive>());
  const auto injected = Clock::now();
  sim({"xid", "--gpu", "3", "--xid", "79"});
  const auto xid = await_fault(FaultKind::xid);
  ASSERT_TRUE(xid);
  EXPECT_EQ(xid->uuid, machine_.uuid(3));
  EXPECT_EQ(xid->pci, "0000:5d:00");
  EXPECT_EQ(xid->xid, 79U);
  EXPECT_LE(xid->boot_us, boot_us());
  const auto lost = await_fault(FaultKind::gpu_lost);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->uuid, machine_.uuid(3));
  EXPECT_LT(Clock::now() - injected, std::chrono::milliseconds(4000)) << "it waited for the next poll";
}

TEST_F(ProbeProcess, GoesOnWithTheOthersAfterOneIsLost) {
  start({"--poll-ms", "100", "--sample-ms", "100"});
  ASSERT_TRUE(await<Alive>());
  sim({"xid", "--gpu", "0", "--xid", "79"});
  ASSERT_TRUE(await_fault(FaultKind::gpu_lost));
  const auto sample = await<Sample>();
  ASSERT_TRUE(sample);
  EXPECT_THAT(sample->gpus, SizeIs(3));
  sim({"xid", "--gpu", "1", "--xid", "31"});
  const auto xid = await_fault(FaultKind::xid);
  ASSERT_TRUE(xid);
  EXPECT_EQ(xid->uuid, machine_.uuid(1));
}

TEST_F(ProbeProcess, FindsALossWithoutAnyEventAndItsEnd) {
  start();
  ASSERT_TRUE(await<Alive>());
  sim({"mode", "--gpu", "2", "--set", "lost"});
  const auto lost = await_fault(FaultKind::gpu_lost);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->uuid, machine_.uuid(2));
  sim({"reset", "--gpu", "2"});
  const auto recovered = await<Recovered>();
  ASSERT_TRUE(recovered);
  EXPECT_EQ(recovered->uuid, machine_.uuid(2));
  EXPECT_EQ(recovered->kind, FaultKind::gpu_lost);
  sim({"xid", "--gpu", "2", "--xid", "13"});
  const auto xid = await_fault(FaultKind::xid);
  ASSERT_TRUE(xid) << "its events are heard again";
  EXPECT_EQ(xid->uuid, machine_.uuid(2));
}

TEST_F(ProbeProcess, TellsResetRequiredAndEccOnce) {
  start({"--poll-ms", "100", "--sample-ms", "100"});
  ASSERT_TRUE(await<Alive>());
  sim({"xid", "--gpu", "1", "--xid", "48"});
  const auto ecc = await_fault(FaultKind::ecc);
  ASSERT_TRUE(ecc);
  EXPECT_EQ(ecc->uuid, machine_.uuid(1));
  sim({"xid", "--gpu", "1", "--xid", "95"});
  ASSERT_TRUE(await_fault(FaultKind::reset_required));
  for (int polls = 0; polls < 15;) {
    const auto message = next(kPatience);
    ASSERT_TRUE(message);
    if (std::holds_alternative<Alive>(*message)) ++polls;
    const auto* fault = std::get_if<Fault>(&*message);
    if (fault != nullptr) {
      EXPECT_NE(fault->kind, FaultKind::reset_required) << "told twice";
    }
    const auto* recovered = std::get_if<Recovered>(&*message);
    if (recovered != nullptr) {
      EXPECT_NE(recovered->kind, FaultKind::ecc) << "unreadable is not healed";
    }
  }
}

TEST_F(ProbeProcess, TellsWhatIsOnlyWatchedAndItsEnd) {
  start({"--poll-ms", "100", "--sample-ms", "100", "--deep-ms", "100"});
  ASSERT_TRUE(await<Sample>());
  const std::pair<const char*, FaultKind> modes[] = {{"throttled", FaultKind::throttled},
                                                     {"pcie_degraded", FaultKind::pcie_degraded},
                                                     {"fabric_not_ready", FaultKind::fabric_not_ready},
                                                     {"remap_pending", FaultKind::remap_pending},
                                                     {"remap_failed", FaultKind::remap_failed},
                                                     {"link_down", FaultKind::nvlink_down}};
  for (const auto& [mode, kind] : modes) {
    sim({"mode", "--gpu", "1", "--set", mode});
    const auto fault = await_fault(kind);
    ASSERT_TRUE(fault) << mode;
    EXPECT_EQ(fault->uuid, machine_.uuid(1));
    EXPECT_FALSE(fault->detail.empty());
    sim({"mode", "--gpu", "1", "--set", "healthy"});
    ASSERT_TRUE(await<Recovered>([kind](const Recovered& r) { return r.kind == kind; })) << mode;
  }
}

// An idle GPU lowers the generation of its link to save power: that says nothing about what it does under
// load.
TEST_F(ProbeProcess, ASlowLinkHoldsUntilTheGpuIsBusyAgain) {
  start({"--poll-ms", "50", "--sample-ms", "50", "--deep-ms", "10"});
  ASSERT_TRUE(await<Sample>());
  const std::string device = machine_.state().gpus[1].device_path;
  const auto rank = [&] {
    auto child = std::make_unique<Child>(
        std::vector<std::string>{"/bin/sh", "-c", "exec 9<'" + device + "'; echo ready; read line"});
    EXPECT_EQ(child->read_line(kPatience), "ready");
    return child;
  };
  sim({"mode", "--gpu", "1", "--set", "pcie_slow"});
  auto busy = rank();
  const auto fault = await_fault(FaultKind::pcie_degraded);
  ASSERT_TRUE(fault);
  EXPECT_THAT(fault->detail, HasSubstr("PCIe generation 1 of"));
  busy->kill(SIGKILL);
  ASSERT_TRUE(busy->wait(kPatience));
  for (int samples = 0; samples < 10;) {  // each with a deep look
    const auto message = next(kPatience);
    ASSERT_TRUE(message);
    if (std::holds_alternative<Sample>(*message)) ++samples;
    EXPECT_FALSE(std::holds_alternative<Recovered>(*message)) << "nobody used it meanwhile";
    EXPECT_FALSE(std::holds_alternative<Fault>(*message));
  }
  sim({"mode", "--gpu", "1", "--set", "healthy"});
  busy = rank();
  EXPECT_TRUE(await<Recovered>([](const Recovered& r) { return r.kind == FaultKind::pcie_degraded; }));
}

// A link that went down with the probe: the next one has never seen it up.
TEST_F(ProbeProcess, KnowsFromAnEarlierProbeWhichLinksWereUp) {
  start({"--poll-ms", "100", "--sample-ms", "100", "--deep-ms", "10"});
  std::uint64_t up = 0;
  ASSERT_TRUE(await<Sample>([&](const Sample& s) {
    up = s.gpus.at(1).links_up.value_or(0);
    return up != 0;
  }));
  probe_.reset();
  sim({"mode", "--gpu", "1", "--set", "link_down"});
  start({"--poll-ms", "100", "--links-up", machine_.uuid(1) + "=" + std::to_string(up)});
  const auto fault = await_fault(FaultKind::nvlink_down);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->uuid, machine_.uuid(1));
}

TEST_F(ProbeProcess, TellsEachActionThatTheDriverRecommends) {
  start({"--poll-ms", "100"});
  ASSERT_TRUE(await<Alive>());
  sim({"mode", "--gpu", "0", "--set", "ecc"});
  EXPECT_TRUE(await_fault(FaultKind::drain_required));
  sim({"mode", "--gpu", "1", "--set", "link_down"});
  EXPECT_TRUE(await_fault(FaultKind::reset_required));
}

TEST_F(ProbeProcess, AnswersWhoUsesAGpu) {
  start();
  ASSERT_TRUE(await<Alive>());
  const std::string device = machine_.state().gpus[1].device_path;
  Child rank({"/bin/sh", "-c", "exec 9<'" + device + "'; echo ready; read line"});
  ASSERT_EQ(rank.read_line(kPatience), "ready");
  probe_->write_line(encode(ProcessesCommand{machine_.uuid(1), 7}));
  const auto used = await<Processes>();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, 7);
  EXPECT_EQ(used->pids, std::vector<unsigned>{static_cast<unsigned>(rank.pid())});
  rank.kill(SIGKILL);
  ASSERT_TRUE(rank.wait(kPatience));
  probe_->write_line(encode(ProcessesCommand{machine_.uuid(1), 8}));
  const auto free = await<Processes>();
  ASSERT_TRUE(free && free->pids);
  EXPECT_EQ(free->id, 8);
  EXPECT_THAT(*free->pids, IsEmpty());
  EXPECT_LT(free->memory_used_bytes, used->memory_used_bytes);
}

TEST_F(ProbeProcess, DoesNotCallALostGpuFree) {
  machine_.set_mode(3, sim::GpuMode::healthy);
  start();
  ASSERT_TRUE(await<Alive>());
  sim({"xid", "--gpu", "3", "--xid", "79"});
  ASSERT_TRUE(await_fault(FaultKind::gpu_lost));
  probe_->write_line(encode(ProcessesCommand{machine_.uuid(3), 1}));
  const auto lost = await<Processes>();
  ASSERT_TRUE(lost);
  EXPECT_FALSE(lost->pids.has_value());
  EXPECT_THAT(lost->error, HasSubstr("GPU is lost"));
  probe_->write_line("this is no command");
  probe_->write_line(encode(ProcessesCommand{"GPU-unheard-of", 2}));
  const auto unknown = await<Processes>();
  ASSERT_TRUE(unknown);
  EXPECT_EQ(unknown->id, 2);
  EXPECT_FALSE(unknown->pids.has_value());
}

TEST_F(ProbeProcess, FallsSilentWhenAPollHangsAndStillEndsWithItsInput) {
  start();
  ASSERT_TRUE(await<Alive>());
  sim({"library", "--set", "hang:nvmlDeviceGetTemperature:forever"});
  EXPECT_TRUE(falls_silent(Milliseconds(1500)));
  probe_->close_input();
  const auto status = probe_->wait(kPatience);
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status));
}

TEST_F(ProbeProcess, FallsSilentWhenOnlyTheEventWaitHangs) {
  start({"--poll-ms", "100", "--event-stall-ms", "1500"});
  ASSERT_TRUE(await<Alive>());
  sim({"library", "--set", "hang:nvmlEventSetWait_v2:forever"});
  const auto until = Clock::now() + kPatience;
  bool silent = false;
  while (!silent && Clock::now() < until)
    silent = !await<Alive>([](const Alive&) { return true; }, Milliseconds(1000));
  EXPECT_TRUE(silent);
  EXPECT_FALSE(probe_->output_ended());
}

TEST_F(ProbeProcess, SurvivesAMissingDriverAndComesBackWithIt) {
  machine_.misbehave("driver_not_loaded");
  start({"--poll-ms", "100", "--retry-ms", "100"});
  const auto unavailable = await<Unavailable>();
  ASSERT_TRUE(unavailable);
  EXPECT_EQ(unavailable->code, 9);
  EXPECT_TRUE(await<Alive>()) << "it lives on";
  sim({"library", "--set", "ok"});
  EXPECT_TRUE(await<Inventory>());
  sim({"library", "--set", "version_mismatch"});
  const auto mismatch = await<Unavailable>();
  ASSERT_TRUE(mismatch);
  EXPECT_EQ(mismatch->code, 18);
}

TEST_F(ProbeProcess, SaysWhyTheLibraryCannotBeLoaded) {
  start_with("/nonexistent/libnvidia-ml.so.1");
  const auto unavailable = await<Unavailable>();
  ASSERT_TRUE(unavailable);
  EXPECT_THAT(unavailable->reason, HasSubstr("No such file"));
  EXPECT_FALSE(unavailable->code.has_value());
  EXPECT_TRUE(await<Alive>());
}

TEST_F(ProbeProcess, WorksWithAnOldDriver) {
  start_with(old_double_library());
  const auto inventory = await<Inventory>();
  ASSERT_TRUE(inventory);
  EXPECT_THAT(inventory->gpus, SizeIs(4));
  EXPECT_THAT(inventory->capabilities, IsEmpty());
  sim({"mode", "--gpu", "1", "--set", "lost"});
  const auto lost = await_fault(FaultKind::gpu_lost);
  ASSERT_TRUE(lost) << "found by polling alone";
  EXPECT_EQ(lost->uuid, machine_.uuid(1));
  probe_->write_line(encode(ProcessesCommand{machine_.uuid(0), 1}));
  const auto answer = await<Processes>();
  ASSERT_TRUE(answer);
  EXPECT_FALSE(answer->pids.has_value()) << "what cannot be asked is not proven";
}

TEST_F(ProbeProcess, CrashInTheLibraryEndsOnlyTheProbe) {
  start();
  ASSERT_TRUE(await<Alive>());
  sim({"library", "--set", "crash:nvmlDeviceGetCount_v2"});
  const auto status = probe_->wait(kPatience);
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFSIGNALED(*status));
}

TEST_F(ProbeProcess, EndsWhenItsInputEnds) {
  start();
  ASSERT_TRUE(await<Alive>());
  probe_->close_input();
  const auto status = probe_->wait(kPatience);
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0);
}

TEST_F(ProbeProcess, DiesWithAParentThatWasKilled) {
  // The shell is its parent; its input is ours and stays open, so only the kernel's signal can end it.
  Child parent({"/bin/sh", "-c",
                "exec 3<&0; '" + program("tutti-nvml-probe") + "' --library '" + double_library() +
                    "' --poll-ms 100 <&3 3<&- & wait"});
  ASSERT_TRUE(parent.read_line(kPatience)) << "the probe did not start";
  parent.kill(SIGKILL);
  const auto until = Clock::now() + kPatience;
  while (!parent.output_ended() && Clock::now() < until) parent.read_line(Milliseconds(1000));
  EXPECT_TRUE(parent.output_ended()) << "the probe outlived its parent";
}

TEST_F(ProbeProcess, TwoReadersOfOneMachineEachHearTheXid) {
  start();
  ASSERT_TRUE(await<Alive>());
  auto first = std::move(probe_);
  start();
  ASSERT_TRUE(await<Alive>());
  sim({"xid", "--gpu", "0", "--xid", "31"});
  EXPECT_TRUE(await_fault(FaultKind::xid));
  probe_ = std::move(first);
  EXPECT_TRUE(await_fault(FaultKind::xid));
}

}  // namespace
}  // namespace tutti::nvml::test
