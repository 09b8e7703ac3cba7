// The worker's own health, faults from the kernel log, inspections.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

using node::KernelFinding;
using testing::IsEmpty;
using testing::SizeIs;

KernelFinding xid(const std::string& pci, int number, std::int64_t at) {
  KernelFinding f;
  f.pci = pci;
  f.xid = number;
  f.boot_us = at;
  f.detail = "GPU has fallen off the bus.";
  return f;
}

TEST(Conditions, AreSaidInFullAfterEachChangeAndWithEachHello) {
  Bench b;
  b.connect();
  b.core.on_condition(b.now, "disk_full", "/tmp", "0 bytes are free");
  b.core.on_condition(b.now, "link_down", "eth0", "eth0 is down");
  auto said = b.sent<NodeHealth>();
  ASSERT_THAT(said, SizeIs(2));
  ASSERT_THAT(said[1].conditions, SizeIs(2));
  EXPECT_EQ(said[1].conditions[0].kind, "disk_full");
  EXPECT_EQ(said[1].conditions[0].subject, "/tmp");
  b.core.on_condition(b.now, "disk_full", "/tmp", "1 byte is free");
  EXPECT_THAT(b.sent<NodeHealth>(), IsEmpty()) << "another detail is no news";
  b.advance(seconds(3));
  b.core.on_disconnected(b.now);
  b.core.on_condition_over(b.now, "link_down", "eth0");
  b.sent<Hello>();
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>();
  ASSERT_THAT(hello, SizeIs(1));
  ASSERT_TRUE(hello[0].health);
  ASSERT_THAT(hello[0].health->conditions, SizeIs(1));
  EXPECT_EQ(hello[0].health->conditions[0].detail, "1 byte is free");
  EXPECT_EQ(hello[0].health->conditions[0].age_us, 3'000'000);
}

TEST(Conditions, OfTheDriverFollowTheProbe) {
  Bench b;
  b.connect();
  nvml::Unavailable gone;
  gone.reason = "cannot load NVML: libnvidia-ml.so.1: file too short";
  b.core.on_probe(b.now, gone);
  EXPECT_TRUE(b.core.conditions().holds("nvml_missing", "")) << "perhaps a machine without GPUs";
  EXPECT_EQ(b.core.conditions().why_closed(), "");
  gone.reason = "driver/library version mismatch (18)";
  gone.code = 18;
  b.core.on_probe(b.now, gone);
  EXPECT_TRUE(b.core.conditions().holds("driver_mismatch", ""));
  gone.code = 9;
  b.core.on_probe(b.now, gone);
  EXPECT_TRUE(b.core.conditions().holds("nvml_unavailable", ""));
  EXPECT_FALSE(b.core.conditions().holds("driver_mismatch", ""));
  b.gpus(1);
  EXPECT_TRUE(b.core.conditions().all().empty());
  b.core.on_probe(b.now, nvml::Unavailable{"cannot load NVML", {}});
  EXPECT_TRUE(b.core.conditions().holds("nvml_unavailable", "")) << "it has GPUs";
  b.gpus(1);
  nvml::Fault fabric;
  fabric.uuid = "GPU-0";
  fabric.kind = nvml::FaultKind::fabric_not_ready;
  b.core.on_probe(b.now, fabric);
  EXPECT_TRUE(b.core.conditions().holds("fabric_not_ready", "GPU-0"));
  b.core.on_probe(b.now, nvml::Recovered{"GPU-0", "", nvml::FaultKind::fabric_not_ready, 0});
  EXPECT_TRUE(b.core.conditions().all().empty());
}

// Row C' of the fault table: no new work, and nothing that runs is touched.
TEST(Conditions, AProbeThatHangsClosesTheNodeAndStopsNothing) {
  Bench b;
  b.connect();
  b.gpus(2);
  b.start(kFirst, {"GPU-0"});
  b.take<TellSupervisor>();
  b.core.on_probe_hung(b.now, "NVML hangs", false);
  b.core.on_probe_lost(b.now);
  const auto said = b.sent<NodeHealth>();
  ASSERT_THAT(said, SizeIs(1));
  EXPECT_EQ(said[0].conditions[0].kind, "probe_hangs");
  b.advance(seconds(1));
  b.core.on_probe_hung(b.now, "NVML hangs, 3 times in a row", true);
  EXPECT_THAT(b.take<TellSupervisor>(), IsEmpty());
  EXPECT_EQ(b.core.find(kFirst)->phase, Phase::running);
  b.core.on_probe(b.now, nvml::Alive{});
  EXPECT_THAT(b.sent<NodeHealth>().back().conditions, IsEmpty());
}

TEST(Incidents, AreToldOnceAndAStormOfOneKindIsCounted) {
  Bench b;
  for (int i = 0; i < 1000; ++i) b.core.on_incident(b.now, "pcie_error", "corrected");
  b.connect();
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{b.sent<Heartbeat>().at(0).seq});
  const auto hello = b.sent<Hello>();
  ASSERT_THAT(hello[0].health->incidents, SizeIs(1));
  EXPECT_EQ(hello[0].health->incidents[0].detail, "corrected (and 999 more)");
  b.core.on_disconnected(b.now);
  b.core.on_connected(b.now);
  EXPECT_THAT(b.sent<Hello>()[0].health->incidents, IsEmpty());
}

// What comes within ten seconds of one that has been told is told after them.
TEST(Incidents, AreNeverLostUncounted) {
  Bench b;
  b.connect();
  b.core.on_incident(b.now, "oom_kill", "first");
  b.sent<NodeHealth>();
  b.advance(seconds(1));
  b.core.on_incident(b.now, "oom_kill", "second");
  b.core.on_incident(b.now, "oom_kill", "third");
  b.core.on_incident(b.now, "link_flap", "another kind");
  auto said = b.sent<NodeHealth>();
  ASSERT_THAT(said, SizeIs(1));
  ASSERT_THAT(said[0].incidents, SizeIs(1));
  EXPECT_EQ(said[0].incidents[0].kind, "link_flap");
  b.advance(seconds(9));
  said = b.sent<NodeHealth>();
  ASSERT_THAT(said, SizeIs(1));
  ASSERT_THAT(said[0].incidents, SizeIs(1));
  EXPECT_EQ(said[0].incidents[0].detail, "third (and 1 more)");
  EXPECT_EQ(said[0].incidents[0].age_us, 9'000'000);
  b.advance(seconds(20));
  EXPECT_THAT(b.sent<NodeHealth>(), IsEmpty());
}

TEST(Conditions, OfTheFabricEndWithTheProbeThatFoundThem) {
  Bench b;
  b.connect();
  b.gpus(2);
  nvml::Fault fabric;
  fabric.uuid = "GPU-0";
  fabric.kind = nvml::FaultKind::fabric_not_ready;
  b.core.on_probe(b.now, fabric);
  fabric.uuid = "GPU-1";
  b.core.on_probe(b.now, fabric);
  b.core.on_probe_lost(b.now);
  b.sent<NodeHealth>();
  b.gpus(2);
  EXPECT_TRUE(b.core.conditions().all().empty()) << "nobody would ever tell its end";
  EXPECT_THAT(b.sent<NodeHealth>(), SizeIs(1));
}

TEST(KernelFaults, WaitForTheFirstInventory) {
  Bench b;
  b.connect();
  const auto at = b.now.mono.time_since_epoch().count();
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, at));
  EXPECT_THAT(b.sent<GpuFault>(), IsEmpty());
  EXPECT_TRUE(b.core.holds_faults());
  b.advance(seconds(2));
  b.gpus(2);
  const auto faults = b.sent<GpuFault>();
  ASSERT_THAT(faults, SizeIs(1));
  EXPECT_EQ(faults[0].uuid, "GPU-1");
  EXPECT_EQ(faults[0].age_us, 2'000'000);
}

TEST(KernelFaults, OfAMachineWhoseGpusCannotBeReadAreIncidents) {
  Bench b;
  b.connect();
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, 1));
  b.core.on_probe(b.now, nvml::Unavailable{"driver/library version mismatch", 18});
  const auto said = b.sent<NodeHealth>();
  EXPECT_TRUE(std::ranges::any_of(said, [](const NodeHealth& h) { return !h.incidents.empty(); }));
  EXPECT_FALSE(b.core.holds_faults());
}

// Said into a connection that was dying; only the answer to a later heartbeat proves that it arrived.
TEST(Faults, AreSaidAgainUntilTheirArrivalIsProven) {
  Bench b;
  b.connect();
  b.gpus(2);
  nvml::Fault f;
  f.uuid = "GPU-1";
  f.kind = nvml::FaultKind::xid;
  f.xid = 79;
  f.boot_us = b.now.mono.time_since_epoch().count();
  b.core.on_probe(b.now, f);
  EXPECT_THAT(b.sent<GpuFault>(), SizeIs(1));
  auto beats = b.sent<Heartbeat>();
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{beats.back().seq});
  EXPECT_TRUE(b.core.holds_faults()) << "that heartbeat was sent before it";
  b.core.on_disconnected(b.now);
  b.advance(seconds(3));
  b.connect();
  auto again = b.sent<GpuFault>();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].age_us, 3'000'000) << "by which the scheduler knows it again";
  beats = b.sent<Heartbeat>();
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{beats.back().seq});
  EXPECT_FALSE(b.core.holds_faults());
  b.core.on_disconnected(b.now);
  b.connect();
  EXPECT_THAT(b.sent<GpuFault>(), IsEmpty());
}

TEST(KernelFaults, BecomeTheSameMessageAsNvmls) {
  Bench b;
  b.connect();
  b.gpus(2);
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, b.now.mono.time_since_epoch().count() - 2'000));
  const auto faults = b.sent<GpuFault>();
  ASSERT_THAT(faults, SizeIs(1));
  EXPECT_EQ(faults[0].uuid, "GPU-1");
  EXPECT_EQ(faults[0].kind, "xid");
  EXPECT_EQ(faults[0].xid, 79);
  EXPECT_EQ(faults[0].age_us, 2'000) << "by the record's own time";
  EXPECT_THAT(faults[0].detail, HasSubstr("kernel log"));
  EXPECT_FALSE(b.core.gpus().why_unhealthy("GPU-1").empty());
}

TEST(KernelFaults, AndNvmlsAreOne) {
  Bench b;
  b.connect();
  b.gpus(2);
  const auto at = b.now.mono.time_since_epoch().count();
  nvml::Fault f;
  f.uuid = "GPU-1";
  f.kind = nvml::FaultKind::xid;
  f.xid = 79;
  f.boot_us = at;
  b.core.on_probe(b.now, f);
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, at - 1'000));
  EXPECT_THAT(b.sent<GpuFault>(), SizeIs(1));
  b.advance(seconds(6));
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, at + 6'000'000));
  EXPECT_THAT(b.sent<GpuFault>(), SizeIs(1)) << "a new one";
}

TEST(KernelFaults, OfUnknownNumbersAndForeignGpusAreTold) {
  Bench b;
  b.connect();
  b.gpus(1);
  b.core.on_kernel_finding(b.now, xid("0000:00:00", 997, 1));
  EXPECT_EQ(b.sent<GpuFault>().at(0).xid, 997);
  b.core.on_kernel_finding(b.now, xid("0000:99:00", 79, 1));
  EXPECT_THAT(b.sent<GpuFault>(), IsEmpty());
  EXPECT_THAT(b.sent<NodeHealth>().at(0).incidents.at(0).detail, HasSubstr("no GPU of ours"));
}

TEST(KernelFaults, OfAnNvswitchAreAConditionForTenMinutes) {
  Bench b;
  b.connect();
  KernelFinding f;
  f.kind = KernelFinding::Kind::sxid;
  f.xid = 24007;
  f.fatal = true;
  b.core.on_kernel_finding(b.now, f);
  EXPECT_TRUE(b.core.conditions().holds("nvswitch_fatal", ""));
  b.advance(seconds(599));
  EXPECT_TRUE(b.core.conditions().holds("nvswitch_fatal", ""));
  b.advance(seconds(2));
  EXPECT_FALSE(b.core.conditions().holds("nvswitch_fatal", ""));
}

// A worker that starts while NVML hangs and something of its former life runs here.
TEST(RememberedGpus, AreToldAndGivenToNobody) {
  Bench b;
  nvml::Inventory last;
  last.driver = "550";
  last.gpus.emplace_back().uuid = "GPU-0";
  b.core.remember_gpus(last);
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>();
  ASSERT_THAT(hello.at(0).gpus, SizeIs(1));
  EXPECT_EQ(hello[0].driver, "550");
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {}, {}});
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("GPUs cannot be read now"));
}

// ---------------------------------------------------------------- inspections

TEST(Inspection, RunsOnceAtATimeAndItsReportIsToldAgainAfterAHello) {
  Bench b;
  b.connect();
  b.core.on_inspect(b.now, Inspect{3, "person"});
  b.core.on_inspect(b.now, Inspect{4, "failure"});
  ASSERT_THAT(b.take<RunInspection>(), SizeIs(1));
  InspectionReport report;
  report.request = 3;
  report.checks.push_back({"disk /tmp", "host", "ok", "", 5'000'000, 1'000});
  b.core.on_inspection(b.now, report, b.now.wall, false);
  EXPECT_THAT(b.sent<InspectionReport>(), SizeIs(1));
  b.advance(seconds(5));
  b.core.on_disconnected(b.now);
  b.core.on_connected(b.now);
  const auto again = b.sent<InspectionReport>();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].age_us, 5'000'000);
  b.core.on_inspect(b.now, Inspect{5, "idle"});
  EXPECT_THAT(b.take<RunInspection>(), SizeIs(1));
}

TEST(Inspection, ShowsEachGpuAndWhatIsWrongWithTheNode) {
  Bench b;
  const auto none = b.core.check_gpus();
  ASSERT_THAT(none, SizeIs(1));
  EXPECT_EQ(none[0].result, "skipped");
  b.connect();
  b.gpus(2);
  b.core.on_kernel_finding(b.now, xid("0000:01:00", 79, 1));
  b.core.on_condition(b.now, "link_down", "eth0", "eth0 is down");
  const auto checks = b.core.check_gpus();
  ASSERT_THAT(checks, SizeIs(4));
  EXPECT_EQ(checks[0].result, "ok");
  EXPECT_EQ(checks[1].result, "ok");
  EXPECT_EQ(checks[2].result, "failed");
  EXPECT_THAT(checks[2].detail, HasSubstr("Xid 79"));
  EXPECT_EQ(checks[3].name, "link_down eth0");
}

}  // namespace
}  // namespace tutti::worker
