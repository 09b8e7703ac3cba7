// Images that are kept on a node: made once, within bounds, and held by the ranks that run in them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "tests/worker/container_folder.h"
#include "worker/container/image_cache.h"
#include "worker/supervisor/fd.h"

namespace tutti::container {
namespace {

using ::testing::ElementsAre;

TEST(ImageCache, IsMadeOnceAndKeepsToItsBounds) {
  const Folder at;
  int made = 0;
  const auto get = [&](const std::string& name, std::size_t bytes, std::int64_t limit) {
    return cached_image(at.path(), limit, name, [&](const std::string&, const std::string& root) {
      ++made;
      fs::create_directories(root);
      std::ofstream(root + "/file") << std::string(bytes, 'x');
      return Words{"A=b"};
    });
  };
  constexpr std::int64_t kLarge = 1 << 30;
  const auto first = get("one", 100'000, kLarge);
  EXPECT_TRUE(fs::exists(first.root + "/file"));
  EXPECT_THAT(first.variables, ElementsAre("A=b"));
  EXPECT_EQ(get("one", 100'000, kLarge).root, first.root);
  EXPECT_EQ(made, 1);
  // What was used a moment ago stays: its ranks are about to start. So the second does not fit.
  EXPECT_THROW(get("two", 100'000, 150'000), std::runtime_error);
  EXPECT_TRUE(fs::exists(first.root));
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(first.lock, old);
  {
    const supervisor::Fd held(open(first.lock.c_str(), O_RDWR));
    ASSERT_EQ(flock(held.get(), LOCK_SH), 0);
    EXPECT_THROW(get("two", 100'000, 150'000), std::runtime_error) << "a rank runs in it";
    EXPECT_TRUE(fs::exists(first.root));
  }
  const auto second = get("two", 100'000, 150'000);
  EXPECT_TRUE(fs::exists(second.root));
  EXPECT_FALSE(fs::exists(first.root));
}

CachedImage get_image(const Folder& at, const std::string& name, std::int64_t limit, int& made) {
  return cached_image(at.path(), limit, name, [&](const std::string&, const std::string& root) {
    ++made;
    fs::create_directories(root);
    std::ofstream(root + "/file") << std::string(100'000, 'x');
    return Words{};
  });
}

// Somebody waits for the lock, as /proc/locks has it.
bool is_waited_for(const std::string& lock) {
  struct stat s{};
  if (stat(lock.c_str(), &s) != 0) return false;
  const auto inode = ":" + std::to_string(s.st_ino) + " ";
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < until) {
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);)
      if (line.find("-> FLOCK") != std::string::npos && line.find(inode) != std::string::npos) return true;
    std::this_thread::yield();
  }
  return false;
}

TEST(ImageCache, WhatWentWhileItWasWaitedForIsMadeAgain) {
  const Folder at;
  int made = 0;
  const auto first = get_image(at, "one", 1 << 30, made);
  supervisor::Fd room(open(first.lock.c_str(), O_RDWR | O_CLOEXEC));  // somebody makes room
  ASSERT_EQ(flock(room.get(), LOCK_EX), 0);
  auto second = std::async(std::launch::async, [&] { return get_image(at, "one", 1 << 30, made); });
  EXPECT_TRUE(is_waited_for(first.lock));
  fs::remove_all(fs::path(first.root).parent_path());
  room.reset();
  EXPECT_TRUE(fs::exists(second.get().root + "/file"));
  EXPECT_EQ(made, 2);
}

TEST(ImageCache, ARankWaitsForALockThatIsHeldForAMoment) {
  const Folder at;
  int made = 0;
  const auto image = get_image(at, "one", 1 << 30, made);
  supervisor::Fd other(open(image.lock.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(other.get(), LOCK_EX), 0);
  EXPECT_THROW(hold_image(image.lock, std::chrono::milliseconds(1)), std::system_error);
  auto held =
      std::async(std::launch::async, [&] { return hold_image(image.lock, std::chrono::seconds(20)); });
  other.reset();
  const auto lock = held.get();
  EXPECT_TRUE(lock);
  // And what prepares beside it needs no more than that.
  EXPECT_EQ(get_image(at, "one", 1 << 30, made).root, image.root);
  const supervisor::Fd again(open(image.lock.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_NE(flock(again.get(), LOCK_EX | LOCK_NB), 0) << "in use";
}

TEST(ImageCache, WhatAnInterruptedFetchLeftIsRemovedUnlessItIsBeingMade) {
  const Folder at;
  int made = 0;
  at.write("left.work/podman/layer", "x");
  at.write("busy.work/podman/layer", "x");
  const supervisor::Fd busy(open((at / "busy.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(busy.get(), LOCK_EX), 0);
  const auto image = get_image(at, "one", 1 << 30, made);
  EXPECT_FALSE(fs::exists(at / "left.work"));
  EXPECT_TRUE(fs::exists(at / "busy.work/podman/layer"));
  // A removal that was interrupted has left a folder of that name; the next one does not stumble over it.
  fs::last_write_time(image.lock, fs::file_time_type::clock::now() - std::chrono::hours(1));
  const auto folder = fs::path(image.root).parent_path().string();
  at.write(fs::path(folder).filename().string() + ".work/half", "x");
  get_image(at, "two", 150'000, made);
  EXPECT_FALSE(fs::exists(folder));
  EXPECT_FALSE(fs::exists(folder + ".work"));
}

// A disk that is full closes its node: nobody would come to clean up.
TEST(ImageCache, WhatFailsLeavesNothingBehind) {
  const Folder at;
  std::string seen;
  const auto fail = [&](const std::string& work, const std::string& root) -> Words {
    seen = work;
    fs::create_directories(root);
    std::ofstream(root + "/half") << std::string(100'000, 'x');
    throw std::runtime_error("no more");
  };
  EXPECT_THROW(cached_image(at.path(), 1 << 30, "one", fail), std::runtime_error);
  ASSERT_FALSE(seen.empty());
  EXPECT_FALSE(fs::exists(seen));
  int made = 0;
  EXPECT_TRUE(fs::exists(get_image(at, "one", 1 << 30, made).root + "/file"));
}

}  // namespace
}  // namespace tutti::container
