// The oracles themselves: they must notice what they are there for.
#include <sys/stat.h>

#include <filesystem>

#include "tests/e2e/e2e_test.h"
#include "tests/e2e/intervals.h"

namespace tutti::e2e {
namespace {

class Oracle : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = Site::instance().next_directory();
    std::filesystem::create_directory(directory_ + "/stamps");
  }
  void line(int epoch, const char* what, int us) {
    std::ofstream(directory_ + "/intervals", std::ios::app)
        << "{\"job\":7,\"epoch\":" << epoch << ",\"rank\":0,\"" << what << "_us\":" << us << "}\n";
  }
  void stamp(int epoch, std::int64_t first, std::int64_t last) {
    const std::int64_t page[2] = {first, last};
    std::ofstream(directory_ + "/stamps/7-" + std::to_string(epoch) + "-0", std::ios::binary)
        .write(reinterpret_cast<const char*>(page), sizeof page);
  }
  std::string overlap() const {
    return find_overlap(read_intervals(directory_ + "/intervals", directory_ + "/stamps"));
  }
  std::string directory_;
};

TEST_F(Oracle, EpochsOneAfterTheOtherAreFine) {
  line(1, "start", 100);
  line(1, "stop", 200);
  stamp(1, 110, 190);
  line(2, "start", 210);
  EXPECT_EQ(overlap(), "");
}

TEST_F(Oracle, AnEpochThatBeginsBeforeTheFormerOneStoppedIsSeen) {
  line(1, "start", 100);
  line(1, "stop", 200);
  line(2, "start", 150);
  EXPECT_NE(overlap(), "");
}

TEST_F(Oracle, ARankThatWasKilledTooLateIsSeenByItsLastSignOfLife) {
  line(1, "start", 100);  // SIGKILL: it wrote no stop
  stamp(1, 110, 300);
  line(2, "start", 250);
  EXPECT_NE(overlap(), "");
}

TEST_F(Oracle, AProcessOfAnAttemptIsFoundByItsEnvironmentAndSeenToDie) {
  const std::string mark = directory_ + "/n1/attempts/7-1";
  const std::string fifo = directory_ + "/fifo";  // without a writer `cat` waits for ever
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  SpawnOptions options;
  options.argv = {"/bin/cat", fifo};
  options.env = {{"TUTTI_ATTEMPT_DIR", mark}};
  Process process(options);
  std::vector<Seen> found;
  await_true("the process", kPatience, [&] {
    found = find_processes("TUTTI_ATTEMPT_DIR", directory_);
    return found.size() == 1;
  });
  EXPECT_EQ(found[0].pid, process.pid());
  EXPECT_EQ(found[0].value("TUTTI_ATTEMPT_DIR"), mark);
  EXPECT_THROW(await_deaths(found, 50ms), Failure);
  EXPECT_TRUE(kill_all("TUTTI_ATTEMPT_DIR", directory_, 10s));
  EXPECT_EQ(await_deaths(found, 10s).size(), 1u);
}

}  // namespace
}  // namespace tutti::e2e
