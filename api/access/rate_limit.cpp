#include "api/access/rate_limit.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

/// What is left of rounding must not refuse the last whole token.
constexpr double kDust = 1e-6;

std::int64_t whole(double amount) {
  return static_cast<std::int64_t>(std::floor(std::max(0.0, amount) + kDust));
}

double seconds_between(Mono from, Mono to) { return from < to ? to_seconds(to - from) : 0.0; }

/// Rounded up: who comes back after that long is not told to come back once more.
Duration ceil_seconds(double seconds) {
  if (seconds <= 0) return Duration(0);
  return Duration(static_cast<Duration::rep>(std::ceil(seconds * 1e6)));
}

}  // namespace

std::string short_key(std::string_view key) {
  if (key.size() <= kMaxKeyBytes) return std::string(key);
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto hash_of = [key](std::uint64_t h) {
    for (const char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    h ^= h >> 29;
    return h * 0xbf58476d1ce4e5b9ULL;
  };
  std::string out(key.substr(0, kMaxKeyBytes - 32));
  for (auto h : {hash_of(0xcbf29ce484222325ULL), hash_of(0x9e3779b97f4a7c15ULL)})
    for (int i = 0; i < 16; ++i, h >>= 4) out.push_back(kDigits[h & 15]);
  return out;
}

// ---------------------------------------------------------------- token bucket

TokenBucket::TokenBucket(double per_second, double burst, std::size_t max_keys)
    : per_second_(std::max(per_second, 1e-9)), burst_(std::max(burst, 1.0)), states_(max_keys) {}

Allowance TokenBucket::take(std::string_view key, Mono now, double amount) {
  auto& state = states_.at(key, State{burst_, now});
  state.tokens = std::min(burst_, state.tokens + seconds_between(state.at, now) * per_second_);
  state.at = std::max(state.at, now);
  Allowance out;
  out.limit = whole(burst_);
  out.allowed = amount <= state.tokens + kDust;
  if (out.allowed)
    state.tokens = std::max(0.0, state.tokens - amount);
  else
    out.retry_after = amount > burst_ ? kNever : ceil_seconds((amount - state.tokens) / per_second_);
  out.remaining = whole(state.tokens);
  out.reset = ceil_seconds((burst_ - state.tokens) / per_second_);
  return out;
}

// ---------------------------------------------------------------- sliding window

SlidingWindow::SlidingWindow(int limit, Duration window, std::size_t max_keys)
    : limit_(std::max(limit, 1)), window_(std::max(window, Duration(1))), states_(max_keys) {}

Allowance SlidingWindow::judge(const State* state, Mono now) const {
  Allowance out;
  out.limit = limit_;
  int inside = 0;
  Mono oldest = now, newest = now - window_;
  if (state != nullptr) {
    for (const Mono at : state->events) {
      if (at + window_ <= now) continue;
      ++inside;
      oldest = std::min(oldest, at);
      newest = std::max(newest, at);
    }
  }
  out.remaining = limit_ - inside;
  out.allowed = inside < limit_;
  if (inside > 0) out.reset = newest + window_ - now;
  if (!out.allowed) out.retry_after = oldest + window_ - now;
  return out;
}

Allowance SlidingWindow::look(std::string_view key, Mono now) const { return judge(states_.find(key), now); }

Allowance SlidingWindow::count(std::string_view key, Mono now) {
  auto& state = states_.at(key, State{});
  const bool allowed = judge(&state, now).allowed;
  if (state.events.size() < static_cast<std::size_t>(limit_)) {
    state.events.push_back(now);
  } else {
    state.events[state.next] = now;
    state.next = (state.next + 1) % state.events.size();
  }
  auto out = judge(&state, now);
  out.allowed = allowed;
  if (allowed) out.retry_after = Duration(0);
  return out;
}

// ---------------------------------------------------------------- leaky bucket

LeakyBucket::LeakyBucket(double capacity, Duration period, std::size_t max_keys)
    : capacity_(std::max(capacity, 1.0)),
      per_second_(std::max(capacity, 1.0) / to_seconds(std::max(period, Duration(1)))),
      states_(max_keys) {}

LeakyBucket::State& LeakyBucket::drained(std::string_view key, Mono now) {
  auto& state = states_.at(key, State{0, now});
  state.level = std::max(0.0, state.level - seconds_between(state.at, now) * per_second_);
  state.at = std::max(state.at, now);
  return state;
}

Duration LeakyBucket::time_to_drain(double amount) const { return ceil_seconds(amount / per_second_); }

Allowance LeakyBucket::describe(const State& state) const {
  Allowance out;
  out.limit = whole(capacity_);
  out.remaining = whole(capacity_ - state.level);
  out.reset = time_to_drain(state.level);
  return out;
}

Allowance LeakyBucket::pour(std::string_view key, Mono now, double amount) {
  auto& state = drained(key, now);
  const bool fits = state.level + amount <= capacity_ + kDust;
  if (fits) state.level += amount;
  auto out = describe(state);
  out.allowed = fits;
  if (!fits) out.retry_after = amount > capacity_ ? kNever : time_to_drain(state.level + amount - capacity_);
  return out;
}

LeakyBucket::Turn LeakyBucket::queue(std::string_view key, Mono now) {
  Turn turn;
  turn.wait = time_to_drain(drained(key, now).level);
  turn.allowance = pour(key, now, 1);
  if (!turn.allowance.allowed) turn.wait = Duration(0);
  return turn;
}

}  // namespace tutti
