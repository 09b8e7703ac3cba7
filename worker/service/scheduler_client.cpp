#include "worker/service/scheduler_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>

#include "api/http/link_io.h"
#include "worker/service/addresses.h"

namespace tutti::worker {

namespace {
constexpr int kQuickRedirections =
    3;  // two standbys that each take the other for the leader are not asked faster

/// Where to go, if that is somewhere, and no worse place for our token than where we are.
std::optional<Peer> usable(const std::string& leader, const Peer& from) {
  if (leader.empty()) return std::nullopt;
  try {
    Peer peer = parse_address(leader);
    if (from.tls && !peer.tls) return std::nullopt;
    if (peer == from) return std::nullopt;
    return peer;
  } catch (const std::runtime_error& e) {
    spdlog::warn("a standby names a leader at {}", e.what());
    return std::nullopt;
  }
}
}  // namespace

struct SchedulerClient::State : std::enable_shared_from_this<SchedulerClient::State> {
  State(boost::asio::io_context& io_, const Settings& settings_, Events events_)
      : io(io_),
        settings(settings_),
        events(std::move(events_)),
        timer(io_),
        back_off(settings_.back_off_min) {}

  const Peer& peer() const { return told ? *told : settings.schedulers[at % settings.schedulers.size()]; }

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
    const auto next = std::exchange(next_told, std::nullopt);
    if (!welcomed && !next) ++at;
    told = next;
    welcomed = false;
    // Full jitter above the least wait: a restarted scheduler is not met by all its workers at once.
    const auto longest = next && ++redirections <= kQuickRedirections ? settings.back_off_min : back_off;
    std::uniform_int_distribution<std::int64_t> dice(settings.back_off_min.count() / (next ? 4 : 1),
                                                     std::max(longest, settings.back_off_min).count());
    timer.expires_after(std::chrono::milliseconds(dice(random)));
    if (!next) back_off = std::min(back_off * 2, settings.back_off_max);
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
  std::size_t at = 0;                   // which address
  std::optional<Peer> told, next_told;  // instead of it: where a standby says that the leader is
  int redirections = 0;                 // since the last welcome
  std::int64_t life = 0;                // callbacks of a former link know by it that they are late
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
  state_->redirections = 0;
  state_->last_trouble.clear();
  state_->back_off = state_->settings.back_off_min;
}

void SchedulerClient::redirected(const std::string& why, const std::string& leader) {
  const auto next = usable(leader, state_->peer());
  if (why != state_->last_trouble)
    spdlog::info("scheduler {}:{}: {}{}", state_->peer().host, state_->peer().port, why,
                 next ? ", at " + leader : "");
  if (next) {
    // One of ours: then it stays the first to be asked.
    const auto known = std::ranges::find(state_->settings.schedulers, *next);
    if (known != state_->settings.schedulers.end())
      state_->at = static_cast<std::size_t>(known - state_->settings.schedulers.begin());
    state_->next_told = next;
  }
  state_->lost("not the leader");
  state_->last_trouble = why;
}

void SchedulerClient::refused(const std::string& why) {
  if (why != state_->last_trouble)
    spdlog::error("scheduler {}:{} refuses this worker: {}", state_->peer().host, state_->peer().port, why);
  state_->lost("refused");
  state_->last_trouble = why;
}

}  // namespace tutti::worker
