// Work aside, and what becomes of it when the server stops.
#include "scheduler/service/side_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <future>

namespace tutti {
namespace {

struct SideThreadTest : ::testing::Test {
  /// One work holds the thread, and nine wait behind it.
  void fill(SideThread& side) {
    side.run([this] { may_go_on.get_future().wait(); }, [](std::exception_ptr) {});
    for (int i = 0; i < 9; ++i)
      side.run([this] { ++ran; }, [this](std::exception_ptr failure) { failed += failure ? 1 : 0; });
  }
  boost::asio::io_context control;
  std::promise<void> may_go_on;
  std::atomic<int> ran = 0;
  int failed = 0;
};

TEST_F(SideThreadTest, WhatIsToBeWrittenIsWrittenToTheEnd) {
  SideThread side(control.get_executor());
  fill(side);
  may_go_on.set_value();
  side.join();
  control.run();
  EXPECT_EQ(ran, 9);
  EXPECT_EQ(failed, 0);
}

TEST_F(SideThreadTest, QuestionsThatWaitAreNotAnsweredWhenTheServerStops) {
  SideThread side(control.get_executor());
  fill(side);
  side.let_go();
  may_go_on.set_value();
  side.join();
  control.run();
  EXPECT_EQ(ran, 0);
  EXPECT_EQ(failed, 9);
}

}  // namespace
}  // namespace tutti
