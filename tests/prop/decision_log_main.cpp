// Prints what the planner decides over a made-up month of a cluster, one line per decision: same seed, same
// bytes. `./dev test` runs it twice, and once more as g++ has compiled it, and compares.
//
//   decision_log [SEED]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "scheduler/planner/forecast.h"
#include "scheduler/planner/planner.h"

namespace tutti::planner {
namespace {

using namespace std::chrono_literals;

const Instant kBegin{std::chrono::hours(24 * 365 * 50)};

// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ between libraries.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  int below(int n) { return static_cast<int>(next() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }

 private:
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

class Log {
 public:
  Log(std::string_view policy, std::uint64_t seed) : planner_(*find_policy(policy)), dice_(seed) {
    std::printf("policy %s\n", std::string(policy).c_str());
    planner_.set_queue(0, "q", {.quota = 40, .borrow = -1, .lend = 20});
    planner_.set_queue(1, "q", {.quota = 24, .borrow = 16, .lend = -1});
    planner_.set_project(0, -1, 2, -1);
    planner_.set_project(1, -1, 1, 48);
    planner_.set_project(2, 0, 1, -1);
    for (int n = 0; n < kNodes; ++n) put(n, true);
  }
  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      now_ += dice_.between(1, 1200) * 1s;
      end_those_that_are_done();
      something_happens();
      tell(planner_.plan(now_));
      if (i % 200 == 0)
        for (const auto& [job, at] : forecast(planner_, "q", now_, 20).starts)
          std::printf("  %lld will start at %lld\n", static_cast<long long>(job.value), seconds(at));
    }
  }

 private:
  static constexpr int kNodes = 12;

  static long long seconds(Instant at) { return (at - kBegin) / 1s; }

  void put(int n, bool open) {
    NodeDesc desc;
    desc.id = NodeId(n + 1);
    desc.name = "n" + std::to_string(n);
    desc.queue = "q";
    desc.closed = open ? "" : "not_reachable";
    desc.devices = {{.model = n < 8 ? "H100" : "A100", .total = 8, .usable = 8}};
    desc.cpus = 64;
    desc.memory_bytes = 1LL << 40;
    desc.labels["topology.rack"] = "r" + std::to_string(n / 4);
    planner_.put_node(desc);
  }

  void submit() {
    GangAsk ask;
    ask.queue = "q";
    ask.nodes = dice_.chance(70) ? 1 : dice_.between(2, 5);
    if (ask.nodes > 1 && dice_.chance(20)) ask.min_nodes = 1;
    ask.resources.gpus = ask.nodes > 1 ? 8 : dice_.between(1, 8);
    ask.resources.cpus = 4 * dice_.between(0, 2);
    if (dice_.chance(40)) ask.resources.gpu_kinds = {{.model = "H100"}};
    if (dice_.chance(20)) ask.resources.gpu_kinds.push_back({.model = "A100"});
    if (dice_.chance(15)) ask.topology.require = TopologyLevel::rack;
    PlanJob job;
    job.id = JobId(++last_);
    job.project = dice_.below(3);
    job.kind = {dice_.below(5), dice_.below(2), ask.gpus()};
    job.shape = planner_.intern(ask);
    job.priority = dice_.chance(10) ? 95 : dice_.chance(10) ? 5 : dice_.between(10, 89);
    job.front = dice_.chance(3);
    job.submitted = now_;
    job.limit = dice_.chance(10) ? kNoLimit : Duration(dice_.between(10, 3000) * 1min);
    runs_for_[job.id] = Duration(dice_.between(60, 150'000) * 1s);
    planner_.submit(job, now_);
  }

  void end_those_that_are_done() {
    std::vector<JobId> over;
    for (const auto& [id, job] : planner_.running()) {
      const Duration left = std::min(runs_for_.at(id), job.what.limit) - job.attained;
      if (job.since + left <= now_) over.push_back(id);
    }
    for (const JobId id : over) planner_.ended(id, now_);
  }

  void something_happens() {
    for (int n = dice_.between(0, 2); n > 0 && planner_.waiting() < 150; --n) submit();
    if (dice_.chance(3)) {
      const int node = dice_.below(kNodes);
      open_[node] = !open_[node];
      put(node, open_[node]);
    }
    if (planner_.running().empty() || !dice_.chance(20)) return;
    const auto one =
        std::next(planner_.running().begin(), dice_.below(static_cast<int>(planner_.running().size())));
    const JobId id = one->first;
    if (dice_.chance(70)) return planner_.checkpointed(id, now_);
    auto again = planner_.stopped(id, now_);  // a fault
    again->what.front = true;
    planner_.enqueue(*std::move(again), now_);
  }

  void tell(const Decisions& d) {
    for (const auto& s : d.started) {
      std::printf("%lld %lld starts on", seconds(now_), static_cast<long long>(s.job.value));
      for (const auto& part : s.parts) std::printf(" %d", part.node);
      std::printf("\n");
    }
    for (const auto& p : d.promised)
      std::printf("%lld %lld is promised %lld\n", seconds(now_), static_cast<long long>(p.job.value),
                  seconds(p.at));
    for (const auto& p : d.preempted) {
      std::printf("%lld %lld gives way for %lld\n", seconds(now_), static_cast<long long>(p.victim.value),
                  static_cast<long long>(p.for_job.value));
      planner_.enqueue(*planner_.stopped(p.victim, now_), now_);
    }
  }

  Planner planner_;
  Dice dice_;
  Instant now_ = kBegin;
  std::int64_t last_ = 0;
  std::map<JobId, Duration> runs_for_;
  std::vector<bool> open_ = std::vector<bool>(kNodes, true);
};

}  // namespace
}  // namespace tutti::planner

int main(int argc, char** argv) {
  const std::uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  for (const char* policy : {"fair", "checkpoint", "las", "easy", "fifo"})
    tutti::planner::Log(policy, seed).run(500);
}
