// A probe that cannot be killed, as the worker sees it.
#include "worker/service/probe_process.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "tests/support/stalled_fs.h"
#include "worker/service/rank_procs.h"

namespace tutti::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class StuckProbe : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-probe-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir = name;
    std::filesystem::create_directory(dir + "/swamp");
    std::ofstream(dir + "/probe") << "#!/bin/sh\necho $$ >> " << dir << "/pids\nread line < " << dir
                                  << "/swamp/file\n";
    chmod((dir + "/probe").c_str(), 0755);
  }
  void TearDown() override {
    std::error_code ec;
    std::filesystem::remove_all(dir, ec);
  }
  std::string dir;
};

TEST_F(StuckProbe, IsLostAtOnceAndHungForGoodInTheEnd) {
  const test::StalledFileSystem swamp(dir + "/swamp");
  if (!swamp.mounted()) GTEST_SKIP() << "no FUSE here";
  boost::asio::io_context io;
  int lost = 0, hung = 0;
  ProbeProcess probe(io, {dir + "/probe"}, {milliseconds(500), milliseconds(500)},
                     {[](const nvml::Message&) {}, [&] { ++lost; }, [&](int times) { hung = times; }});
  probe.start();
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (lost == 0 && std::chrono::steady_clock::now() < until) io.run_one_for(seconds(1));
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(hung, 1);
  pid_t pid = 0;
  std::ifstream(dir + "/pids") >> pid;
  while (look_at_rank(pid).state != "D" && std::chrono::steady_clock::now() < until)
    io.run_one_for(milliseconds(20));
  EXPECT_EQ(look_at_rank(pid).state, "D") << "it was killed, and is still there";
  while (hung < ProbeProcess::kHungTimes && std::chrono::steady_clock::now() < until)
    io.run_one_for(seconds(1));
  EXPECT_EQ(hung, ProbeProcess::kHungTimes);
  EXPECT_EQ(lost, 1) << "told once";
  std::ifstream all(dir + "/pids");
  int started = 0;
  for (std::string line; std::getline(all, line);) ++started;
  EXPECT_EQ(started, 1) << "none is started beside it";
}

}  // namespace
}  // namespace tutti::worker
