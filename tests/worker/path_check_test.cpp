// Looks at paths by helper processes: what they say, and helpers that never answer.
#include "worker/service/path_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "worker/node/space.h"

namespace tutti::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

std::string helper() { return std::string(std::getenv("TUTTI_BIN")) + "/tutti-node-check"; }

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-check-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path = name;
  }
  ~Folder() {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
  }
  std::string program(const std::string& text) const {
    const auto file = path + "/program";
    std::ofstream(file) << "#!/bin/sh\n" << text << "\n";
    chmod(file.c_str(), 0755);
    return file;
  }
  std::string path;
};

PathChecks::Answer ask(boost::asio::io_context& io, PathChecks& checks, std::vector<std::string> words,
                       milliseconds deadline = seconds(20)) {
  std::optional<PathChecks::Answer> answer;
  checks.run(std::move(words), deadline, [&](const auto& a) { answer = a; });
  io.restart();
  while (!answer && io.run_one_for(seconds(30)) > 0) {
  }
  EXPECT_TRUE(answer);
  return answer.value_or(PathChecks::Answer{});
}

TEST(PathChecks, TellSpaceAndWriteAFile) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks checks(io, helper());
  const auto space = ask(io, checks, {"space", folder.path});
  ASSERT_TRUE(space.ok) << space.text;
  EXPECT_GT(node::parse_space(space.text)->total_bytes, 0U);
  const auto file = ask(io, checks, {"file", folder.path});
  EXPECT_TRUE(file.ok) << file.text;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path)) << "it leaves nothing behind";
}

// A worker has just begun to look at its disk when the first attempt's gate asks the same.
TEST(PathChecks, WhoAsksTheSameMeanwhileGetsTheSameAnswer) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks checks(io, folder.program("echo x >>" + folder.path + "/runs; echo ok"));
  int good = 0;
  for (int i = 0; i < 3; ++i) checks.run({"file", "/a"}, seconds(20), [&](const auto& a) { good += a.ok; });
  while (good < 3 && io.run_one_for(seconds(30)) > 0) {
  }
  EXPECT_EQ(good, 3);
  EXPECT_EQ(std::filesystem::file_size(folder.path + "/runs"), 2U) << "one look";
}

TEST(PathChecks, SayWhatIsWrongWithAPath) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks checks(io, helper());
  std::ofstream(folder.path + "/file") << "x";
  EXPECT_THAT(ask(io, checks, {"file", folder.path + "/file"}).text, HasSubstr("Not a directory"));
  EXPECT_THAT(ask(io, checks, {"space", folder.path + "/none"}).text, HasSubstr("No such file"));
  EXPECT_TRUE(ask(io, checks, {"file", folder.path + "/not/yet/there"}).ok) << "it can be made";
}

TEST(PathChecks, LookWithTheEyesOfTheJobsUser) {
  if (getuid() != 0) GTEST_SKIP() << "only root can become another user";
  Folder folder;
  chmod(folder.path.c_str(), 0700);
  boost::asio::io_context io;
  PathChecks checks(io, helper());
  EXPECT_TRUE(ask(io, checks, {"file", folder.path}).ok);
  const auto nobody = ask(io, checks, {"file", folder.path, "65534", "65534"});
  EXPECT_FALSE(nobody.ok);
  EXPECT_THAT(nobody.text, HasSubstr("Permission denied"));
}

// Ranks have all groups of their user; the folder of a team is often writable for its group only.
TEST(PathChecks, KnowTheGroupsOfTheJobsUser) {
  if (getuid() != 0) GTEST_SKIP() << "only root can become another user";
  Folder folder;
  chmod(folder.path.c_str(), 0755);
  const auto team = folder.path + "/team";
  std::filesystem::create_directory(team);
  ASSERT_EQ(chown(team.c_str(), 0, 54321), 0);
  chmod(team.c_str(), 0070);
  std::ofstream(folder.path + "/group") << "root:x:0:\nteam:x:54321:nobody\n";
  boost::asio::io_context io;
  PathChecks checks(io, folder.program("exec unshare -m sh -c 'mount --bind " + folder.path +
                                       "/group /etc/group && exec " + helper() + " \"$@\"' sh \"$@\""));
  const auto answer = ask(io, checks, {"file", team, "65534", "65534"});
  if (answer.text.find("died") != std::string::npos) GTEST_SKIP() << "no mount namespaces here";
  EXPECT_TRUE(answer.ok) << answer.text;
}

// A look that was killed leaves its file; the process numbers of the machines that share the folder are
// alike.
TEST(PathChecks, TakeAwayWhatAnEarlierLookHasLeft) {
  Folder folder;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const auto left = [&](const std::string& name, int hours) {
    const auto path = folder.path + "/.tutti-check-" + name;
    std::ofstream(path) << "x";
    std::filesystem::last_write_time(
        path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(hours));
    return path;
  };
  const auto old = left(std::string(host) + "-0123456789abcdef", 2);
  const auto fresh = left(std::string(host) + "-fedcba9876543210", 0);
  const auto other = left("another-0123456789abcdef", 2);
  boost::asio::io_context io;
  PathChecks checks(io, helper());
  const auto answer = ask(io, checks, {"file", folder.path});
  EXPECT_TRUE(answer.ok) << answer.text;
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(std::filesystem::exists(fresh)) << "it may be in use";
  EXPECT_TRUE(std::filesystem::exists(other)) << "another machine's";
}

// The name of the file: many looks at one moment, from machines with the same numbers.
TEST(PathChecks, OfManyMachinesDoNotMeetInOneFolder) {
  Folder folder;
  boost::asio::io_context io;
  // Each in a namespace of its own, so that both have the process number 1.
  PathChecks checks(io, folder.program("exec unshare -fp " + helper() + " \"$@\""));
  std::ofstream(folder.path + "/.tutti-check-1") << "of another machine";
  const auto answer = ask(io, checks, {"file", folder.path});
  if (answer.text.find("died") != std::string::npos) GTEST_SKIP() << "no process namespaces here";
  EXPECT_TRUE(answer.ok) << answer.text;
}

TEST(PathChecks, OnAHungFileSystemComeBackInTime) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks checks(io, folder.program("kill -STOP $$"));
  const auto began = std::chrono::steady_clock::now();
  const auto answer = ask(io, checks, {"file", "/shared"}, milliseconds(200));
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(10));
  EXPECT_TRUE(answer.hangs);
  EXPECT_FALSE(answer.ok);
  // Killed: once it has gone the question may be asked again.
  const auto again = ask(io, checks, {"file", "/other"}, milliseconds(200));
  EXPECT_TRUE(again.hangs);
}

TEST(PathChecks, StartNoSecondHelperWhileOneHangs) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks checks(io, folder.program("echo x >>" + folder.path + "/runs; kill -STOP $$"));
  int hangs = 0, answers = 0;
  for (int i = 0; i < 2; ++i)
    checks.run({"file", "/shared"}, seconds(2), [&](const auto& a) {
      hangs += a.hangs;
      ++answers;
    });
  while (answers < 2 && io.run_one_for(seconds(30)) > 0) {
  }
  EXPECT_EQ(hangs, 2) << "each of them is told";
  EXPECT_EQ(std::filesystem::file_size(folder.path + "/runs"), 2U) << "one helper";
}

TEST(PathChecks, OfAMissingOrDyingHelperSayThat) {
  Folder folder;
  boost::asio::io_context io;
  PathChecks missing(io, folder.path + "/no-such-program");
  EXPECT_FALSE(ask(io, missing, {"space", "/"}).ok);
  PathChecks dying(io, folder.program("kill -SEGV $$"));
  const auto answer = ask(io, dying, {"space", "/"});
  EXPECT_FALSE(answer.ok);
  EXPECT_FALSE(answer.hangs);
  EXPECT_THAT(answer.text, HasSubstr("died"));
}

}  // namespace
}  // namespace tutti::worker
