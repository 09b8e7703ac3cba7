// The thread that reads the kernel log, over a FIFO, a socket and things that cannot be read.
#include "worker/node/kernel_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

namespace tutti::node {
namespace {

using std::chrono::seconds;

class Heard {  // what a reader said, to be waited for
 public:
  KernelReader::Events events() {
    KernelReader::Events e;
    e.on_record = [this](KernelRecord r, bool live) {
      change([&] {
        records_.push_back(std::move(r));
        live_.push_back(live);
      });
    };
    e.on_loss = [this](std::uint64_t n) { change([&] { losses_.push_back(n); }); };
    e.on_state = [this](std::string why) { change([&] { states_.push_back(std::move(why)); }); };
    return e;
  }
  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(20), [&] { return condition(*this); });
  }
  std::vector<KernelRecord> records_;
  std::vector<bool> live_;
  std::vector<std::uint64_t> losses_;
  std::vector<std::string> states_;

 private:
  template <class Change>
  void change(Change what) {
    std::lock_guard lock(mutex_);
    what();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-kmsg-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path = name;
  }
  ~Folder() {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
  }
  std::string path;
};

void write_all(int fd, const std::string& text) {
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST(KernelReader, ReadsAFifoRecordByRecordAndCountsGaps) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  Heard heard;
  KernelReader reader(path, heard.events(), [] { return Arrival{3000, 0}; });
  ASSERT_TRUE(heard.wait([](const Heard& h) { return !h.states_.empty(); }));
  EXPECT_EQ(heard.states_[0], "");
  const int fd = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  write_all(fd, "6,10,1000,-;first\n DEVICE=+pci:0000:3b:00.0\n6,11,2000,-;sec");
  write_all(fd, "ond\nnonsense\n6,15,3000,-;third\n");
  ASSERT_TRUE(heard.wait([](const Heard& h) { return h.records_.size() == 3; }));
  EXPECT_EQ(heard.records_[0].text, "first");
  EXPECT_EQ(heard.records_[1].text, "second");
  EXPECT_EQ(heard.records_[2].boot_us, 3000);
  EXPECT_EQ(heard.losses_, std::vector<std::uint64_t>{3}) << "12, 13 and 14";
  close(fd);  // a writer goes, another comes
  std::ofstream(path) << "6,16,4000,-;fourth\n";
  EXPECT_TRUE(heard.wait([](const Heard& h) { return h.records_.size() == 4; }));
}

TEST(KernelReader, ReadsASocketThatKeepsRecordsApart) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  const int server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(server, 1), 0);
  Heard heard;
  KernelReader reader(path, heard.events());
  const int fd = accept(server, nullptr, nullptr);
  ASSERT_GE(fd, 0);
  write_all(fd, "6,1,1000,-;one");
  write_all(fd, "6,2,2000,-;two\n KEY=value\n");
  EXPECT_TRUE(heard.wait([](const Heard& h) { return h.records_.size() == 2; }));
  close(fd);
  close(server);
}

TEST(KernelReader, SaysOnceWhyItCannotReadAndTriesAgain) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  Heard heard;
  KernelReader reader(path, heard.events());
  ASSERT_TRUE(heard.wait([](const Heard& h) { return !h.states_.empty(); }));
  EXPECT_NE(heard.states_[0].find("No such file"), std::string::npos) << heard.states_[0];
  std::ofstream(path) << "6,1,1000,-;it is here\n";
  ASSERT_TRUE(heard.wait([](const Heard& h) { return !h.records_.empty(); }));
  EXPECT_EQ(heard.states_.back(), "");
  EXPECT_EQ(heard.states_.size(), 2U) << "once each";
}

TEST(KernelReader, SurvivesARecordLongerThanAnyBuffer) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  std::ofstream(path) << "6,1,1,-;" << std::string(1 << 20, 'x') << "\n6,2,2,-;after it\n";
  Heard heard;
  KernelReader reader(path, heard.events());
  EXPECT_TRUE(
      heard.wait([](const Heard& h) { return !h.records_.empty() && h.records_.back().text == "after it"; }));
  EXPECT_FALSE(heard.losses_.empty());
}

// The kernel's clock was 250 ms behind, and nobody could know that from what lay in the log already.
TEST(KernelReader, TellsWhatIsNewAndItsTimeByOurClock) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  std::ofstream(path) << "6,1,1000000,-;from before\n";
  Heard heard;
  std::atomic<std::int64_t> now{9'000'000};
  KernelReader reader(path, heard.events(), [&] { return Arrival{now, 0}; });
  ASSERT_TRUE(heard.wait([](const Heard& h) { return h.records_.size() == 1 && !h.states_.empty(); }));
  EXPECT_FALSE(heard.live_[0]);
  EXPECT_EQ(heard.records_[0].boot_us, 1'000'000);
  now = 10'250'000;
  std::ofstream(path, std::ios::app) << "6,2,10000000,-;now\n";
  ASSERT_TRUE(heard.wait([](const Heard& h) { return h.records_.size() == 2; }));
  EXPECT_TRUE(heard.live_[1]);
  EXPECT_EQ(heard.records_[1].boot_us, 10'250'000);
}

TEST(KernelReader, EndsPromptlyWhileNothingComes) {
  Folder folder;
  const auto path = folder.path + "/kmsg";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  Heard heard;
  auto reader = std::make_unique<KernelReader>(path, heard.events());
  ASSERT_TRUE(heard.wait([](const Heard& h) { return !h.states_.empty(); }));
  const auto began = std::chrono::steady_clock::now();
  reader.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(5));
}

}  // namespace
}  // namespace tutti::node
