#include "scheduler/service/webhooks.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "scheduler/service/webhooks_ask.h"

namespace tutti {
namespace {

constexpr int kDueOfEach = 20;
constexpr Duration kForgetEvery = std::chrono::hours(1);
constexpr Duration kLongestRetryAfter = std::chrono::hours(1);
constexpr std::string_view kGone =
    "this webhook's secret cannot be read with this scheduler's key: set it again";

Error no_webhook(const std::string& name) {
  return {.code = Errc::not_found,
          .message = "no webhook '" + name + "'",
          .hint = "GET /v1/webhooks lists them",
          .field = ""};
}

}  // namespace

Webhooks::Webhooks(boost::asio::any_io_executor executor, Backend& backend, Aside aside,
                   std::shared_ptr<WebhookStore> store, Poster& poster, Sealer sealer,
                   WebhookSettings settings)
    : executor_(executor),
      backend_(backend),
      aside_(std::move(aside)),
      store_(std::move(store)),
      poster_(poster),
      sealer_(std::move(sealer)),
      settings_(settings),
      timer_(executor) {}

Webhooks::~Webhooks() { stop(); }

void Webhooks::start() {
  running_ = true;
  subscription_ = backend_.subscribe([this](const EventRow& event) {
    told_ = std::max(told_, event.id);
    look_again_ = true;
    kick();
  });
  step();
}

void Webhooks::stop() {
  if (!std::exchange(running_, false)) return;
  backend_.unsubscribe(subscription_);
  timer_.cancel();
}

// ---------------------------------------------------------------- plumbing

// Soon, once for all that happens until then.
void Webhooks::kick() {
  if (kicked_ || !running_) return;
  kicked_ = true;
  boost::asio::post(executor_, guarded([this] {
                      kicked_ = false;
                      if (running_) step();
                    }));
}

void Webhooks::arm(Duration at_most) {
  if (!running_) return;
  Duration wait = at_most;
  if (next_due_) wait = std::min(wait, *next_due_ - backend_.now().wall);
  timer_.expires_after(std::max<Duration>(wait, std::chrono::milliseconds(50)));
  timer_.async_wait(guarded([this](boost::system::error_code ec) {
    if (!ec && running_) step();
  }));
}

// What another leader has changed meanwhile is read when this one begins to lead.
void Webhooks::load() {
  if (std::exchange(loading_, true)) return;
  using Loaded = std::pair<std::vector<WebhookRow>, EventId>;
  ask<Loaded>([](WebhookStore& s) { return Loaded{s.webhooks(), s.cursor()}; },
              [this](Result<Loaded> loaded) {
                loading_ = false;
                if (!loaded) return spdlog::warn("{}", loaded.error().message);
                webhooks_.clear();
                for (auto& row : loaded->first) webhooks_.emplace(row.name, std::move(row));
                cursor_ = loaded->second;
                loaded_ = look_again_ = true;
                next_due_ = Instant{};
                kick();
              });
}

void Webhooks::step() {
  if (backend_.plane() == nullptr) {
    loaded_ = false;
    return arm(settings_.poll);
  }
  if (!loaded_) {
    load();
    return arm(settings_.poll);
  }
  const Mono now = backend_.now().mono;
  if (now - looked_at_ >= settings_.poll) look_again_ = true;
  for (auto& row : std::exchange(unrecorded_, {})) record(std::move(row));
  pump();
  send_due();
  if (forgot_at_ == Mono{} || now - forgot_at_ >= kForgetEvery) {
    forgot_at_ = now;
    ask<int>(
        [before = backend_.now().wall - settings_.keep](WebhookStore& s) {
          s.forget(before);
          return 0;
        },
        [](const Result<int>& done) {
          if (!done) spdlog::warn("{}", done.error().message);
        });
  }
  arm(look_again_ && !pumping_ ? settings_.gap : settings_.poll);
}

bool Webhooks::anybody_listens() const {
  return std::ranges::any_of(webhooks_, [](const auto& hook) { return hook.second.enabled; });
}

// ---------------------------------------------------------------- from the outbox to servers

void Webhooks::send_due() {
  if (asking_due_ || !next_due_ || *next_due_ > backend_.now().wall) return;
  asking_due_ = true;
  ask<Due>(
      [now = backend_.now().wall](WebhookStore& s) {
        Due due;
        due.rows = s.due(now, kDueOfEach);
        due.next = s.next_due();
        return due;
      },
      [this](Result<Due> due) {
        asking_due_ = false;
        const Instant now = backend_.now().wall;
        if (!due) {
          next_due_ = now + settings_.poll;
          return spdlog::warn("{}", due.error().message);
        }
        next_due_ = due->next;
        bool waits = false;
        for (auto& row : due->rows) {
          const auto hook = webhooks_.find(row.webhook);
          if (hook == webhooks_.end() || under_way_.contains({row.webhook, row.event})) continue;
          if (take_token(row.webhook))
            dispatch(std::move(row), hook->second);
          else
            waits = true;
        }
        // Those under way ask again when they are done; those without a token when the bucket has leaked.
        if (next_due_ && *next_due_ <= now) {
          next_due_.reset();
          if (waits) next_due_ = now + from_seconds(1 / settings_.per_second);
        }
        arm(settings_.poll);
      });
}

bool Webhooks::take_token(const std::string& webhook) {
  const Mono now = backend_.now().mono;
  const auto [found, fresh] = buckets_.try_emplace(webhook);
  Bucket& bucket = found->second;
  bucket.tokens =
      fresh ? settings_.burst
            : std::min(settings_.burst, bucket.tokens + to_seconds(now - bucket.at) * settings_.per_second);
  bucket.at = now;
  if (bucket.under_way >= settings_.at_once || bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  ++bucket.under_way;
  return true;
}

HttpPost Webhooks::message(const WebhookRow& hook, const std::string& secret, std::string id,
                           std::string_view notice, std::string body) const {
  HttpPost post;
  post.url = hook.url;
  post.headers = {{"Content-Type", "application/json"},
                  {"User-Agent", "tutti-webhooks"},
                  {"Tutti-Delivery", std::move(id)},
                  {"Tutti-Event", std::string(notice)},
                  {"Tutti-Signature", signature(secret, backend_.now().wall, body)}};
  post.body = std::move(body);
  post.deadline = settings_.deadline;
  return post;
}

void Webhooks::dispatch(DeliveryRow row, const WebhookRow& hook) {
  under_way_.insert({row.webhook, row.event});
  const auto secret = sealer_.open(hook.secret);
  if (!secret) {
    answered(std::move(row), {.status = 0, .error = std::string(kGone), .took = {}, .retry_after = {}});
    return;
  }
  HttpPost post = message(hook, *secret, delivery_id(row.event, row.webhook), row.notice, row.body);
  poster_.post(std::move(post), guarded([this, row = std::move(row)](const HttpPostAnswer& answer) mutable {
                 answered(std::move(row), answer);
               }));
}

Duration Webhooks::back_off(int attempts) {
  Duration longest = settings_.first_retry;
  for (int i = 1; i < attempts && longest < settings_.longest_retry; ++i) longest *= 2;
  longest = std::min(longest, settings_.longest_retry);
  const auto half = longest.count() / 2;  // jitter: so that those that failed together do not come together
  return Duration(half + static_cast<std::int64_t>(dice_() % static_cast<std::uint64_t>(half + 1)));
}

void Webhooks::answered(DeliveryRow row, const HttpPostAnswer& answer) {
  const Instant now = backend_.now().wall;
  if (const auto bucket = buckets_.find(row.webhook); bucket != buckets_.end()) --bucket->second.under_way;
  ++row.attempts;
  row.status = answer.status;
  row.error.clear();
  if (answer.status >= 200 && answer.status < 300) {
    row.state = DeliveryState::delivered;
    row.ended_at = now;
    return record(std::move(row));
  }
  if (answer.status == 0)
    row.error = answer.error;
  else if (answer.status >= 300 && answer.status < 400)
    row.error = "answered " + std::to_string(answer.status) + ": redirects are not followed, set the new URL";
  else
    row.error =
        "answered " + std::to_string(answer.status) + (answer.error.empty() ? "" : ": " + answer.error);
  if (row.attempts >= settings_.max_attempts) {
    row.state = DeliveryState::dead;
    row.ended_at = now;
    row.error = "given up after " + std::to_string(row.attempts) + " attempts; the last one: " + row.error;
    spdlog::warn("webhook {}: event {} is {}", row.webhook, row.event.value, row.error);
  } else {
    const Duration wanted = std::min(answer.retry_after.value_or(Duration()), kLongestRetryAfter);
    row.next_at = now + std::max(back_off(row.attempts), wanted);
  }
  record(std::move(row));
}

// Only what is recorded may be sent again by this process: else a store that is away would have it sent over
// and over.
void Webhooks::record(DeliveryRow row) {
  ask<int>(
      [row](WebhookStore& s) {
        s.record(row);
        return 0;
      },
      [this, row](const Result<int>& done) {
        if (!done) {
          unrecorded_.push_back(row);
          return spdlog::warn("{}", done.error().message);
        }
        under_way_.erase({row.webhook, row.event});
        next_due_ = Instant{};
        kick();
      });
}

// ---------------------------------------------------------------- what operators do

void Webhooks::put(WebhookRow row, std::optional<std::string> secret, Reply<Made> reply) {
  if (!loaded_)
    return reply(error_of(std::make_exception_ptr(StoreError(StoreError::unavailable, "not loaded yet"))));
  const auto known = webhooks_.find(row.name);
  const Instant now = backend_.now().wall;
  Made made;
  if (known == webhooks_.end()) {
    row.created_at = now;
    if (!secret) secret = made.secret = "whsec_" + random_secret();
  } else {
    row.created_at = known->second.created_at;
  }
  row.secret = secret ? sealer_.seal(*secret) : known->second.secret;
  row.changed_at = now;
  // Of what has happened before it is not told.
  row.after =
      known != webhooks_.end() && known->second.enabled ? known->second.after : std::max(cursor_, told_);
  made.row = row;
  ask<int>(
      [row](WebhookStore& s) {
        s.put(row);
        return 0;
      },
      [this, made = std::move(made), reply = std::move(reply)](const Result<int>& done) {
        if (!done) return reply(done.error());
        webhooks_[made.row.name] = made.row;
        next_due_ = Instant{};
        look_again_ = true;
        kick();
        reply(made);
      });
}

void Webhooks::remove(const std::string& name, Reply<bool> reply) {
  ask<bool>([name](WebhookStore& s) { return s.remove(name); },
            [this, name, reply = std::move(reply)](Result<bool> removed) {
              if (removed) {
                webhooks_.erase(name);
                buckets_.erase(name);
              }
              reply(std::move(removed));
            });
}

void Webhooks::test(const std::string& name, Reply<Probe> reply) {
  const auto hook = webhooks_.find(name);
  if (!loaded_ || hook == webhooks_.end()) return reply(no_webhook(name));
  const auto secret = sealer_.open(hook->second.secret);
  if (!secret) return reply(Probe{.status = 0, .error = std::string(kGone), .took = {}});
  std::string body = render_test(hook->second, backend_.now().wall);
  HttpPost post = message(hook->second, *secret, "test-" + name, "test", std::move(body));
  poster_.post(std::move(post), [reply = std::move(reply)](const HttpPostAnswer& answer) {
    std::string error = answer.error;
    if (answer.status >= 200 && answer.status < 300) error.clear();
    if (answer.status >= 300 && answer.status < 400) error = "redirects are not followed, set the new URL";
    reply(Probe{.status = answer.status, .error = std::move(error), .took = answer.took});
  });
}

void Webhooks::deliveries(const std::string& name, std::optional<DeliveryState> state, EventId before,
                          int limit, Reply<std::vector<DeliveryRow>> reply) {
  if (!loaded_ || !webhooks_.contains(name)) return reply(no_webhook(name));
  ask<std::vector<DeliveryRow>>([=](WebhookStore& s) { return s.deliveries(name, state, before, limit); },
                                std::move(reply));
}

}  // namespace tutti
