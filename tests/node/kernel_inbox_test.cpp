// What the kernel log says between two threads, over restarts of the reader, and by which clock.
#include "worker/node/kernel_inbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/node/kernel_clock.h"

namespace tutti::node {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

KernelRecord record(std::uint64_t number, std::int64_t at, int xid) {
  KernelRecord r;
  r.number = number;
  r.boot_us = at;
  r.text = xid == 0 ? "eth0: link up" : "NVRM: Xid (PCI:0000:3b:00): " + std::to_string(xid) + ", x";
  return r;
}

TEST(KernelInbox, GivesEachFindingOnceAndRingsOnce) {
  KernelInbox inbox(0, {});
  EXPECT_FALSE(inbox.add(record(1, 10, 0), true)) << "it says nothing";
  EXPECT_TRUE(inbox.add(record(2, 20, 13), true));
  EXPECT_FALSE(inbox.add(record(3, 30, 31), true)) << "the bell has been rung";
  const auto news = inbox.take();
  ASSERT_THAT(news.findings, SizeIs(2));
  EXPECT_EQ(news.findings[0].xid, 13);
  EXPECT_EQ(news.told_up_to, 3U);
  EXPECT_THAT(inbox.take().findings, IsEmpty());
  EXPECT_TRUE(inbox.add(record(4, 40, 13), true));
}

// What came between a worker's death and the next one's start: told by nobody yet.
TEST(KernelInbox, GoesOnWhereTheFormerReaderWas) {
  KernelInbox inbox(1'000'000, 7);
  inbox.add(record(7, 400, 48), false);
  inbox.add(record(8, 500, 79), false);
  const auto news = inbox.take();
  ASSERT_THAT(news.findings, SizeIs(1));
  EXPECT_EQ(news.findings[0].xid, 79);
  EXPECT_EQ(news.told_up_to, 8U);
}

TEST(KernelInbox, WithoutAFormerReaderWhatIsOlderThanWeIsOld) {
  KernelInbox inbox(1'000'000, {});
  inbox.add(record(7, 999'999, 79), false);
  EXPECT_THAT(inbox.take().findings, IsEmpty());
  inbox.add(record(8, 1'000'001, 48), false);
  EXPECT_THAT(inbox.take().findings, SizeIs(1));
}

TEST(KernelInbox, TellsNothingTwiceWhenTheLogIsOpenedAgain) {
  KernelInbox inbox(0, {});
  inbox.add(record(1, 10, 79), true);
  inbox.take();
  inbox.add(record(1, 10, 79), false);
  EXPECT_THAT(inbox.take().findings, IsEmpty());
}

TEST(KernelInbox, AStormWithoutMeaningCostsNothingAndOneOfErrorsIsCounted) {
  KernelInbox inbox(0, {}, 10);
  for (std::uint64_t i = 1; i <= 100'000; ++i) inbox.add(record(i, 10, 0), true);
  inbox.add(record(100'001, 20, 79), true);
  EXPECT_THAT(inbox.take().findings, SizeIs(1)) << "not lost among the others";
  for (std::uint64_t i = 1; i <= 25; ++i) inbox.add(record(200'000 + i, 30, 13), true);
  const auto news = inbox.take();
  EXPECT_THAT(news.findings, SizeIs(10));
  EXPECT_EQ(news.dropped, 15U);
}

TEST(KernelInbox, KeepsTheTextForTheEvidence) {
  KernelInbox inbox(1'000, {});
  inbox.add(record(1, 10, 0), false);
  EXPECT_TRUE(inbox.add_loss(3, 20));
  EXPECT_EQ(inbox.take().lost_records, 3U);
  EXPECT_THAT(inbox.slice(0, 100), HasSubstr("eth0: link up"));
  EXPECT_THAT(inbox.slice(0, 100), HasSubstr("3 records were overwritten"));
}

constexpr std::int64_t kSecond = 1'000'000;

TEST(KernelClock, LearnsTheDifferenceFromTheSmallestDelay) {
  KernelClock clock;  // the kernel's is two seconds behind
  EXPECT_EQ(clock.to_boot_us(98 * kSecond, {100 * kSecond + 30'000, 0}, true), 100 * kSecond + 30'000);
  EXPECT_EQ(clock.to_boot_us(99 * kSecond, {101 * kSecond, 0}, true), 101 * kSecond);
  EXPECT_EQ(clock.to_boot_us(100 * kSecond, {109 * kSecond, 0}, true), 102 * kSecond + 1600)
      << "we slept, and the clocks may have drifted for eight seconds";
}

TEST(KernelClock, ThatIsAheadMovesToThePast) {
  KernelClock clock;
  EXPECT_EQ(clock.to_boot_us(105 * kSecond, {100 * kSecond, 0}, false), 100 * kSecond);
  EXPECT_EQ(clock.to_boot_us(104 * kSecond, {100 * kSecond, 0}, false), 99 * kSecond);
}

// Of a record that has lain in the log for an hour nobody knows when it would have come.
TEST(KernelClock, DoesNotTakeAgeForADifference) {
  KernelClock clock;
  EXPECT_EQ(clock.to_boot_us(100 * kSecond, {3700 * kSecond, 0}, false), 100 * kSecond);
  EXPECT_EQ(clock.to_boot_us(3700 * kSecond, {3701 * kSecond, 0}, true), 3701 * kSecond);
}

TEST(KernelClock, StandsStillWhileTheMachineSleeps) {
  KernelClock clock;
  EXPECT_EQ(clock.to_boot_us(100 * kSecond, {100 * kSecond, 0}, true), 100 * kSecond);
  EXPECT_EQ(clock.to_boot_us(101 * kSecond, {3701 * kSecond, 3600 * kSecond}, true), 3701 * kSecond);
}

TEST(KernelClock, IsNotMisledByNonsense) {
  KernelClock clock;
  EXPECT_EQ(clock.to_boot_us(INT64_MAX, {100 * kSecond, 0}, true), 100 * kSecond);
  EXPECT_EQ(clock.to_boot_us(100 * kSecond, {100 * kSecond, 0}, true), 100 * kSecond);
}

}  // namespace
}  // namespace tutti::node
