// Every form in which drivers and the kernel report faults, and everything that only looks like one.
#include "worker/node/kernel_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "worker/node/fault_pairs.h"
#include "worker/node/kernel_ring.h"

namespace tutti::node {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Kind = KernelFinding::Kind;

KernelRecord line(std::string text, std::int64_t boot_us = 5'000'000) {
  KernelRecord r;
  r.boot_us = boot_us;
  r.text = std::move(text);
  return r;
}
std::optional<KernelFinding> read(std::string text) {
  KernelLogParser parser;
  return parser.take(line(std::move(text)));
}

TEST(KernelRecords, AreFramedWithPriorityNumberTimeAndContinuation) {
  const auto r = parse_record("11,1234,98765432,-;NVRM: hello\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->priority, 3) << "facility 1, level 3";
  EXPECT_EQ(r->number, 1234U);
  EXPECT_EQ(r->boot_us, 98'765'432);
  EXPECT_EQ(r->text, "NVRM: hello");
}

// Whoever may write to /dev/kmsg could close a node; the kernel never lets him have facility 0.
TEST(KernelRecords, OfUserSpaceSayNothing) {
  KernelLogParser parser;
  auto r = parse_record("12,1,2,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->facility, 1U);
  EXPECT_FALSE(parser.take(*r));
  EXPECT_FALSE(parser.take(*parse_record("30,1,2,-;Out of memory: Killed process 1 (x)")));
  r = parse_record("4,1,2,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.");
  EXPECT_TRUE(parser.take(*r));
}

TEST(KernelRecords, OfASliceNameItsGpu) {
  const auto f = read("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=4711, name=python, Contained: SM (0x1)");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->pci, "0000:01:00");
  EXPECT_EQ(f->xid, 94);
  const auto instance = read("NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 43, pid=4711");
  ASSERT_TRUE(instance);
  EXPECT_EQ(instance->pci, "0000:01:00");
}

TEST(KernelRecords, MayHaveFieldsOfALaterKernelAndEscapedBytes) {
  const auto r = parse_record("6,1,2,c,caller=T12;a\\x0ab \\x5c \\xzz");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->text, "a b \\ \\xzz");
}

TEST(KernelRecords, ThatAreNoneGiveNothing) {
  for (const char* text : {"", ";", "6", "6,1;x", "6,1,;x", "a,b,c,-;x", "6,1,-5,-;x", "6,1,2x;x",
                           " continued", "99999999999999999999,1,1,-;x"})
    EXPECT_FALSE(parse_record(text)) << text;
}

TEST(PciAddress, HasOneFormWhateverItCameIn) {
  for (const char* text : {"PCI:0000:3b:00", "0000:3B:00", "0000:3b:00.0", "00000000:3B:00.0"})
    EXPECT_EQ(normal_pci(text), "0000:3b:00") << text;
  EXPECT_EQ(normal_pci("0018:01:00"), "0018:01:00");
  EXPECT_EQ(normal_pci("00010000:01:00.0"), "00010000:01:00");
  for (const char* text :
       {"", "3b:00.0", "0000:3b", "0000:3b:00.0.1", "0000:xx:00", "0000:3b:00 ", "000000000:3b:00"})
    EXPECT_FALSE(normal_pci(text)) << text;
}

TEST(Xid, IsReadInTheCurrentAndTheOldForm) {
  const auto now =
      read("NVRM: Xid (PCI:0000:3b:00): 31, pid=4242, name=python, Ch 00000008, intr 10000000. MMU Fault");
  ASSERT_TRUE(now);
  EXPECT_EQ(now->kind, Kind::xid);
  EXPECT_EQ(now->xid, 31);
  EXPECT_EQ(now->pci, "0000:3b:00");
  EXPECT_EQ(now->boot_us, 5'000'000);
  EXPECT_THAT(now->detail, HasSubstr("pid=4242"));
  const auto unknown =
      read("NVRM: Xid (PCI:0000:3b:00): 48, pid='<unknown>', name=<unknown>, An uncorrectable error");
  ASSERT_TRUE(unknown);
  EXPECT_EQ(unknown->xid, 48);
  const auto old = read("NVRM: Xid (0000:3b:00): 13, Graphics Exception");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->xid, 13);
  EXPECT_EQ(old->pci, "0000:3b:00");
}

TEST(Xid, CountsOnlyWithTheDriversPrefix) {
  for (const char* text :
       {"Xid (PCI:0000:3b:00): 79, x", "docker: container Xid (PCI:0000:3b:00): 79 started",
        "audit: NVRM: Xid (PCI:0000:3b:00): 79, x", "NVRM: Xid 79", "NVRM: Xid (nonsense): 79, x",
        "NVRM: Xid (PCI:0000:3b:00): many, x", "NVRM: Xid (PCI:0000:3b:00): -3, x",
        "NVRM: Xid (PCI:0000:3b:00): 99999999999999, x", "NVRM: Xid (PCI:0000:3b:00",
        "NVRM: Xid (PCI:0000:3b:00): 79x", "NVRM: loading NVIDIA UNIX x86_64 Kernel Module"})
    EXPECT_FALSE(read(text)) << text;
}

TEST(Xid, ThatNobodyKnowsIsReadToo) {
  const auto f = read("NVRM: Xid (PCI:0000:3b:00): 997, something new");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->xid, 997);
}

TEST(Xid, OfNvlinkFiveHasItsSubcode) {
  const auto f =
      read("NVRM: Xid (PCI:0000:18:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 03 (0x004505c6 0x0 0x0)");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->xid, 149);
  EXPECT_EQ(f->subcode, (0x004505c6 >> 20) & 0x3F);
  const auto without = read("NVRM: Xid (PCI:0000:18:00): 145, RLW_CTRL Nonfatal");
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->subcode);
}

TEST(Xid, HundredFiftyFourNamesTheAction) {
  const auto f = read(
      "NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot "
      "Required)");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->action, "Node Reboot Required");
  const auto cut = read("NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x0 (None) to");
  ASSERT_TRUE(cut);
  EXPECT_THAT(cut->action, IsEmpty());
}

TEST(Xid, SixtyThreeKeepsWhatTheDriverSays) {
  const auto f = read(
      "NVRM: Xid (PCI:0000:18:00): 63, Row Remapper: New row marked for remapping, reset gpu to activate.");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->xid, 63);
  EXPECT_THAT(f->detail, HasSubstr("reset gpu to activate"));
}

TEST(OffTheBus, WithoutANumberIsSeventyNine) {
  const auto f = read("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->xid, 79);
  EXPECT_TRUE(f->deduced);
  EXPECT_EQ(f->pci, "0000:3b:00");
}

TEST(OffTheBus, MayComeInThreeLines) {
  KernelLogParser parser;
  EXPECT_FALSE(parser.take(line("NVRM: The NVIDIA GPU 0000:86:00.0 (PCI ID: 10de:2330)")));
  EXPECT_FALSE(parser.take(line("NVRM: installed in this system has")));
  EXPECT_FALSE(parser.take(line("usb 1-1: something between")));
  const auto f = parser.take(line("NVRM: fallen off the bus and is not responding to commands."));
  ASSERT_TRUE(f);
  EXPECT_EQ(f->xid, 79);
  EXPECT_EQ(f->pci, "0000:86:00");
}

TEST(OffTheBus, WithoutAnAddressIsNobodys) {
  KernelLogParser parser;
  EXPECT_FALSE(parser.take(line("NVRM: fallen off the bus and is not responding to commands.")));
  parser.take(line("NVRM: The NVIDIA GPU 0000:86:00.0 is fine"));
  for (int i = 0; i < 5; ++i) parser.take(line("NVRM: another line"));
  EXPECT_FALSE(parser.take(line("NVRM: fallen off the bus"))) << "the address was of another report";
}

TEST(OffTheBus, ToldInBothWaysIsOneLoss) {
  KernelLogParser parser;
  EXPECT_TRUE(parser.take(line("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", 1'000'000)));
  EXPECT_FALSE(parser.take(line("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", 1'000'100)));
  EXPECT_TRUE(parser.take(line("NVRM: Xid (PCI:0000:86:00): 79, GPU has fallen off the bus.", 1'000'200)));
  EXPECT_TRUE(parser.take(line("NVRM: Xid (PCI:0000:3b:00): 79, again.", 9'000'000)))
      << "another loss, later";
}

TEST(NvSwitch, IsFatalOrNot) {
  const auto fatal =
      read("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 44 sourcetrack timeout");
  ASSERT_TRUE(fatal);
  EXPECT_EQ(fatal->kind, Kind::sxid);
  EXPECT_EQ(fatal->xid, 24007);
  EXPECT_EQ(fatal->pci, "0000:c1:00");
  EXPECT_TRUE(fatal->fatal);
  const auto other = read("nvidia-nvswitch12: SXid (PCI:0000:c1:00.0): 22013, Non-fatal, Link 02 minion");
  ASSERT_TRUE(other);
  EXPECT_FALSE(other->fatal);
  EXPECT_FALSE(read("nvidia-nvswitch3: SXid is a word"));
}

TEST(OomKill, TellsTheNodeFromAJobsOwnLimit) {
  const auto node = read("Out of memory: Killed process 811 (python) total-vm:9kB, anon-rss:8kB, UID:0");
  ASSERT_TRUE(node);
  EXPECT_EQ(node->kind, Kind::oom_kill);
  EXPECT_TRUE(node->fatal);
  const auto group = read("Memory cgroup out of memory: Killed process 812 (python) total-vm:9kB");
  ASSERT_TRUE(group);
  EXPECT_FALSE(group->fatal);
  EXPECT_FALSE(read("systemd: Out of memory: Killed process 811")) << "somebody quotes it";
}

TEST(Aer, NamesTheDevice) {
  const auto f = read("pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:3b:00.0");
  ASSERT_TRUE(f);
  EXPECT_EQ(f->kind, Kind::aer);
  EXPECT_EQ(f->pci, "0000:00:01");
  EXPECT_TRUE(f->fatal);
  const auto corrected = read("nvidia 0000:3b:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer");
  ASSERT_TRUE(corrected);
  EXPECT_FALSE(corrected->fatal);
  EXPECT_EQ(corrected->pci, "0000:3b:00");
}

// Bytes at random, and true lines with some bytes changed: nothing crashes, texts stay bounded.
TEST(KernelLog, TakesGarbage) {
  std::mt19937 dice(7);
  const std::string seeds[] = {
      "3,12,5000,-;NVRM: Xid (PCI:0000:3b:00): 149, NETIR Fatal Link 03 (0x004505c6 0x0)\n "
      "DEVICE=+pci:0000:3b:00.0\n",
      "3,13,5001,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 44",
      "3,14,5002,-;NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus."};
  KernelLogParser parser;
  int found = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = seeds[dice() % 3];
    for (unsigned n = dice() % 6; n > 0; --n) text[dice() % text.size()] = static_cast<char>(dice() & 0xFF);
    text.resize(dice() % 8 == 0 ? dice() % text.size() : text.size());
    const auto record = parse_record(text);
    if (!record) continue;
    const auto f = parser.take(*record);
    if (!f) continue;
    ++found;
    EXPECT_LE(f->detail.size(), 300U);
    EXPECT_TRUE(f->pci.empty() || normal_pci(f->pci) == f->pci);
  }
  EXPECT_GT(found, 1000) << "the unchanged lines at least";
  EXPECT_TRUE(parse_record("6,1,1,-;" + std::string(1 << 20, 'x')));
}

TEST(KernelRing, KeepsTheNewestAndCutsOutAnInterval) {
  KernelRing ring(3);
  for (int i = 1; i <= 5; ++i) ring.add(line("line " + std::to_string(i), i * 1'000'000));
  EXPECT_EQ(ring.slice(0, 100'000'000),
            "[    3.000000] line 3\n[    4.000000] line 4\n[    5.000000] line 5\n");
  EXPECT_EQ(ring.slice(3'500'000, 4'500'000), "[    4.000000] line 4\n");
  ring.add_loss(7, 6'000'000);
  EXPECT_THAT(ring.slice(5'500'000, 7'000'000), HasSubstr("7 records were overwritten"));
  KernelRing small(100, 64);
  for (int i = 0; i < 50; ++i) small.add(line(std::string(30, 'x'), i));
  EXPECT_EQ(small.size(), 2U);
}

TEST(FaultPairs, TakeEachReportOfTheOtherSourceOnce) {
  using Source = FaultPairs::Source;
  FaultPairs pairs;
  EXPECT_FALSE(pairs.is_known("GPU-0", 79, 1'000'000, Source::kernel_log));
  EXPECT_TRUE(pairs.is_known("GPU-0", 79, 1'200'000, Source::nvml)) << "the same, a moment later";
  EXPECT_FALSE(pairs.is_known("GPU-0", 79, 1'300'000, Source::nvml)) << "a second one";
  EXPECT_TRUE(pairs.is_known("GPU-0", 79, 1'250'000, Source::kernel_log)) << "told late, by its own time";
  EXPECT_FALSE(pairs.is_known("GPU-1", 79, 1'000'000, Source::nvml)) << "another GPU";
  EXPECT_FALSE(pairs.is_known("GPU-1", 48, 1'000'000, Source::kernel_log)) << "another number";
  EXPECT_FALSE(pairs.is_known("GPU-1", 79, 6'000'001, Source::kernel_log)) << "more than 5 s apart";
}

}  // namespace
}  // namespace tutti::node
