// `tutti up` over stand-ins: starts, restarts, gives up, and leaves nothing behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/http/client.h"
#include "cli/process_sweep.h"
#include "tests/cli/tutti_process.h"

namespace tutti::cli::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

std::string read_all(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

pid_t read_pid(const fs::path& path) {
  pid_t pid = 0;
  std::ifstream(path) >> pid;
  return pid;
}

// A zombie is dead: the init of a container may be slow to reap orphans.
bool alive(pid_t pid) {
  const std::string stat = pid > 0 ? read_all("/proc/" + std::to_string(pid) + "/stat") : "";
  const auto name_end = stat.rfind(')');
  return name_end != std::string::npos && name_end + 2 < stat.size() && stat[name_end + 2] != 'Z';
}

class UpTest : public testing::Test {
 protected:
  UpTest() {
    char name[] = "/tmp/tutti-cli-XXXXXX";
    root_ = mkdtemp(name);
    data_ = root_ / "data";
    fs::create_directories(root_ / "bin/nvml-double");
    for (const char* program : {"tutti-scheduler", "tutti-worker", "tutti-gpu-sim", "tutti-supervisor"})
      fs::create_symlink(fs::path(bin_folder()) / "tutti-fake-daemon", root_ / "bin" / program);
    std::ofstream(root_ / "bin/nvml-double/libnvidia-ml.so.1") << "x";
  }
  ~UpTest() override {
    sweep_all({.data = data_.string(), .excepted = {}}, 5s);
    fs::remove_all(root_);
  }

  std::vector<std::string> arguments(std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {
        "up",        "--data", data_.string(), "--libexec", (root_ / "bin").string(), "--port", "0",
        "--workers", "2",      "--gpus",       "3",         "--start-timeout",        "15"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  fs::path state(const char* node) const { return data_ / "nodes" / node / "state"; }
  // Of a supervisor, once it has said so: it is started beside us.
  pid_t supervisor(const char* node) const {
    const fs::path file = state(node) / "supervisor.pid";
    const int watch = inotify_init1(IN_CLOEXEC);
    inotify_add_watch(watch, state(node).c_str(), IN_MOVED_TO);
    const auto until = Clock::now() + 10s;
    while (!alive(read_pid(file)) && Clock::now() < until) {
      pollfd wait{watch, POLLIN, 0};
      if (poll(&wait, 1, 1000) > 0) {
        char events[4096];
        (void)!read(watch, events, sizeof events);
      }
    }
    close(watch);
    return read_pid(file);
  }

  fs::path root_, data_;
};

TEST_F(UpTest, StartsEverythingAndSaysWhereItIs) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  TuttiProcess up(arguments({"--once-ready-fd", std::to_string(ready[1])}), {}, {}, ready[1]);
  close(ready[1]);
  pollfd wait{ready[0], POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 20'000), 1);
  char buffer[200] = {};
  ASSERT_GT(read(ready[0], buffer, sizeof buffer - 1), 0);
  close(ready[0]);
  const std::string url = std::string(buffer).substr(0, std::string(buffer).find('\n'));
  up.wait_for_output("tutti is up: " + url);
  up.wait_for_output("2 nodes with 3 simulated GPUs each");

  const auto context = boost::json::parse(read_all(data_ / "context.json")).as_object();
  EXPECT_EQ(context.at("server").as_string(), url);
  EXPECT_EQ(context.at("token").as_string(), "fake-token");
  const std::string journal = read_all(data_ / "journal");
  EXPECT_NE(journal.find("worker n1 for " + url + " with 3 x H100 in n1\n"), std::string::npos) << journal;
  EXPECT_NE(journal.find("worker n2 for " + url + " with 3 x H100 in n2\n"), std::string::npos) << journal;
  const Finished nodes =
      run_tutti({"nodes", "-o", "json"}, {}, {{"TUTTI_CONTEXT", (data_ / "context.json").string()}});
  EXPECT_EQ(nodes.status, 0) << nodes.err;
}

TEST_F(UpTest, StopsInOrderAndLeavesNoProcessBehind) {
  TuttiProcess up(arguments());
  up.wait_for_output("tutti is up");
  const pid_t scheduler = read_pid(data_ / "scheduler.pid"), worker = read_pid(state("n1") / "worker.pid");
  const pid_t first = supervisor("n1"), second = supervisor("n2");
  ASSERT_TRUE(alive(scheduler) && alive(worker) && alive(first) && alive(second));
  up.signal(SIGINT);
  const Finished ended = up.wait();
  EXPECT_EQ(ended.status, 0) << ended.err;
  for (const pid_t pid : {scheduler, worker, first, second}) EXPECT_FALSE(alive(pid)) << pid;
  EXPECT_EQ(Sweep({.data = data_.string(), .excepted = {}}).describe(), "");
  const std::string journal = read_all(data_ / "journal");
  EXPECT_TRUE(journal.ends_with("scheduler stopped\n")) << journal;
  EXPECT_NE(journal.find("worker n1 stopped\n"), std::string::npos) << journal;
  EXPECT_NE(journal.find("worker n2 stopped\n"), std::string::npos) << journal;
}

TEST_F(UpTest, AKilledWorkerIsStartedAgain) {
  TuttiProcess up(arguments());
  up.wait_for_output("tutti is up");
  const pid_t before = read_pid(state("n2") / "worker.pid"), kept = supervisor("n2");
  kill(before, SIGKILL);
  up.wait_for_error("worker n2 (pid " + std::to_string(before) +
                    ") ended: signal 9 (Killed); starting it again\n");
  up.wait_for_error("worker n2 started again");
  EXPECT_TRUE(alive(kept)) << "supervisors live on under a new worker";
  EXPECT_EQ(up.err().find("worker n1"), std::string::npos) << up.err();
}

TEST_F(UpTest, AKilledSchedulerComesBackOnItsPort) {
  TuttiProcess up(arguments());
  up.wait_for_output("tutti is up");
  const std::string url =
      boost::json::parse(read_all(data_ / "context.json")).as_object().at("server").as_string().c_str();
  kill(read_pid(data_ / "scheduler.pid"), SIGKILL);
  up.wait_for_error("scheduler started again");
  const Finished nodes = run_tutti({"nodes", "-o", "json", "--retry-for", "10"}, {},
                                   {{"TUTTI_CONTEXT", (data_ / "context.json").string()}});
  EXPECT_EQ(nodes.status, 0) << nodes.err;
  const std::string line = "scheduler on " + url.substr(url.rfind(':') + 1) + "\n";
  const std::string journal = read_all(data_ / "journal");
  EXPECT_NE(journal.find(line), journal.rfind(line)) << journal;
}

TEST_F(UpTest, ASchedulerThatCannotStartIsGivenUpWithItsLog) {
  fs::create_directories(data_);
  std::ofstream(data_ / "do-not-start") << "x";
  const Finished ended = run_tutti(arguments());
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.err.find("ended: exit code 7"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("the scheduler does not start\n--- "), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("the database is broken"), std::string::npos) << ended.err;
}

TEST_F(UpTest, AWorkerThatDoesNotConnectIsNamedAndNobodyIsToldThatAllIsUp) {
  fs::create_directories(data_);
  std::ofstream(data_ / "do-not-connect-n2") << "x";
  std::ofstream(data_ / "context.json") << "of an earlier run";
  auto words = arguments();
  words.back() = "3";  // seconds
  const Finished ended = run_tutti(words);
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.err.find("these workers do not connect: n2"), std::string::npos) << ended.err;
  EXPECT_EQ(ended.out.find("tutti is up"), std::string::npos) << ended.out;
  EXPECT_FALSE(fs::exists(data_ / "context.json"));
  EXPECT_NE(read_all(data_ / "journal").find("worker n1 for "), std::string::npos)
      << "the other one was there";
}

TEST_F(UpTest, OnlyOneRunsInADirectory) {
  TuttiProcess up(arguments());
  up.wait_for_output("tutti is up");
  const Finished second = run_tutti(arguments());
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.err.find("another `tutti up` runs in"), std::string::npos) << second.err;
}

TEST_F(UpTest, WhatAKilledUpLeftBehindIsTakenOverAndEndsWithTheNext) {
  pid_t left = 0;
  {
    TuttiProcess up(arguments());
    up.wait_for_output("tutti is up");
    left = supervisor("n1");
  }  // SIGKILL
  ASSERT_TRUE(alive(left));
  TuttiProcess up(arguments());
  up.wait_for_output("tutti is up");
  EXPECT_EQ(supervisor("n1"), left);
  up.signal(SIGTERM);
  EXPECT_EQ(up.wait().status, 0);
  EXPECT_FALSE(alive(left));
}

TEST_F(UpTest, WhatIsBrokenInAMachineStaysBrokenOverARestart) {
  const auto run_once = [&](std::vector<std::string> more) {
    TuttiProcess up(arguments(std::move(more)));
    up.wait_for_output("tutti is up");
    up.signal(SIGTERM);
    EXPECT_EQ(up.wait().status, 0);
  };
  run_once({});
  std::ofstream(data_ / "nodes/n1/gpu/state") << "broken\n";
  run_once({});
  EXPECT_EQ(read_all(data_ / "nodes/n1/gpu/state"), "broken\n");
  run_once({"--gpu-model", "B200"});
  EXPECT_EQ(read_all(data_ / "nodes/n1/gpu/state"), "3 x B200 in n1\n");
}

TEST_F(UpTest, MissingProgramsAreNamed) {
  fs::remove(root_ / "bin/tutti-worker");
  const Finished ended = run_tutti(arguments());
  EXPECT_EQ(ended.status, 2);
  EXPECT_NE(ended.err.find("there is no program " + (root_ / "bin/tutti-worker").string()), std::string::npos)
      << ended.err;
}

}  // namespace
}  // namespace tutti::cli::test
