#include "bench/fleet/fleet.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <utility>

namespace tutti::bench {

namespace json = boost::json;

namespace {
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kRetry{100};   // of a submission that was not accepted
constexpr std::chrono::milliseconds kBetween{10};  // samples on an idle cluster
constexpr std::chrono::seconds kSampleDeadline{30};
constexpr std::chrono::seconds kTrouble{60};  // at most, unless it was to last longer anyway
constexpr std::size_t kSubmitters = 4;

double seconds_of(Clock::time_point t) { return std::chrono::duration<double>(t.time_since_epoch()).count(); }

double ms_since(Clock::time_point t) {
  return std::chrono::duration<double, std::milli>(Clock::now() - t).count();
}

Clock::duration from_seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// {"n", "p50_ms", "p99_ms", "max_ms"}
template <class T>
json::object quantiles(std::vector<T> values) {
  std::ranges::sort(values);
  const auto at = [&](double q) {
    return values.empty() ? 0.0
                          : static_cast<double>(
                                values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))]);
  };
  return {{"n", values.size()}, {"p50_ms", at(0.5)}, {"p99_ms", at(0.99)}, {"max_ms", at(1)}};
}
}  // namespace

Fleet::Fleet(boost::asio::io_context& io, FleetSettings settings, std::function<void(std::string)> print,
             std::function<void(const std::string&)> done)
    : io_(io),
      settings_(std::move(settings)),
      deaf_(settings_.worker),
      print_(std::move(print)),
      done_(std::move(done)),
      phase_timer_(io),
      tick_timer_(io),
      report_timer_(io),
      retry_timer_(io) {
  deaf_.queue = "deaf";  // it is to get no jobs
  deaf_.deaf = true;
  log_.on_prepare = [this] { on_prepare(); };
  log_.on_launch = [this] { on_launch(); };
  log_.on_finished = [this] { on_finished(); };
  log_.on_welcome = [this] {
    if (phase_ == Phase::join && std::ranges::all_of(workers_, [](const auto& w) { return w->welcome(); }))
      end_phase();
  };
}

Fleet::~Fleet() { stop(); }

void Fleet::start() {
  for (int i = 0; i < settings_.workers; ++i)
    workers_.push_back(
        std::make_shared<FakeWorker>(io_, settings_.worker, log_, settings_.name + "-" + std::to_string(i)));
  for (std::size_t i = 0; i < (settings_.window > 0 ? kSubmitters : 1); ++i)
    submitters_.push_back(std::make_shared<Submitter>(io_, settings_.worker.scheduler));
  begin(Phase::join);
  for (const auto& worker : workers_) worker->start();
  tick();
  report();
}

void Fleet::stop() {
  for (auto* timer : {&phase_timer_, &tick_timer_, &report_timer_, &retry_timer_}) timer->cancel();
  for (const auto& worker : workers_) worker->stop();
  if (deaf_worker_) deaf_worker_->stop();
  if (hostile_) hostile_->stop();
  for (const auto& submitter : submitters_) submitter->stop();
  phase_ = Phase::over;
}

// ---------------------------------------------------------------- phases

Fleet::Phase Fleet::after(Phase phase) const {
  switch (phase) {
    case Phase::join: return Phase::calm;
    case Phase::calm: return settings_.storm ? Phase::storm : after(Phase::storm);
    case Phase::storm: return settings_.trouble ? Phase::trouble : Phase::over;
    case Phase::trouble:
    case Phase::over: return Phase::over;
  }
  return Phase::over;
}

void Fleet::begin(Phase phase) {
  static constexpr const char* kNames[] = {"join", "calm", "storm", "trouble", "over"};
  phase_ = phase;
  began_ = Clock::now();
  log_.counts = {};
  print_(json::serialize(
      json::object{{"phase", kNames[static_cast<std::size_t>(phase)]}, {"at", seconds_of(began_)}}));
  switch (phase) {
    case Phase::join: break;
    case Phase::calm:
      if (settings_.samples > 0) return next_sample();
      pump();
      break;
    case Phase::storm:
      for (const auto& worker : workers_) worker->cut();
      break;
    case Phase::trouble:
      deaf_worker_ = std::make_shared<FakeWorker>(io_, deaf_, deaf_log_, settings_.name + "-deaf");
      deaf_worker_->start();
      hostile_ = std::make_shared<HostileWorker>(io_, settings_.worker, workers_.front()->name());
      hostile_->start();
      break;
    case Phase::over: return finish("");
  }
  phase_timer_.expires_after(phase == Phase::join ? settings_.join_deadline
                                                  : from_seconds(settings_.seconds));
  phase_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
    if (ec || alive.expired()) return;
    if (phase_ != Phase::join) return end_phase_when_all_was_tried();
    const auto here = std::ranges::count_if(workers_, [](const auto& w) { return w->welcome(); });
    finish("only " + std::to_string(here) + " of " + std::to_string(workers_.size()) +
           " workers were welcome in time");
  });
}

void Fleet::settle_phase() {
  static constexpr const char* kNames[] = {"join", "calm", "storm", "trouble", "over"};
  const FleetCounts& c = log_.counts;
  json::object o{{"seconds", std::chrono::duration<double>(Clock::now() - began_).count()},
                 {"heartbeats", quantiles(c.ack_ms)},
                 {"welcomes", c.welcomes},
                 {"links_lost", c.links_lost},
                 {"leases_lapsed", c.lapsed},
                 {"refused", c.refused},
                 {"parts_prepared", c.prepared},
                 {"parts_stopped", c.stopped},
                 {"jobs_finished", c.finished}};
  if (phase_ == Phase::storm || phase_ == Phase::trouble)
    o["not_back"] = std::ranges::count_if(workers_, [](const auto& w) { return !w->welcome(); });
  if (hostile_) {
    json::object attacks;
    for (const auto& [attack, outcome] : hostile_->outcomes())
      attacks[HostileWorker::name(attack)] = {{"made", outcome.made}, {"unanswered", outcome.unanswered}};
    o["attacks"] = std::move(attacks);
    o["deaf_links_lost"] = deaf_log_.counts.links_lost;
  }
  result_[kNames[static_cast<std::size_t>(phase_)]] = std::move(o);
}

// Each attack's turn has come once, on a slow machine as well.
void Fleet::end_phase_when_all_was_tried() {
  const bool tried = phase_ != Phase::trouble || hostile_->outcomes().size() == HostileWorker::kAttacks;
  if (tried || Clock::now() > began_ + kTrouble) return end_phase();
  phase_timer_.expires_after(kTick);
  phase_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) end_phase_when_all_was_tried();
  });
}

void Fleet::end_phase() {
  phase_timer_.cancel();
  settle_phase();
  begin(after(phase_));
}

void Fleet::finish(const std::string& trouble) {
  if (!done_) return;
  stop();
  result_["workers"] = settings_.workers;
  result_["submitted"] = submitted_;
  result_["finished"] = finished_;
  result_["submissions_refused"] = refused_submissions_;
  if (!last_refusal_.empty()) result_["last_refusal"] = last_refusal_;
  if (settings_.samples > 0) {
    result_["submit_to_prepare"] = quantiles(prepare_ms_);
    result_["submit_to_launch"] = quantiles(launch_ms_);
  }
  print_(json::serialize(json::object{{"result", result_}}));
  std::exchange(done_, nullptr)(trouble);
}

// ---------------------------------------------------------------- clocks

void Fleet::tick() {
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
    if (ec || alive.expired() || phase_ == Phase::over) return;
    const auto now = Clock::now();
    for (const auto& worker : workers_) worker->check_lease(now);
    if (sample_ && now > sample_->began + kSampleDeadline)
      return finish("a job on an idle cluster did not end within " + std::to_string(kSampleDeadline.count()) +
                    " s" + (last_refusal_.empty() ? "" : ": " + last_refusal_));
    tick();
  });
}

void Fleet::report() {
  if (settings_.report_every <= 0) return;
  report_timer_.expires_after(from_seconds(settings_.report_every));
  report_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
    if (ec || alive.expired() || phase_ == Phase::over) return;
    print_(json::serialize(json::object{{"finished", finished_},
                                        {"submitted", submitted_},
                                        {"refused", refused_submissions_},
                                        {"at", seconds_of(Clock::now())}}));
    report();
  });
}

// ---------------------------------------------------------------- jobs

void Fleet::pump() {
  if (settings_.window == 0 || phase_ == Phase::join || phase_ == Phase::over) return;
  for (const auto& by : submitters_)
    if (!by->busy() && submitted_ - finished_ + settings_.batch <= settings_.window) submit_batch(*by);
}

void Fleet::submit_batch(Submitter& by) {
  const int jobs = settings_.batch;
  submitted_ += jobs;
  by.submit(settings_.spec, jobs, [this, jobs](const std::string& trouble) {
    if (trouble.empty()) return pump();
    submitted_ -= jobs;
    refused_submissions_ += jobs;
    last_refusal_ = trouble;
    retry_timer_.expires_after(kRetry);
    retry_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
      if (!ec && !alive.expired()) pump();
    });
  });
}

void Fleet::next_sample() {
  if (phase_ == Phase::over) return;
  if (prepare_ms_.size() >= static_cast<std::size_t>(settings_.samples)) return end_phase();
  sample_ = Sample{.began = Clock::now(), .prepare_ms = {}, .launch_ms = {}};
  ++submitted_;
  submitters_.front()->submit(settings_.spec, 1, [this](const std::string& trouble) {
    if (trouble.empty()) return;
    last_refusal_ = trouble;
    finish("a submission was not accepted: " + trouble);
  });
}

void Fleet::on_prepare() {
  if (!std::exchange(told_, true))
    print_(json::serialize(json::object{{"first_order", true}, {"at", seconds_of(Clock::now())}}));
  if (sample_ && !sample_->prepare_ms) sample_->prepare_ms = ms_since(sample_->began);
}

void Fleet::on_launch() {
  if (sample_ && !sample_->launch_ms) sample_->launch_ms = ms_since(sample_->began);
}

void Fleet::on_finished() {
  ++finished_;
  if (!sample_) return pump();
  if (sample_->prepare_ms) prepare_ms_.push_back(*sample_->prepare_ms);
  if (sample_->launch_ms) launch_ms_.push_back(*sample_->launch_ms);
  sample_.reset();
  next_sample_soon();
}

// The answer to the submission may come behind the end of the job.
void Fleet::next_sample_soon() {
  retry_timer_.expires_after(kBetween);
  retry_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
    if (ec || alive.expired()) return;
    if (submitters_.front()->busy()) return next_sample_soon();
    next_sample();
  });
}

}  // namespace tutti::bench
