// A cluster under attack: 8 nodes of 8 simulated GPUs in network namespaces, a gang that the faults are aimed
// at, a second gang as a bystander, and traffic. A row of the campaign is a function that does one injection
// here.
//
// Called by: the campaign (main.cpp) and its rows. One thread.
//
// Around each injection:
//  1. what every gang was doing is remembered;
//  2. the row says what it hits (strike, hit_node, hit_job), and waits for what has to follow;
//  3. everything is mended; a gang that was not hit must be the same processes as before, and all oracles are
//  asked.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/chaos/oracles.h"
#include "tests/chaos/traffic.h"

namespace tutti::chaos {

using namespace std::chrono_literals;

inline constexpr int kNodes = 8, kGpusPerNode = 8;
// 2 cores do not carry 64 ranks that mean something beside 8 workers: the gangs have fewer ranks a node.
inline constexpr int kGangNodes = 4, kGangGpus = 2, kBystanderNodes = 2, kBystanderGpus = 2;

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  bool chance(unsigned per_cent) { return below(100) < per_cent; }
  std::chrono::milliseconds between(std::chrono::milliseconds low, std::chrono::milliseconds high) {
    return low + std::chrono::milliseconds(below(static_cast<std::uint64_t>((high - low).count() + 1)));
  }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

struct LabOptions {
  e2e::ClusterOptions cluster{.workers = kNodes, .gpus = kGpusPerNode, .namespaces = true, .blames = false};
  bool wall_clock_steps = false;  // stamps of rows say nothing about what came first
};

struct Hit {
  std::int64_t job = 0, epoch = 0;
  std::int64_t at_us = 0;  // boot clock
};

class Lab {
 public:
  Lab(LabOptions options, std::uint64_t seed, RowFigures& figures);
  ~Lab();

  e2e::Cluster& cluster() { return *cluster_; }
  e2e::Network& network() { return e2e::Site::instance().network(); }
  Dice& dice() { return dice_; }
  std::int64_t gang() const { return gang_; }

  // ---- the campaign
  void begin();                  // an injection
  void end(bool control_fault);  // … is over: mends, compares, judges
  void finish();                 // of the cluster, with its last oracles

  // ---- for rows: what is there
  std::int64_t epoch(std::int64_t job) { return e2e::number_of(cluster().job(job), "epoch"); }
  std::vector<std::string> nodes_of(std::int64_t job);
  /// The processes of the ranks, once all have started.
  std::vector<e2e::Seen> ranks(std::int64_t job);
  std::pair<std::string, int> some_gpu(std::int64_t job);  // node and index
  std::string some_node(std::int64_t job);

  // ---- for rows: what is done
  /// Now, to this job. More than one injection of a row counts each.
  Hit strike(std::int64_t job, const std::function<void()>& inject);
  void hit_job(std::int64_t job) { hit_.insert(job); }
  /// A rank of it was stopped: that it gives no sign of life does not mean that the others live without it.
  void silence(const Hit& hit) { silenced_.insert({hit.job, hit.epoch}); }
  /// Every gang that was there at the beginning of the injection, or is there now.
  void hit_node(const std::string& node);
  void count_injection(int n = 1) { figures_.injections += n; }
  /// Done at the end of the injection, also when it fails; last first.
  void mend_later(std::function<void()> mend) { mends_.push_back(std::move(mend)); }
  void mend();
  void power_off(const std::string& node);  // cut, then SIGKILL to all inside
  void power_on(const std::string& node);   // another boot

  // ---- for rows: what must follow
  /// The job runs again at a later epoch, all ranks of it; the stages go into the figures. `silent`: the node
  /// whose silence is the first that can be noticed.
  void await_back(const Hit& hit, const std::string& silent = {});
  /// For so long every rank of every gang that was not hit is seen alive.
  void watch_unharmed(std::chrono::milliseconds time);
  void measured(Stage stage, std::int64_t since_us, std::int64_t until_us);
  void note(const std::string& text) { figures_.note = text; }
  void violated(const Violation& v);
  /// Must end, and succeed, like the traffic.
  void expect_success(const std::string& name, std::int64_t id) { own_[name] = id; }
  /// A small job under a new key; nothing when it was not accepted now (it is asked for again at the end).
  std::optional<std::int64_t> try_submit() { return try_submit(cluster().rest()); }
  std::optional<std::int64_t> try_submit(e2e::Rest asked);
  /// A condition of the node holds, or not.
  void await_condition(const std::string& node, const std::string& kind, bool holds);
  /// A gang of 2 × 2 ranks in lockstep, as in collectives, that tells each step; of `rank`'s options more.
  std::int64_t submit_lockstep(const std::string& kind, const std::string& more);
  void await_step(std::int64_t job, std::int64_t step);
  void cancel(std::int64_t job);

 private:
  struct Before {
    std::int64_t epoch = 0;
    std::set<pid_t> pids;
    std::vector<std::string> nodes;
  };
  void await_started(std::int64_t job, std::int64_t epoch, std::size_t ranks);
  void settle();
  void compare(bool control_fault);
  void judge();
  std::int64_t node_event(const std::string& node, const std::string& to, std::int64_t since_us);

  LabOptions options_;
  RowFigures& figures_;
  Dice dice_;
  std::unique_ptr<e2e::Cluster> cluster_;
  std::int64_t gang_ = 0, bystander_ = 0, offset_ = 0;
  std::unique_ptr<Traffic> traffic_;
  std::map<std::int64_t, Before> before_;
  std::set<std::int64_t> hit_;
  std::set<std::pair<std::int64_t, std::int64_t>> silenced_;  // attempts: job and epoch
  std::vector<std::function<void()>> mends_;
  std::set<std::string> known_;  // violations that have been counted
  std::map<std::string, std::int64_t> own_;
  std::set<std::string> in_doubt_;
  int submissions_ = 0;
};

}  // namespace tutti::chaos
