#include "worker/service/scheduler_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <random>

#include "api/http/link_io.h"

namespace tutti::worker {

struct SchedulerClient::State : std::enable_shared_from_this<SchedulerClient::State> {
  State(boost::asio::io_context& io_, const Settings& settings_, Events events_)
      : io(io_),
        settings(settings_),
        events(std::move(events_)),
        timer(io_),
        back_off(settings_.back_off_min) {}

  const Peer& peer() const { return settings.schedulers[at % settings.schedulers.size()]; }

  void connect() {
    if (closed) return;
    http::LinkTarget target;
    target.host = peer().host;
    target.port = peer().port;
    target.path = "/v1/worker";
    if (peer().tls) target.tls = settings.tls;
    if (!settings.token.empty()) target.headers.push_back({"Authorization", "Bearer " + settings.token});
    http::connect_link(io.get_executor(), std::move(target), settings.link, settings.connect_deadline,
                       [self = shared_from_this()](Result<std::shared_ptr<http::Link>> result) {
                         self->on_result(std::move(result));
                       });
  }

  void on_result(Result<std::shared_ptr<http::Link>> result) {
    if (closed) {
      if (result) (*result)->abort();
      return;
    }
    if (!result) {
      // One line when the trouble changes, not one per try.
      if (result.error().message != last_trouble)
        spdlog::warn("scheduler {}:{}: {}", peer().host, peer().port, result.error().message);
      last_trouble = result.error().message;
      return try_next();
    }
    link = std::move(*result);
    const auto life_now = ++life;
    events.on_connected(peer());
    if (!link || life != life_now) return;
    link->start(
        [self = shared_from_this(), life_now](std::string text) {
          if (!self->closed && self->life == life_now) self->events.on_message(std::move(text));
        },
        [self = shared_from_this(), life_now](const std::string& why) {
          if (!self->closed && self->life == life_now) self->lost(why);
        });
    // Accepted, but no scheduler behind it that says Welcome (a standby, a hung leader): try another.
    timer.expires_after(settings.welcome_deadline);
    timer.async_wait([self = shared_from_this(), life_now](boost::system::error_code ec) {
      if (!ec && !self->closed && self->life == life_now) self->lost("no welcome");
    });
  }

  void lost(const std::string& why) {
    ++life;
    if (link) link->abort();
    link.reset();
    events.on_disconnected(why);
    try_next();
  }

  void try_next() {
    if (!welcomed) ++at;
    welcomed = false;
    // Full jitter above the least wait: a restarted scheduler is not met by all its workers at once.
    std::uniform_int_distribution<std::int64_t> dice(settings.back_off_min.count(),
                                                     std::max(back_off, settings.back_off_min).count());
    timer.expires_after(std::chrono::milliseconds(dice(random)));
    back_off = std::min(back_off * 2, settings.back_off_max);
    timer.async_wait([self = shared_from_this()](boost::system::error_code ec) {
      if (!ec) self->connect();
    });
  }

  boost::asio::io_context& io;
  const Settings& settings;
  Events events;
  boost::asio::steady_timer timer;  // the back-off, or the wait for the welcome
  std::chrono::milliseconds back_off;
  std::shared_ptr<http::Link> link;
  std::mt19937_64 random{std::random_device{}()};
  std::string last_trouble;
  std::size_t at = 0;     // which address
  std::int64_t life = 0;  // callbacks of a former link know by it that they are late
  bool welcomed = false, closed = false;
};

SchedulerClient::SchedulerClient(boost::asio::io_context& io, const Settings& settings, Events events)
    : state_(std::make_shared<State>(io, settings, std::move(events))) {}

SchedulerClient::~SchedulerClient() {
  state_->closed = true;
  state_->timer.cancel();
  if (state_->link) state_->link->abort();
}

void SchedulerClient::start() { state_->connect(); }

void SchedulerClient::send(std::string text) {
  if (state_->link) (void)state_->link->send(std::move(text));  // false: on_closed follows
}

void SchedulerClient::on_welcome() {
  state_->timer.cancel();
  state_->welcomed = true;
  state_->last_trouble.clear();
  state_->back_off = state_->settings.back_off_min;
}

void SchedulerClient::refused(const std::string& why) {
  if (why != state_->last_trouble)
    spdlog::error("scheduler {}:{} refuses this worker: {}", state_->peer().host, state_->peer().port, why);
  state_->lost("refused");
  state_->last_trouble = why;
}

}  // namespace tutti::worker
