// Virtual time for one simulated run: an event queue ordered by (time, sequence), dice from one seed, the
// hash of all that happened, what was covered, and the first rule that was broken. No wall clock, no threads:
// the same seed gives the same run, event by event.
//
// Used by everything in tests/sim. Invariants: (1) time never moves backwards; (2) events at one time run in
// the order in which they were scheduled; (3) after the first failure nothing more is run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/core/retry.h"
#include "scheduler/model/time.h"

namespace tutti::sim {

using namespace std::chrono_literals;
using Time = Duration;  // since the beginning of the run

// A stream of random numbers of its own, so that another throw in one part of the world does not move all
// others.
class Dice {
 public:
  Dice(std::uint64_t seed, std::uint64_t stream) : state_(mix(seed ^ mix(stream))) {}
  std::uint64_t next() { return mix(state_++); }
  std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : next() % n; }
  bool chance(unsigned per_mille) { return below(1000) < per_mille; }
  int between(int low, int high) {
    return low + static_cast<int>(below(static_cast<std::uint64_t>(high - low + 1)));
  }
  Duration between(Duration low, Duration high) {
    return low +
           Duration(static_cast<Duration::rep>(below(static_cast<std::uint64_t>((high - low).count() + 1))));
  }

 private:
  std::uint64_t state_;
};

class World {
 public:
  World(std::uint64_t seed, bool verbose) : seed_(seed), verbose_(verbose) {}

  std::uint64_t seed() const { return seed_; }
  Time now() const { return now_; }
  Dice dice(std::uint64_t stream) const { return Dice(seed_, stream); }

  void at(Time when, std::function<void()> what);
  void after(Duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
  // Runs the next event; false when there is none or a rule is broken.
  bool step();
  std::uint64_t events() const { return events_; }

  // What happened, for the hash; and for people, when they asked for it.
  void note(std::string_view what) {
    for (char c : what) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    note(static_cast<std::uint64_t>(now_.count()));
  }
  void note(std::uint64_t n) { hash_ = mix(hash_ ^ n); }
  std::uint64_t hash() const { return hash_; }
  template <class F>
  void log(F text) const {
    if (verbose_) print(text());
  }

  void mark(const std::string& what) { ++marks_[what]; }
  const std::map<std::string, std::uint64_t>& marks() const { return marks_; }

  // A thing that was made to fail: a process, a link, a GPU, a commit.
  void injected(std::uint64_t n = 1) { injections_ += n; }
  std::uint64_t injections() const { return injections_; }

  void fail(std::string why);
  const std::optional<std::string>& failure() const { return failure_; }

 private:
  void print(const std::string& line) const;
  struct Event {
    Time at;
    std::uint64_t seq;
    std::function<void()> what;
  };
  static bool later(const Event& a, const Event& b) { return a.at != b.at ? a.at > b.at : a.seq > b.seq; }

  const std::uint64_t seed_;
  const bool verbose_;
  Time now_{};
  std::uint64_t seq_ = 0, events_ = 0, injections_ = 0, hash_ = 0xcbf29ce484222325ULL;
  std::vector<Event> queue_;  // a heap by `later`
  std::map<std::string, std::uint64_t> marks_;
  std::optional<std::string> failure_;
};

}  // namespace tutti::sim
