// The service manager hears of us while commands go through the leader, and no longer when a commit hangs.
#include "scheduler/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"

namespace tutti {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

// Commits wait while it is shut.
class Gate : public Store {
 public:
  explicit Gate(std::shared_ptr<db::MemoryDatabase> database) : inner_(std::move(database)) {}
  void introduce(LeaderCard card) override { inner_.introduce(std::move(card)); }
  Term acquire_leadership(const std::string& holder) override { return inner_.acquire_leadership(holder); }
  Duration predecessors_renew() override { return inner_.predecessors_renew(); }
  std::vector<std::string> predecessor_urls() override { return inner_.predecessor_urls(); }
  void resign() noexcept override { inner_.resign(); }
  void prove_leadership() override { commit({}); }
  Snapshot load() override {
    const std::unique_lock lock(mutex_);
    if (!reachable) throw StoreError(StoreError::unavailable, "down");
    return inner_.load();
  }
  void commit(const Batch& batch) override {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    waiting_ = false;
    inner_.commit(batch);
  }
  bool healthy() noexcept override { return true; }
  void set_open(bool open) {
    const std::unique_lock lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  bool wait_for_commit() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return waiting_; });
  }
  std::atomic<bool> reachable{true};

 private:
  db::MemoryStore inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true, waiting_ = false;
};

struct NoWorkers : WorkerMessages {
  void deliver(Effect) override {}
  void resync(const std::vector<NodeRow>&) override {}
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}
};

struct WatchdogTest : ::testing::Test {
  std::string path =
      (std::filesystem::temp_directory_path() / ("tutti-dog-" + std::to_string(::getpid()))).string();
  int fd = -1;
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  Gate* gate = nullptr;
  boost::asio::io_context io{1};
  LeaseTable leases{LeaseSettings{}};
  Metrics metrics;
  NoWorkers workers;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::unique_ptr<daemon::ServiceManager> manager;
  std::unique_ptr<Watchdog> watchdog;

  void SetUp() override {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ASSERT_LT(path.size(), sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "40000", 1);
    manager = std::make_unique<daemon::ServiceManager>();
    auto gated = std::make_unique<Gate>(database);
    gate = gated.get();
    store = std::make_unique<StoreThread>(io.get_executor(), std::move(gated),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
  }
  void start() {
    leader->start(workers, [](const std::string&) {});
    watchdog = std::make_unique<Watchdog>(io, *manager, *leader);
  }
  void TearDown() override {
    if (watchdog) watchdog->stop();
    gate->set_open(true);
    gate->reachable = true;
    bool stopped = false;
    leader->stop([&] { stopped = true; });
    until([&] { return stopped; });
    store.reset();
    ::close(fd);
    std::filesystem::remove(path);
  }
  template <class F>
  void until(F condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
  // How often we have said that we live since the last look.
  int said() {
    char text[4096];
    int times = 0;
    for (ssize_t n = ::recv(fd, text, sizeof text, 0); n > 0; n = ::recv(fd, text, sizeof text, 0))
      if (std::string(text, static_cast<std::size_t>(n)) == "WATCHDOG=1\n") ++times;
    return times;
  }
};

TEST_F(WatchdogTest, IsFedWhileCommandsGoThrough) {
  start();
  until([&] { return leader->plane() != nullptr; });
  (void)said();
  int times = 0;
  until([&] { return (times += said()) >= 3; });
}

TEST_F(WatchdogTest, IsFedWhileTheRowsCannotBeRead) {
  gate->reachable = false;
  start();
  int times = 0;
  until([&] { return (times += said()) >= 3; });
  EXPECT_EQ(leader->plane(), nullptr);
}

TEST_F(WatchdogTest, IsNotFedWhileACommitHangsThoughTimersGoOff) {
  start();
  until([&] { return leader->plane() != nullptr; });
  gate->set_open(false);
  auto spec = std::make_shared<JobSpec>();
  spec->name = "j";
  spec->run = "true";
  leader->submit({{.spec = spec,
                   .spec_json = R"({"name":"j","run":"true"})",
                   .owner = "ada",
                   .idempotency_key = "",
                   .body_hash = 7}},
                 [](std::vector<Result<Submitted>>) {});
  io.poll();
  ASSERT_TRUE(gate->wait_for_commit());
  (void)said();
  // Ten of its rounds on the same thread, of which none may say anything.
  int rounds = 0;
  boost::asio::steady_timer timer(io);
  const std::function<void()> round = [&] {
    timer.expires_after(std::chrono::milliseconds(10));
    timer.async_wait([&](boost::system::error_code) {
      if (++rounds < 10) round();
    });
  };
  round();
  until([&] { return rounds == 10; });
  EXPECT_EQ(said(), 0);
  gate->set_open(true);
  int times = 0;
  until([&] { return (times += said()) >= 2; });
}

}  // namespace
}  // namespace tutti
