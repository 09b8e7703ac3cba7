// Thousands of workers against one scheduler, and what they live through, phase by phase:
//
//   join     all connect at once; over when all are welcome
//   calm     heartbeats, and whatever jobs there are
//   storm    all links break at the same moment and come back
//   trouble  one worker that reads nothing, and one that means harm
//
// Jobs: none; a closed loop of `window` jobs that wait or run (submit, run, archived, the next); or `samples`
// jobs one after the other on an idle cluster, for the time from the submission to the first word to a
// worker.
//
// Prints one JSON object per line: {"phase": …} when one begins, {"first_order": true} when a worker is told
// of a job for the first time, {"finished": …} every `report_every`, and {"result": …} at the end. Times "at"
// are CLOCK_MONOTONIC seconds, so that another process can compare. One io_context, one thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/fleet/fake_worker.h"
#include "bench/fleet/submitter.h"
#include "bench/fleet/troublemakers.h"

namespace tutti::bench {

struct FleetSettings {
  FakeWorkerSettings worker;
  std::string name = "fleet";
  int workers = 100;
  double seconds = 10;  // of each phase but the first
  bool storm = false, trouble = false;
  std::chrono::seconds join_deadline{120};
  double report_every = 0;  // seconds; 0: not

  std::string spec = R"({"name":"bench","run":"true","nodes":1,"resources":{"gpus":8}})";
  int window = 0;   // jobs in flight
  int batch = 100;  // of one submission
  int samples = 0;  // single jobs on an idle cluster
};

class Fleet {
 public:
  /// `print` gets the lines, `done` is called once, after the result: ok, or why not.
  Fleet(boost::asio::io_context& io, FleetSettings settings, std::function<void(std::string line)> print,
        std::function<void(const std::string& trouble)> done);
  ~Fleet();

  void start();
  void stop();  // without a result

 private:
  enum class Phase : std::uint8_t {
    join,
    calm,
    storm,
    trouble,
    over
  };
  struct Sample {
    Clock::time_point began;
    std::optional<double> prepare_ms, launch_ms;
  };

  void begin(Phase phase);
  void end_phase();
  void end_phase_when_all_was_tried();
  void finish(const std::string& trouble);
  void settle_phase();
  void tick();
  void report();
  void pump();
  void submit_batch(Submitter& by);
  void next_sample();
  void next_sample_soon();
  void on_prepare();
  void on_launch();
  void on_finished();
  Phase after(Phase phase) const;

  boost::asio::io_context& io_;
  FleetSettings settings_;
  FakeWorkerSettings deaf_;
  std::function<void(std::string)> print_;
  std::function<void(const std::string&)> done_;
  FleetLog log_;
  std::vector<std::shared_ptr<FakeWorker>> workers_;
  std::shared_ptr<FakeWorker> deaf_worker_;
  FleetLog deaf_log_;
  std::shared_ptr<HostileWorker> hostile_;
  std::vector<std::shared_ptr<Submitter>> submitters_;

  Phase phase_ = Phase::join;
  Clock::time_point began_{};
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // a timer that has gone off may be heard after our end
  boost::asio::steady_timer phase_timer_, tick_timer_, report_timer_, retry_timer_;
  boost::json::object result_;
  bool told_ = false;  // that the first order has come
  std::int64_t submitted_ = 0, finished_ = 0, refused_submissions_ = 0;
  std::string last_refusal_;
  std::optional<Sample> sample_;
  std::vector<double> prepare_ms_, launch_ms_;
};

}  // namespace tutti::bench
