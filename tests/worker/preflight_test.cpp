// tutti-preflight: the program only runs after a check that ended well and in time.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tutti::worker {
namespace {

struct PreflightTest : testing::Test {
  const std::string mark = testing::TempDir() + "/preflight_" + std::to_string(getpid());
  ~PreflightTest() override { std::filesystem::remove(mark); }
  bool program_ran() const { return std::filesystem::exists(mark); }
  int run(const std::string& rest) const {
    const int status = std::system(
        (std::string(std::getenv("TUTTI_BIN")) + "/tutti-preflight " + rest + " 2>" + mark + ".log").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

TEST_F(PreflightTest, TheProgramFollowsAGoodCheckAndItsStatusIsTheStatus) {
  EXPECT_EQ(run("--limit 20 -- true --then sh -c 'touch " + mark + "; exit 5'"), 5);
  EXPECT_TRUE(program_ran());
}

TEST_F(PreflightTest, AFailedCheckStartsNothing) {
  EXPECT_EQ(run("--limit 20 -- sh -c 'exit 76' --then touch " + mark), 97);
  EXPECT_FALSE(program_ran());
}

TEST_F(PreflightTest, AKilledCheckStartsNothing) {
  EXPECT_EQ(run("--limit 20 -- sh -c 'kill -9 $$' --then touch " + mark), 97);
  EXPECT_FALSE(program_ran());
}

TEST_F(PreflightTest, ACheckThatHangsIsKilled) {
  EXPECT_EQ(run("--limit 1 -- sleep 1000 --then touch " + mark), 97);
  EXPECT_FALSE(program_ran());
}

TEST_F(PreflightTest, AnIncompleteLineIsRefused) {
  EXPECT_EQ(run("--limit 20 -- true"), 64);
  EXPECT_EQ(run("--limit zero -- true --then true"), 64);
  EXPECT_EQ(run("--limit 20 -- --then true"), 64);
  EXPECT_EQ(run(""), 64);
}

}  // namespace
}  // namespace tutti::worker
