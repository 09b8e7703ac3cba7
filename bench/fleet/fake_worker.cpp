#include "bench/fleet/fake_worker.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "api/http/link_io.h"
#include "api/wire/messages.h"

namespace tutti::bench {

using protocol::Phase;

namespace {
constexpr std::size_t kMaxBeats = 64;  // that wait for their answers
constexpr std::chrono::seconds kConnect{10};
constexpr int kLoadsEvery = 5;

std::string uuid_of(const std::string& name, int index) {
  return "GPU-" + name + "-" + std::to_string(index);
}

http::LinkOptions link_options() {
  http::LinkOptions options;
  options.idle = std::chrono::seconds(30);  // a busy generator is not to blame the scheduler
  return options;
}
}  // namespace

std::int64_t micros_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count();
}

protocol::Hello hello_of(const std::string& name, const FakeWorkerSettings& settings) {
  protocol::Hello hello;
  hello.worker_version = "fleet";
  hello.node = name;
  hello.instance = "state of " + name;
  hello.address = "127.0.0.1";
  hello.queue = settings.queue;
  hello.boot_id = settings.boot_id;
  hello.boot_us = micros_now();
  hello.cpus = 128;
  hello.memory_bytes = 1LL << 40;
  hello.kill_mode = "cgroup2";
  hello.driver = "simulated";
  hello.simulated_gpus = true;
  for (int i = 0; i < settings.gpus; ++i) {
    protocol::GpuInfo gpu;
    gpu.uuid = uuid_of(name, i);
    gpu.index = i;
    gpu.model = "H100";
    gpu.memory_bytes = 80LL << 30;
    gpu.pci = "0000:0" + std::to_string(i) + ":00.0";
    hello.gpus.push_back(std::move(gpu));
  }
  hello.health.emplace();
  return hello;
}

FakeWorker::FakeWorker(boost::asio::io_context& io, const FakeWorkerSettings& settings, FleetLog& log,
                       std::string name)
    : io_(io), settings_(settings), log_(log), name_(std::move(name)), timer_(io) {}

// ---------------------------------------------------------------- the link

void FakeWorker::start() { connect(); }

void FakeWorker::stop() {
  stopped_ = true;
  ++life_;
  timer_.cancel();
  attempts_.clear();
  if (link_) link_->abort();
  link_.reset();
}

void FakeWorker::cut() {
  if (!link_) return;  // on its way back already
  ++life_;
  link_->abort();
  link_.reset();
  again();
}

void FakeWorker::connect() {
  if (stopped_) return;
  http::LinkTarget target;
  target.host = settings_.scheduler.host;
  target.port = settings_.scheduler.port;
  target.path = "/v1/worker";
  if (!settings_.scheduler.token.empty())
    target.headers.push_back({"Authorization", "Bearer " + settings_.scheduler.token});
  http::connect_link(io_.get_executor(), std::move(target), link_options(), kConnect,
                     [weak = weak_from_this()](Result<std::shared_ptr<http::Link>> result) {
                       if (const auto self = weak.lock())
                         self->connected(std::move(result));
                       else if (result)
                         (*result)->abort();
                     });
}

void FakeWorker::connected(Result<std::shared_ptr<http::Link>> result) {
  if (stopped_) {
    if (result) (*result)->abort();
    return;
  }
  if (!result) return again();
  link_ = std::move(*result);
  const auto life = ++life_;
  link_->start(
      [weak = weak_from_this(), life](const std::string& text) {
        if (const auto self = weak.lock(); self && self->life_ == life) self->on_message(text);
      },
      [weak = weak_from_this(), life](const std::string&) {
        if (const auto self = weak.lock(); self && self->life_ == life) self->lost();
      });
  say_hello();
}

void FakeWorker::lost() {
  ++life_;
  ++log_.counts.links_lost;
  link_.reset();
  again();
}

void FakeWorker::again() {
  welcomed_ = false;
  beats_.clear();
  timer_.expires_after(settings_.back_off);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    if (const auto self = weak.lock(); self && !ec) self->connect();
  });
}

void FakeWorker::say(const protocol::FromWorker& message) {
  if (link_) (void)link_->send(wire::encode(message));  // false: the end of the link follows
}

void FakeWorker::say_hello() {
  protocol::Hello hello = hello_of(name_, settings_);
  for (const auto& [key, attempt] : attempts_) hello.attempts.push_back(attempt.status);
  hello_at_ = Clock::now();
  say(hello);
}

// ---------------------------------------------------------------- heartbeats and the lease

void FakeWorker::beat() {
  protocol::Heartbeat heartbeat;
  heartbeat.seq = ++seq_;
  heartbeat.wall_us = std::chrono::duration_cast<std::chrono::microseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  if (settings_.loads && seq_ % kLoadsEvery == 0) {
    heartbeat.loads.emplace();
    for (int i = 0; i < settings_.gpus; ++i)
      heartbeat.loads->push_back({.uuid = uuid_of(name_, i),
                                  .utilisation_percent = static_cast<std::int32_t>(seq_ % 100),
                                  .memory_bytes = 40LL << 30,
                                  .power_mw = 500'000,
                                  .temperature_c = 60});
  }
  const auto now = Clock::now();
  if (beats_.size() >= kMaxBeats) beats_.pop_front();
  beats_.emplace_back(seq_, now);
  say(heartbeat);
  timer_.expires_at(std::max(timer_.expiry() + heartbeat_, now));  // no drift, and no burst after a stall
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    if (const auto self = weak.lock(); self && !ec && self->welcomed_) self->beat();
  });
}

void FakeWorker::renew(Clock::time_point sent_at) {
  const auto now = Clock::now();
  check_lease(now);
  lease_until_ = std::max(lease_until_, sent_at + lease_);
  if (now < lease_until_) lapsed_ = false;
}

void FakeWorker::check_lease(Clock::time_point now) {
  if (lapsed_ || lease_until_ == Clock::time_point{} || now < lease_until_) return;
  lapsed_ = true;
  ++log_.counts.lapsed;
}

void FakeWorker::on(const protocol::HeartbeatAck& m) {
  while (!beats_.empty() && beats_.front().first < m.seq) beats_.pop_front();
  if (beats_.empty() || beats_.front().first != m.seq) return;
  const auto sent_at = beats_.front().second;
  beats_.pop_front();
  log_.counts.ack_ms.push_back(std::chrono::duration<float, std::milli>(Clock::now() - sent_at).count());
  renew(sent_at);
}

void FakeWorker::on(const protocol::Welcome& m) {
  lease_ = std::chrono::microseconds(m.lease_us);
  heartbeat_ = std::chrono::microseconds(m.heartbeat_us);
  renew(hello_at_);
  for (auto& [key, attempt] : attempts_)
    if (attempt.status.phase != Phase::ended && std::ranges::find(m.keep, key) == m.keep.end())
      end(key, false, "cgroup");
  if (std::exchange(welcomed_, true)) return;  // the second, behind the commit
  ++log_.counts.welcomes;
  // Workers that have come at different times beat at different times; those that come back do so as they
  // come, all at once after a storm.
  const auto number = static_cast<std::int64_t>(std::hash<std::string>{}(name_) % 1000);
  timer_.expires_after(seq_ == 0 ? heartbeat_ * number / 1000 : heartbeat_);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    if (const auto self = weak.lock(); self && !ec && self->welcomed_) self->beat();
  });
  if (settings_.deaf) link_->hold(true);
  if (log_.on_welcome) log_.on_welcome();
}

// ---------------------------------------------------------------- attempts

void FakeWorker::on_message(const std::string& text) {
  const Result<protocol::ToWorker> message = wire::decode_to_worker(text);
  if (!message) {
    ++log_.counts.refused;
    return;
  }
  std::visit(
      [this](const auto& m) {
        using Message = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<Message, protocol::Refused>)
          ++log_.counts.refused;
        else if constexpr (requires { on(m); })
          on(m);  // what is not here no fleet is asked for: logs, shells, signals, checkpoints
      },
      *message);
}

void FakeWorker::on(const protocol::Prepare& m) {
  auto [it, fresh] = attempts_.try_emplace(m.key);
  Attempt& attempt = it->second;
  if (fresh) {
    ++log_.counts.prepared;
    attempt.first = m.index == 0;
    attempt.status.key = m.key;
    if (attempt.first && log_.on_prepare) log_.on_prepare();
    say(attempt.status);
    attempt.status.phase = Phase::ready;
    attempt.status.agent_port = 4000;
    if (attempt.first) attempt.status.master_port = 4001;
  }
  say(attempt.status);
}

void FakeWorker::on(const protocol::Launch& m) {
  const auto it = attempts_.find(m.key);
  if (it == attempts_.end()) return end(m.key, false, "never started");
  Attempt& attempt = it->second;
  if (attempt.status.phase != Phase::ready) return say(attempt.status);
  if (attempt.first && log_.on_launch) log_.on_launch();
  attempt.status.phase = Phase::launched;
  say(attempt.status);
  attempt.status.phase = Phase::running;
  say(attempt.status);
  attempt.timer = std::make_unique<boost::asio::steady_timer>(io_, settings_.run);
  attempt.timer->async_wait([weak = weak_from_this(), key = m.key](boost::system::error_code ec) {
    if (const auto self = weak.lock(); self && !ec) self->end(key, true, "cgroup");
  });
}

void FakeWorker::on(const protocol::Stop& m) {
  ++log_.counts.stopped;
  const auto it = attempts_.find(m.key);
  if (it != attempts_.end() && it->second.status.phase == Phase::ended) return say(it->second.status);
  end(m.key, false, it == attempts_.end() ? "never started" : "cgroup");
}

void FakeWorker::end(AttemptKey key, bool ok, const char* how) {
  const auto it = attempts_.find(key);
  if (ok && it == attempts_.end()) return;
  Attempt& attempt = it != attempts_.end() ? it->second : attempts_[key];
  attempt.timer.reset();
  attempt.status.key = key;
  attempt.status.phase = Phase::ended;
  attempt.status.end = protocol::End{.ok = ok, .proven = true, .how = how, .boot_us = micros_now()};
  say(attempt.status);
}

void FakeWorker::on(const protocol::Forget& m) {
  const auto it = attempts_.find(m.key);
  if (it == attempts_.end()) return;
  const auto& status = it->second.status;
  const bool well = it->second.first && status.end && status.end->ok;
  attempts_.erase(it);
  if (!well) return;
  ++log_.counts.finished;
  if (log_.on_finished) log_.on_finished();
}

void FakeWorker::on(const protocol::Inspect& m) {
  protocol::InspectionReport report;
  report.request = m.request;
  report.trigger = m.trigger;
  protocol::CheckResult check;
  check.name = "gpus";
  check.owner = "hardware";
  check.result = "ok";
  report.checks.push_back(std::move(check));
  say(report);
}

void FakeWorker::on(const protocol::AskSilence& m) {
  protocol::PeerSilence answer;  // of no length: it proves nothing
  answer.request = m.request;
  answer.key = m.key;
  answer.node = m.node;
  say(answer);
}

}  // namespace tutti::bench
