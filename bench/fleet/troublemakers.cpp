#include "bench/fleet/troublemakers.h"

#include <utility>
#include <variant>

#include "api/http/link_io.h"
#include "api/wire/messages.h"

namespace tutti::bench {

namespace {
constexpr std::chrono::seconds kConnect{10};
constexpr std::chrono::seconds kPatience{
    20};  // for the scheduler to refuse it: with sanitizers 8 MiB take 4 s
constexpr std::chrono::milliseconds kAttackFor{500};  // with what need not be refused
constexpr std::chrono::milliseconds kPause{50};
constexpr int kFlood = 1000;
}  // namespace

const char* HostileWorker::name(Attack attack) {
  static constexpr const char* kNames[] = {"garbage",    "oversized",       "before_hello", "old_protocol",
                                           "taken_name", "others_attempts", "flood"};
  return kNames[static_cast<std::size_t>(attack)];
}

HostileWorker::HostileWorker(boost::asio::io_context& io, const FakeWorkerSettings& settings,
                             std::string victim)
    : io_(io), settings_(settings), victim_(std::move(victim)), timer_(io) {
  settings_.queue = "hostile";  // it is to get no jobs: what it does to them is no news
}

void HostileWorker::start() { attack(); }

void HostileWorker::stop() {
  stopped_ = true;
  ++life_;
  timer_.cancel();
  if (link_) link_->abort();
  link_.reset();
}

void HostileWorker::attack() {
  if (stopped_) return;
  http::LinkTarget target;
  target.host = settings_.scheduler.host;
  target.port = settings_.scheduler.port;
  target.path = "/v1/worker";
  if (!settings_.scheduler.token.empty())
    target.headers.push_back({"Authorization", "Bearer " + settings_.scheduler.token});
  http::LinkOptions options;
  options.idle = kPatience * 4;
  options.max_queued_bytes = wire::kMaxMessageBytes * 4;
  http::connect_link(io_.get_executor(), std::move(target), options, kConnect,
                     [weak = weak_from_this()](Result<std::shared_ptr<http::Link>> result) {
                       if (const auto self = weak.lock())
                         self->connected(std::move(result));
                       else if (result)
                         (*result)->abort();
                     });
}

void HostileWorker::connected(Result<std::shared_ptr<http::Link>> result) {
  if (stopped_) {
    if (result) (*result)->abort();
    return;
  }
  if (!result) {  // the scheduler is away, which is no answer
    timer_.expires_after(kPause);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
      if (const auto self = weak.lock(); self && !ec) self->attack();
    });
    return;
  }
  link_ = std::move(*result);
  const auto life = ++life_;
  link_->start(
      [weak = weak_from_this(), life](const std::string& text) {
        if (const auto self = weak.lock(); self && self->life_ == life) self->on_message(text);
      },
      [weak = weak_from_this(), life](const std::string&) {
        if (const auto self = weak.lock(); self && self->life_ == life) self->over(true);
      });
  ++outcomes_[attack_].made;
  timer_.expires_after(to_be_refused() ? std::chrono::milliseconds(kPatience) : kAttackFor);
  timer_.async_wait([weak = weak_from_this(), life](boost::system::error_code ec) {
    const auto self = weak.lock();
    if (self && !ec && self->life_ == life) self->over(!self->to_be_refused());
  });
  begin();
}

void HostileWorker::begin() {
  protocol::Hello hello = hello_of("hostile-0", settings_);
  hello.gpus.clear();
  switch (attack_) {
    case Attack::garbage: link_->send("\x01\x02 {\"type\": nothing of this kind"); return;
    case Attack::oversized: link_->send(std::string(wire::kMaxMessageBytes + 1, 'x')); return;
    case Attack::before_hello: return say(protocol::Heartbeat{.seq = 1});
    case Attack::old_protocol: hello.protocol = 99; break;
    case Attack::taken_name:
      hello = hello_of(victim_, settings_);
      hello.instance = "another machine";
      hello.boot_id = "another boot";
      break;
    case Attack::others_attempts:
    case Attack::flood: break;
  }
  say(hello);
}

void HostileWorker::on_message(const std::string& text) {
  const auto message = wire::decode_to_worker(text);
  if (!message) return;
  if (std::holds_alternative<protocol::Refused>(*message)) return over(true);
  if (!std::holds_alternative<protocol::Welcome>(*message)) return;
  if (to_be_refused()) return over(false);  // it is welcome as somebody else
  if (attack_ == Attack::others_attempts) return claim_attempts();
  for (std::int64_t i = 1; i <= kFlood; ++i) say(protocol::Heartbeat{.seq = i});
}

// The first jobs of a cluster, and such as cannot be: ended well, and failed.
void HostileWorker::claim_attempts() {
  for (std::int64_t i = 1; i <= kFlood; ++i) {
    protocol::AttemptStatus status;
    status.key = {JobId(i), Epoch(i % 2 == 0 ? 1 : 1'000'000)};
    status.phase = protocol::Phase::ended;
    status.end = protocol::End{.ok = i % 3 == 0, .proven = true, .how = "cgroup", .boot_us = micros_now()};
    say(status);
  }
}

void HostileWorker::say(const protocol::FromWorker& message) { (void)link_->send(wire::encode(message)); }

void HostileWorker::over(bool answered) {
  ++life_;
  if (!answered) ++outcomes_[attack_].unanswered;
  link_->abort();
  link_.reset();
  attack_ = static_cast<Attack>((static_cast<int>(attack_) + 1) % kAttacks);
  timer_.expires_after(kPause);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    if (const auto self = weak.lock(); self && !ec) self->attack();
  });
}

}  // namespace tutti::bench
