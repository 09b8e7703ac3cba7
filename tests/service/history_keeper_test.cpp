// When old history is dropped, and by whom.
#include "scheduler/service/history_keeper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

namespace tutti {
namespace {

using namespace std::chrono_literals;

struct FakeStore : RetentionStore {
  explicit FakeStore(const Now& now) : ours(now) {}
  Instant clock() override { return ours.wall + ahead; }
  std::int64_t forget_keys(int most) override {
    ++asked_for_keys;
    const auto gone = std::min<std::int64_t>(most, old_keys);
    old_keys -= gone;
    return gone;
  }
  Forgotten forget(Instant before, int most) override {
    asked.push_back(before);
    most_asked = most;
    if (fails) throw StoreError(StoreError::unavailable, "down");
    return answer;
  }
  std::optional<Instant> oldest() override { return std::nullopt; }
  HistoryPage read(HistoryPart, HistoryPlace after, Instant, int) override { return {{}, after}; }
  const Now& ours;
  Duration ahead{};
  std::int64_t old_keys = 0;
  int asked_for_keys = 0;
  std::vector<Instant> asked;
  int most_asked = 0;
  bool fails = false;
  Forgotten answer;
};

struct HistoryKeeperTest : ::testing::Test {
  Now now{Instant(std::chrono::hours(24 * 365 * 50)), Mono(1h)};
  std::shared_ptr<FakeStore> store = std::make_shared<FakeStore>(now);
  std::deque<std::function<void()>> under_way;
  std::vector<std::string> failures;

  HistoryKeeper keeper(Duration keep) {
    return {[this](std::function<void()> work, std::function<void(std::exception_ptr)> done) {
              under_way.push_back([work = std::move(work), done = std::move(done)] {
                std::exception_ptr failure;
                try {
                  work();
                } catch (...) {
                  failure = std::current_exception();
                }
                done(failure);
              });
            },
            store, HistorySettings{.keep = keep, .failed = [this](std::string_view what) {
                                     failures.emplace_back(what);
                                   }}};
  }
  void step(HistoryKeeper& keeper, Duration later, bool leads = true) {
    now.wall += later;
    now.mono += later;
    keeper.step(leads, now);
    while (!under_way.empty()) {
      under_way.front()();
      under_way.pop_front();
    }
  }
};

TEST_F(HistoryKeeperTest, AsksOnceAMinuteForWhatIsOlder) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  for (int i = 0; i < 61; ++i) step(k, 1s);
  ASSERT_EQ(store->asked.size(), 2U);
  EXPECT_EQ(store->asked.back(), now.wall - std::chrono::hours(24));
  EXPECT_EQ(store->most_asked, 2'000);
}

TEST_F(HistoryKeeperTest, GoesOnAtOnceWhileThereIsMore) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  store->answer.more = true;
  for (int i = 0; i < 10; ++i) step(k, 1s);
  EXPECT_EQ(store->asked.size(), 10U);
}

TEST_F(HistoryKeeperTest, WaitsAMinuteAfterAFailure) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  store->fails = true;
  for (int i = 0; i < 59; ++i) step(k, 1s);
  EXPECT_EQ(store->asked.size(), 1U);
}

TEST_F(HistoryKeeperTest, OneAtATime) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  k.step(true, now);
  now.mono += 2min;
  k.step(true, now);
  EXPECT_EQ(under_way.size(), 1U);
}

TEST_F(HistoryKeeperTest, ForEverAndStandbysAskNothing) {
  HistoryKeeper for_ever = keeper({}), standby = keeper(std::chrono::hours(24));
  step(for_ever, 1s);
  step(standby, 1s, false);
  EXPECT_TRUE(store->asked.empty());
  EXPECT_EQ(store->asked_for_keys, 1) << "keys go after a week wherever history stays";
}

// Of this machine, that of the server, for a minute or for good: a year of history is not old for it.
TEST_F(HistoryKeeperTest, AClockThatIsSetAheadEndsNoHistory) {
  for (const Duration wrong :
       {Duration(24h * 400), Duration(-24h * 400), Duration(61min), Duration(-61min)}) {
    HistoryKeeper k = keeper(std::chrono::hours(24));
    store->ahead = wrong;
    store->asked.clear(), failures.clear();
    step(k, 1s);
    EXPECT_TRUE(store->asked.empty());
    EXPECT_EQ(failures, std::vector<std::string>{"drop"}) << "an alert tells of history that stays";
    store->ahead = {};
    step(k, 1min);
    EXPECT_EQ(store->asked.size(), 1U) << "the clocks agree again";
  }
}

TEST_F(HistoryKeeperTest, OldIsWhatIsOldByBothClocks) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  store->ahead = 30min;
  step(k, 1s);
  EXPECT_EQ(store->asked.back(), now.wall - std::chrono::hours(24));
  store->ahead = -30min;
  step(k, 1min);
  EXPECT_EQ(store->asked.back(), now.wall - 30min - std::chrono::hours(24));
}

TEST_F(HistoryKeeperTest, KeysGoBesideHistoryEachHourAndAtOnceWhileThereAreMore) {
  HistoryKeeper k = keeper(std::chrono::hours(24));
  store->old_keys = 25'000;
  for (int i = 0; i < 10; ++i) step(k, 1s);
  EXPECT_EQ(store->old_keys, 0);
  EXPECT_EQ(store->asked_for_keys, 3);
  for (int i = 0; i < 3600; ++i) step(k, 1s);
  EXPECT_EQ(store->asked_for_keys, 4);
  EXPECT_GT(store->asked.size(), 59U);
}

}  // namespace
}  // namespace tutti
