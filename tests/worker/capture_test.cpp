// tutti-capture and debuggers that have to be killed: a rank that ran before runs after.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "worker/service/rank_procs.h"

namespace tutti::worker {
namespace {

using testing::HasSubstr;

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class Capture : public testing::Test {
 protected:
  Capture() {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-capture-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    dir = name;
    chmod(dir.c_str(), 0755);
    // Like a debugger in the middle of its attach, which does not get on.
    std::ofstream(dir + "/debugger") << "#!/bin/sh\nkill -STOP $1\necho stopped\nexec sleep 1000\n";
    chmod((dir + "/debugger").c_str(), 0755);
  }
  ~Capture() override {
    if (target > 0) {
      kill(-target, SIGKILL);
      waitpid(target, nullptr, 0);
    }
    std::error_code ec;
    std::filesystem::remove_all(dir, ec);
  }
  void start(const std::function<void()>& body) {
    target = fork();
    if (target == 0) {
      setpgid(0, 0);
      body();
      _exit(0);
    }
    setpgid(target, target);
  }
  void wait_for(char state) {
    for (int i = 0; i < 3000 && look_at_rank(target).state != std::string(1, state); ++i)
      poll(nullptr, 0, 10);
    ASSERT_EQ(look_at_rank(target).state, std::string(1, state));
  }
  void capture() {
    const auto command = std::string(std::getenv("TUTTI_BIN")) + "/tutti-capture --dir " + dir + " --uid " +
                         std::to_string(geteuid()) + " --gid " + std::to_string(getegid()) +
                         " --stacks --deadline-ms 500 --debugger " + dir +
                         "/debugger 0:" + std::to_string(target);
    status = std::system(command.c_str());
  }
  std::string stacks() const { return text_of(dir + "/rank-0.stacks.txt"); }

  std::string dir;
  pid_t target = 0;
  int status = 0;
};

TEST_F(Capture, ARankWhoseDebuggerHadToBeKilledRunsOn) {
  start([] {
    while (true) poll(nullptr, 0, 1000);
  });
  wait_for('S');
  capture();
  EXPECT_EQ(WEXITSTATUS(status), 1) << "it was late";
  EXPECT_EQ(stacks(), "stopped\n") << "or nothing is shown here";
  EXPECT_EQ(look_at_rank(target).state, "S");
}

TEST_F(Capture, ARankThatWaitsInTheKernelIsLeftAlone) {
  start([] {
    if (vfork() == 0) {  // until this child has gone, its parent is in state D
      while (true) poll(nullptr, 0, 1000);
    }
  });
  wait_for('D');
  EXPECT_THAT(why_not_to_stop(target), HasSubstr("waits in the kernel"));
  capture();
  EXPECT_THAT(stacks(), HasSubstr("no backtrace: thread " + std::to_string(target)));
  EXPECT_EQ(look_at_rank(target).state, "D");
}

TEST_F(Capture, ARankThatWasStoppedStaysSo) {
  start([] { raise(SIGSTOP); });
  wait_for('T');
  capture();
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(stacks(), HasSubstr("is stopped"));
  EXPECT_EQ(look_at_rank(target).state, "T");
}

}  // namespace
}  // namespace tutti::worker
