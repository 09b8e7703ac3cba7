// A worker without a machine: speaks the real protocol (api/wire over WebSocket) with a real scheduler, and
// runs attempts by letting their time pass. Thousands of them live in one process on one thread.
//
// Made by: Fleet. One io_context, one thread.
// Invariants: (1) an attempt it was told of is in every Hello until it is forgotten; (2) what it was not told
// to run it says it has never started; (3) its lease runs from the sending of what was acknowledged, as a
// worker's does. It holds no gang leases (its Hello names no port for peers), and when its lease lapses that
// is counted and nothing is killed: the count is the finding.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/http/link.h"
#include "scheduler/model/error.h"
#include "scheduler/model/protocol.h"

namespace tutti::bench {

using Clock = std::chrono::steady_clock;

struct SchedulerAddress {
  std::string host = "127.0.0.1";
  std::uint16_t port = 7070;
  std::string token;
};

struct FakeWorkerSettings {
  SchedulerAddress scheduler;
  std::string queue = "default";
  std::string boot_id;  // another one: its attempts of before are gone
  int gpus = 8;
  std::chrono::milliseconds run{200};       // of an attempt, from its launch to its end
  std::chrono::milliseconds back_off{100};  // between a lost link and the next
  bool loads = false;                       // every fifth heartbeat says what the GPUs do, as real ones do
  bool deaf = false;                        // reads nothing once it is welcome, and goes on beating
};

/// What a fleet has lived through since somebody last looked.
struct FleetCounts {
  std::int64_t welcomes = 0, refused = 0, links_lost = 0, lapsed = 0;
  std::int64_t prepared = 0, stopped = 0, finished = 0;  // parts of attempts; finished: whole attempts, well
  std::vector<float> ack_ms;                             // from a heartbeat to its acknowledgement
};

struct FleetLog {
  FleetCounts counts;
  std::function<void()> on_welcome, on_prepare, on_launch, on_finished;  // may be empty
};

class FakeWorker : public std::enable_shared_from_this<FakeWorker> {
 public:
  FakeWorker(boost::asio::io_context& io, const FakeWorkerSettings& settings, FleetLog& log,
             std::string name);

  void start();  // connects, and from then on whenever the link is lost
  void stop();   // for good
  void cut();    // the link breaks, and it comes back after its back-off
  void check_lease(Clock::time_point now);
  bool welcome() const { return welcomed_; }
  const std::string& name() const { return name_; }

 private:
  struct Attempt {
    protocol::AttemptStatus status;
    bool first = false;  // of the gang: it counts for all
    std::unique_ptr<boost::asio::steady_timer> timer;
  };

  void connect();
  void connected(Result<std::shared_ptr<http::Link>> result);
  void lost();
  void again();
  void say(const protocol::FromWorker& message);
  void say_hello();
  void beat();
  void on_message(const std::string& text);
  void on(const protocol::Welcome& m);
  void on(const protocol::HeartbeatAck& m);
  void on(const protocol::Prepare& m);
  void on(const protocol::Launch& m);
  void on(const protocol::Stop& m);
  void on(const protocol::Forget& m);
  void on(const protocol::Inspect& m);
  void on(const protocol::AskSilence& m);
  void end(AttemptKey key, bool ok, const char* how);
  void renew(Clock::time_point sent_at);

  boost::asio::io_context& io_;
  const FakeWorkerSettings& settings_;
  FleetLog& log_;
  std::string name_;
  boost::asio::steady_timer timer_;  // the back-off, then the heartbeats
  std::shared_ptr<http::Link> link_;
  std::int64_t life_ = 0;  // callbacks of a former link know by it that they are late
  bool stopped_ = false, welcomed_ = false, lapsed_ = false;
  std::map<AttemptKey, Attempt> attempts_;

  Clock::time_point hello_at_, lease_until_{};
  Clock::duration lease_{}, heartbeat_{};
  std::int64_t seq_ = 0;
  std::deque<std::pair<std::int64_t, Clock::time_point>> beats_;  // without an answer
};

/// CLOCK_BOOTTIME is not needed here: nothing but differences is looked at.
std::int64_t micros_now();
protocol::Hello hello_of(const std::string& name, const FakeWorkerSettings& settings);

}  // namespace tutti::bench
