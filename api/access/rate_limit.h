// How much of something one key (a principal, an address, a project) may have, and when it may have more.
//
// Three shapes, each a plain object that is told the time: no clock, no lock, no thread of its own; whoever
// owns one calls it from one thread (api/handlers/limits, webhooks).
//   TokenBucket    requests: a burst at once, then a steady rate
//   SlidingWindow  failed logins: so many in any stretch of that length, exactly
//   LeakyBucket    submissions and webhooks: drains evenly; refuses what does not fit, or says when it may
//   leave
// Invariants:
//   1. Memory is bounded by `max_keys` whatever the keys: the key that was not asked for the longest goes
//      first. What is forgotten is a limit, never an allowance: a forgotten key starts anew.
//   2. A key of any length costs at most kMaxKeyBytes.
//   3. A clock that stands still or goes back gives nothing away.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti {

inline constexpr std::size_t kMaxKeyBytes = 96;
inline constexpr std::size_t kMaxRateKeys = 20'000;

/// What a limit says about one key now.
struct Allowance {
  bool allowed = true;
  std::int64_t limit = 0;      // how many at most
  std::int64_t remaining = 0;  // how many are left
  Duration reset{0};           // until all of them are back
  Duration retry_after{0};     // when refused: until it makes sense to ask again; kNever: not in this size
};
inline constexpr Duration kNever = Duration::max();

/// Least recently used states by key, bounded.
template <class State>
class BoundedStates {
 public:
  explicit BoundedStates(std::size_t max_keys) : max_keys_(max_keys == 0 ? 1 : max_keys) {}
  // The index holds pointers into the list.
  BoundedStates(const BoundedStates&) = delete;
  BoundedStates& operator=(const BoundedStates&) = delete;

  /// The key's state, a new one from `fresh` if there is none; it is the last to go from now on.
  State& at(std::string_view key, const State& fresh) {
    const auto bounded = bounded_key(key);
    if (const auto found = index_.find(bounded); found != index_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    if (index_.size() >= max_keys_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(bounded, fresh);
    index_.emplace(order_.front().first, order_.begin());
    return order_.front().second;
  }
  const State* find(std::string_view key) const {
    const auto found = index_.find(bounded_key(key));
    return found == index_.end() ? nullptr : &found->second->second;
  }
  void erase(std::string_view key) {
    const auto found = index_.find(bounded_key(key));
    if (found == index_.end()) return;
    const auto entry = found->second;
    index_.erase(found);
    order_.erase(entry);
  }
  std::size_t size() const { return index_.size(); }

 private:
  static std::string bounded_key(std::string_view key);

  using Order = std::list<std::pair<std::string, State>>;
  std::size_t max_keys_;
  Order order_;  // most recently used first
  std::unordered_map<std::string_view, typename Order::iterator> index_;
};

/// A key that is longer than allowed, made short without making two keys one.
std::string short_key(std::string_view key);

template <class State>
std::string BoundedStates<State>::bounded_key(std::string_view key) {
  return key.size() <= kMaxKeyBytes ? std::string(key) : short_key(key);
}

/// `burst` at once; they come back at `per_second`. Nothing below 1 for the burst, nor 0 or less for the
/// rate.
class TokenBucket {
 public:
  TokenBucket(double per_second, double burst, std::size_t max_keys = kMaxRateKeys);

  /// Takes `amount` if there are so many, else nothing.
  Allowance take(std::string_view key, Mono now, double amount = 1);
  std::size_t keys() const { return states_.size(); }
  double burst() const { return burst_; }
  double per_second() const { return per_second_; }

 private:
  struct State {
    double tokens;
    Mono at;
  };
  double per_second_, burst_;
  BoundedStates<State> states_;
};

/// At most `limit` events within any stretch of `window`.
class SlidingWindow {
 public:
  SlidingWindow(int limit, Duration window, std::size_t max_keys = kMaxRateKeys);

  /// Would one more be allowed? Counts nothing.
  Allowance look(std::string_view key, Mono now) const;
  /// Counts one, allowed or not. Those that are refused push the end of the refusal further away.
  Allowance count(std::string_view key, Mono now);
  void forget(std::string_view key) { states_.erase(key); }
  std::size_t keys() const { return states_.size(); }

 private:
  /// The last `limit` events, a ring: `next` is the oldest once it is full.
  struct State {
    std::vector<Mono> events;
    std::size_t next = 0;
  };
  Allowance judge(const State* state, Mono now) const;

  int limit_;
  Duration window_;
  BoundedStates<State> states_;
};

/// Holds `capacity`, drains `capacity` per `period`, evenly.
class LeakyBucket {
 public:
  LeakyBucket(double capacity, Duration period, std::size_t max_keys = kMaxRateKeys);

  /// Adds `amount` if it fits, else nothing. More than the capacity never fits: retry_after is kNever.
  Allowance pour(std::string_view key, Mono now, double amount = 1);
  /// Puts one in line. Allowed: it may leave after `wait`, so that they leave evenly; refused: the line is
  /// full.
  struct Turn {
    Allowance allowance;
    Duration wait{0};
  };
  Turn queue(std::string_view key, Mono now);
  std::size_t keys() const { return states_.size(); }

 private:
  struct State {
    double level;
    Mono at;
  };
  State& drained(std::string_view key, Mono now);
  Duration time_to_drain(double amount) const;
  Allowance describe(const State& state) const;

  double capacity_, per_second_;
  BoundedStates<State> states_;
};

}  // namespace tutti
