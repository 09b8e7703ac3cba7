// tutti-checkpoint: the files it writes are a checkpoint that the worker takes, and only when they should be.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "worker/service/checkpoint_files.h"
#include "worker/supervisor/checkpoint_writer.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;
using supervisor::CheckpointError;
using supervisor::CheckpointWriter;

class CheckpointTool : public ::testing::Test {
 protected:
  fs::path root =
      fs::temp_directory_path() / ("tutti-tool-" + std::to_string(getpid()) + "-" +
                                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::string dir = (root / "ckpt").string();
  bool current = true;

  void SetUp() override {
    fs::remove_all(root);
    fs::create_directories(dir);
  }
  void TearDown() override { fs::remove_all(root); }

  CheckpointWriter writer(std::int64_t epoch = 2) {
    return {dir, epoch, [this] {
              if (!current) throw CheckpointError(supervisor::kEpochNotCurrent, "not current");
            }};
  }
  static void put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  template <class Do>
  static int status_of(Do&& what) {
    try {
      what();
      return 0;
    } catch (const CheckpointError& e) {
      return e.status;
    }
  }
  FoundCheckpoints found(std::int64_t epoch = 2) const {
    SeenCheckpoints seen;
    return find_checkpoints(dir, {JobId(1), Epoch(epoch)}, seen, true);
  }
};

TEST_F(CheckpointTool, WhatItCommitsIsFoundWholeWithItsCost) {
  auto w = writer();
  const auto path = w.begin(10);
  EXPECT_EQ(path, dir + "/step-10");
  EXPECT_TRUE(found().found.empty()) << "nothing is a checkpoint before its commit";
  put(path + "/rank-0.bin", std::string(10'000'000, 'x'));
  put(path + "/tensors/a/part", "yy");
  put(path + "/tensors/b", "");
  w.shard(10, {path + "/rank-0.bin", "tensors"});
  w.shard(10, {"rank-0.bin"});  // repeated
  EXPECT_EQ(w.commit(10, 3), path);
  const auto all = found();
  ASSERT_EQ(all.found.size(), 1u);
  const auto& c = all.found[0];
  EXPECT_EQ(std::tuple(c.step, c.epoch_in_file, c.shards, c.bytes, c.problem),
            std::tuple(10, 2, 3, 10'000'002, ""));
  EXPECT_GT(c.cost_us, 0);
  EXPECT_EQ(compare_checksums(dir, path, 10, 2, [] { return false; }).what, ChecksumResult::held);
  EXPECT_FALSE(fs::exists(path + "/.tutti-epoch-2"));
}

TEST_F(CheckpointTool, RefusesWhatIsIncomplete) {
  auto w = writer();
  EXPECT_EQ(status_of([&] { w.shard(10, {"a"}); }), supervisor::kIncomplete) << "not begun";
  const auto path = w.begin(10);
  EXPECT_EQ(status_of([&] { w.commit(10, {}); }), supervisor::kIncomplete) << "no shards";
  put(path + "/a", "1234");
  w.shard(10, {"a"});
  EXPECT_EQ(status_of([&] { w.commit(10, 2); }), supervisor::kIncomplete) << "another rank is late";
  put(path + "/a", "12345");
  EXPECT_EQ(status_of([&] { w.commit(10, 1); }), supervisor::kIncomplete) << "changed since";
  EXPECT_EQ(status_of([&] { w.shard(10, {"missing"}); }), supervisor::kFileTrouble);
  EXPECT_EQ(status_of([&] { w.shard(10, {"../a"}); }), supervisor::kUsageError);
  EXPECT_EQ(status_of([&] { w.shard(10, {"/etc/passwd"}); }), supervisor::kUsageError);
  EXPECT_TRUE(found().found.empty());
  w.shard(10, {"a"});
  w.commit(10, 1);
  EXPECT_EQ(status_of([&] { w.begin(10); }), supervisor::kIncomplete) << "it is written once";
}

TEST_F(CheckpointTool, AnEpochThatIsOverWritesNothing) {
  auto w = writer();
  const auto path = w.begin(10);
  put(path + "/a", "1234");
  w.shard(10, {"a"});
  current = false;
  EXPECT_EQ(status_of([&] { w.commit(10, 1); }), supervisor::kEpochNotCurrent);
  EXPECT_EQ(status_of([&] { w.begin(11); }), supervisor::kEpochNotCurrent);
  EXPECT_FALSE(fs::exists(path + "/COMPLETE.json"));
  EXPECT_FALSE(fs::exists(dir + "/step-11"));
}

TEST_F(CheckpointTool, ALaterAttemptWritesTheSameStepAnewAndAnEarlierOneDoesNot) {
  auto old = writer(2);
  auto path = old.begin(10);
  put(path + "/a", "old");
  old.shard(10, {"a"});
  old.commit(10, 1);
  auto w = writer(3);
  w.begin(10);
  EXPECT_TRUE(found().found.empty()) << "the old one is none any more once its files may change";
  put(path + "/a", "newer");
  w.shard(10, {"a"});
  w.commit(10, 1);
  EXPECT_EQ(found(3).found.at(0).epoch_in_file, 3);
  EXPECT_EQ(status_of([&] { old.begin(10); }), supervisor::kEpochNotCurrent);
}

// ---------------------------------------------------------------- the program, and a supervisor that answers

class Answering {
 public:
  Answering(const std::string& dir, std::string answer)
      : listener_(supervisor::listen_unix(dir, "rank.sock", 0600, geteuid())), answer_(std::move(answer)) {
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        pollfd wait{listener_.get(), POLLIN, 0};
        if (poll(&wait, 1, 50) <= 0) continue;
        const supervisor::Fd peer(accept(listener_.get(), nullptr, nullptr));
        char question[64];
        if (recv(peer.get(), question, sizeof question, 0) > 0)
          (void)send(peer.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
      }
    });
  }

 private:
  supervisor::Fd listener_;
  std::string answer_;
  std::jthread thread_;
};

struct Ran {
  int status = -1;
  std::string output;
};
Ran run(const std::string& arguments, const std::string& environment) {
  const char* bin = std::getenv("TUTTI_BIN");
  const std::string program =
      (bin == nullptr ? std::string("build/dev/bin") : std::string(bin)) + "/tutti-checkpoint";
  FILE* pipe = popen(("env -i " + environment + " " + program + " " + arguments + " 2>&1").c_str(), "r");
  Ran ran;
  char chunk[512];
  while (const auto n = fread(chunk, 1, sizeof chunk, pipe)) ran.output.append(chunk, n);
  const int status = pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ran;
}

TEST_F(CheckpointTool, TheProgramAsksItsSupervisorAndSaysWhatIsWrong) {
  const std::string env = "CHECKPOINT_DIR=" + dir + " TUTTI_EPOCH=2 TUTTI_ATTEMPT_DIR=" + root.string();
  const auto alone = run("begin 10", env);
  EXPECT_EQ(alone.status, supervisor::kEpochNotCurrent) << alone.output;
  EXPECT_NE(alone.output.find("the attempt is over"), std::string::npos) << alone.output;
  {
    Answering supervisor(root.string(), "{\"epoch\":2,\"current\":true}\n");
    const auto begun = run("begin 10", env);
    EXPECT_EQ(begun.status, 0) << begun.output;
    EXPECT_EQ(begun.output, dir + "/step-10\n");
    put(dir + "/step-10/a", "data");
    EXPECT_EQ(run("shard 10 a", env).status, 0);
    EXPECT_EQ(run("commit 10 --shards 2", env).status, supervisor::kIncomplete);
    EXPECT_EQ(run("commit 10 --shards 1", env).status, 0);
    EXPECT_EQ(found().found.size(), 1u);
    for (const char* wrong :
         {"", "begin", "begin x", "begin -1", "shard 10", "commit 10 --shards", "frobnicate 1"})
      EXPECT_EQ(run(wrong, env).status, supervisor::kUsageError) << wrong;
    const auto outside = run("begin 10", "TUTTI_EPOCH=2");
    EXPECT_NE(outside.output.find("$CHECKPOINT_DIR is not set"), std::string::npos) << outside.output;
  }
  {
    Answering supervisor(root.string(), "{\"epoch\":3,\"current\":true}\n");
    EXPECT_EQ(run("begin 11", env).status, supervisor::kEpochNotCurrent);
  }
  Answering supervisor(root.string(), "{\"epoch\":2,\"current\":false}\n");
  EXPECT_EQ(run("begin 11", env).status, supervisor::kEpochNotCurrent);
}

}  // namespace
}  // namespace tutti::worker
