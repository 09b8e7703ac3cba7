// A scheduler that runs out of memory in the middle of a submission: every allocation of its control thread
// fails in turn, from the accepting of the connection to the last byte of the answer. It goes on, or it ends
// and another one takes over; either way a client that repeats what was not answered gets its job once.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <new>
#include <numeric>
#include <thread>

#include "api/access/identity.h"
#include "api/handlers/routes.h"
#include "api/http/client.h"
#include "api/http/server.h"
#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"
#include "scheduler/service/leader.h"
#include "tests/support/failing_new.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;

struct NoWorkers : WorkerMessages {
  void deliver(Effect) override {}
  void resync(const std::vector<NodeRow>&) override {}
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}
};

// One scheduler, on a thread of its own. ended(): std::bad_alloc has left its loop, where the program ends.
class Scheduler {
 public:
  explicit Scheduler(std::shared_ptr<db::MemoryDatabase> database)
      : store_(std::make_unique<StoreThread>(io_.get_executor(), std::make_unique<db::MemoryStore>(database),
                                             std::make_shared<db::MemoryReader>(database), 1)),
        leader_(io_.get_executor(), LeaderSettings{}, *store_, leases_, metrics_) {
    add_routes(router_, leader_, {});
    http::Hooks hooks;
    hooks.before = [](http::Request& request) -> std::optional<http::Response> {
      Identity who;
      who.kind = Identity::Kind::user;
      who.owner = who.name = "ann";
      who.roles = {{std::string(kEverywhere), Role::admin}};
      who.scopes = kAllScopes;
      request.identity = who;
      return std::nullopt;
    };
    http::ServerConfig config;
    config.serial_executor = true;
    server_ = std::make_unique<http::HttpServer>(io_.get_executor(), config, router_, std::move(hooks));
    server_->start();
    leader_.start(workers_, [](const std::string&) {});
    thread_ = std::thread([this] { run(); });
    const auto until = soon();
    while (!ask<bool>([this] { return leader_.plane() != nullptr; }))
      if (std::chrono::steady_clock::now() > until) throw std::runtime_error("it does not take the lead");
  }

  bool ended() const { return ended_; }
  std::uint16_t port() const { return server_->port(); }

  // On its thread.
  template <class T>
  T ask(std::function<T()> question) {
    std::promise<T> answer;
    boost::asio::post(io_, [&] { answer.set_value(question()); });
    return answer.get_future().get();
  }
  std::string broken() {
    return ask<std::string>([this] {
      std::string why;
      if (leader_.plane() == nullptr) return std::string("it does not lead");
      return leader_.plane()->invariants_hold(&why) ? std::string() : why;
    });
  }

  // What comes back, whole or cut off. Its thread has stopped failing when this returns.
  std::string post(const std::string& request, std::int64_t failing_allocation, bool& has_failed) {
    auto socket = http::ByteSocket::connect("127.0.0.1", port(), soon());
    client_ = socket.fd();
    ask<int>([&] { return test::fail_allocation(failing_allocation), 0; });
    std::string bytes;
    const auto until = soon();
    try {
      socket.send(request, until);
      while (socket.receive(bytes, until)) {
      }
    } catch (const std::runtime_error&) {  // cut off; but nobody is to be left without a word
      if (std::chrono::steady_clock::now() >= until) throw;
    }
    client_ = -1;
    // It may have come to its end at this very moment.
    std::promise<bool> failed;
    boost::asio::post(io_, [&] { failed.set_value(test::stop_failing()); });
    auto answer = failed.get_future();
    while (answer.wait_for(1ms) != std::future_status::ready && !ended_) {
    }
    has_failed = ended_ || answer.get();
    return bytes;
  }

  // After its end, as that of a process: the session with the database is gone, nothing else is torn down.
  void bury() {
    thread_.join();
    store_.reset();
  }
  void stop() {
    std::promise<void> closed, stopped;
    boost::asio::post(io_, [&] {
      server_->stop([&] { closed.set_value(); });
      leader_.stop([&] { stopped.set_value(); });
    });
    closed.get_future().get();
    stopped.get_future().get();
    guard_.reset();
    thread_.join();
  }

 private:
  static http::ByteSocket::Deadline soon() { return std::chrono::steady_clock::now() + 10s; }
  void run() {
    try {
      io_.run();
      return;
    } catch (const std::bad_alloc&) {
      test::stop_failing();
    }
    ended_ = true;
    if (const int fd = client_; fd >= 0) ::shutdown(fd, SHUT_RDWR);  // as the kernel does for a process
  }

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{io_.get_executor()};
  LeaseTable leases_{LeaseSettings{}};
  Metrics metrics_;
  NoWorkers workers_;
  std::unique_ptr<StoreThread> store_;
  Leader leader_;
  http::Router router_;
  std::unique_ptr<http::HttpServer> server_;
  std::thread thread_;
  std::atomic<bool> ended_ = false;
  std::atomic<int> client_ = -1;
};

std::string submission(const std::string& key) {
  const std::string body = R"({"name":"j","run":"true"})";
  return "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
         "Idempotency-Key: " +
         key + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// 0: there is no answer, the connection was cut off.
int status_of(const std::string& bytes) { return bytes.size() < 12 ? 0 : std::stoi(bytes.substr(9, 3)); }

// Each scheduler that has ended keeps its descriptors here, which a process would not.
void allow_many_files() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

TEST(NoMemory, SubmissionIsRefusedOrTheSchedulerEndsAndRepeatedItHappensOnce) {
  spdlog::set_level(spdlog::level::off);
  allow_many_files();
  static auto& buried = *new std::vector<std::unique_ptr<Scheduler>>();
  const auto database = std::make_shared<db::MemoryDatabase>();
  db::MemoryReader reader(database);
  auto scheduler = std::make_unique<Scheduler>(database);
  int submitted = 0, refused = 0;
  for (std::int64_t nth = 0; !HasFailure(); nth = test::next_allocation(nth)) {
    SCOPED_TRACE("allocation " + std::to_string(nth));
    const std::string key = "key-" + std::to_string(nth);
    bool failed = false, never = false;
    const std::string answer = scheduler->post(submission(key), nth, failed);
    ++submitted;
    if (const int status = status_of(answer); status != 0 && status != 201) {
      EXPECT_EQ(status, 503) << answer;
      EXPECT_NE(answer.find("application/problem+json"), answer.npos) << answer;
      EXPECT_NE(answer.find("memory"), answer.npos) << answer;
      ++refused;
    }
    if (scheduler->ended()) {
      scheduler->bury();
      buried.push_back(std::move(scheduler));
      scheduler = std::make_unique<Scheduler>(database);
    }
    const std::string again = scheduler->post(submission(key), -1, never);
    EXPECT_EQ(status_of(again), 201) << again;
    EXPECT_EQ(scheduler->broken(), "");
    EXPECT_TRUE(reader.find_by_key("ann", key).has_value());
    if (!failed) break;
  }
  const StateCounts jobs = reader.count_by_state();
  EXPECT_EQ(std::accumulate(jobs.begin(), jobs.end(), std::int64_t{0}), submitted) << "once each";
  EXPECT_GT(refused, 10) << "this test has lost its subject";
  EXPECT_GT(buried.size(), 10u) << "likewise";
  if (!scheduler->ended()) scheduler->stop();
}

}  // namespace
}  // namespace tutti
