// The planner at the size of a large site: 2,048 nodes of 8 GPUs, all busy, up to a million jobs waiting.
// Prints one JSON object. Clocks are read here and nowhere in the planner.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "scheduler/planner/forecast.h"
#include "scheduler/planner/planner.h"

namespace {

using namespace tutti;
using namespace tutti::planner;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kNodes = 2048, kGpus = 8, kUsers = 200, kProjects = 40;

double micros(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

double quantile(std::vector<double> v, double q) {
  std::ranges::sort(v);
  return v[std::min(v.size() - 1, static_cast<std::size_t>(q * static_cast<double>(v.size())))];
}

std::size_t heap_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

class World {
 public:
  explicit World(std::string_view policy = "fair") : planner(*find_policy(policy)) {
    planner.set_queue(0, "q");
    for (int p = 0; p < kProjects; ++p) planner.set_project(p, -1, 1 + p % 4, -1);
    for (int n = 0; n < kNodes; ++n) {
      NodeDesc desc;
      desc.id = NodeId(n + 1);
      desc.name = "n" + std::to_string(n + 1);
      desc.queue = "q";
      desc.devices = {{.model = "H100", .total = kGpus, .usable = kGpus}};
      desc.cpus = 128;
      desc.memory_bytes = 2LL << 40;
      desc.labels = {{"topology.rack", std::to_string(n / 16)}};
      planner.put_node(desc);
    }
    // History, so that keys are not all alike.
    for (int i = 0; i < 20'000; ++i) {
      const JobId id = submit();
      (void)id;
    }
    for (int i = 0; i < 40; ++i) {
      step(10min);
      finish(200);
    }
  }

  // Sizes and limits as clusters for training see them: many small, few large.
  PlanJob make() {
    static constexpr int kSizes[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 16, 16, 32, 64, 128, 256, 512};
    static constexpr int kMinutes[] = {30, 60, 120, 240, 240, 480, 720, 1440, 1440, 2880, 4320};
    const int gpus = kSizes[dice(std::size(kSizes))];
    GangAsk ask;
    ask.queue = "q";
    ask.nodes = std::max(1, gpus / kGpus);
    ask.resources.gpus = std::min(gpus, kGpus);
    ask.resources.cpus = ask.resources.gpus * 8;
    PlanJob job;
    job.id = JobId(++last_);
    const int user = static_cast<int>(dice(kUsers));
    job.kind = {user, 0, gpus};
    job.project = user % kProjects;
    job.shape = planner.intern(ask);
    job.priority = dice(4) == 0 ? 60 : 50;
    job.submitted = now;
    job.limit = std::chrono::minutes(kMinutes[dice(std::size(kMinutes))]);
    return job;
  }
  JobId submit() {
    const PlanJob job = make();
    planner.submit(job, now);
    return job.id;
  }
  void fill(std::size_t waiting) {
    while (planner.waiting() < waiting) {
      now += 10ms;
      submit();
    }
  }
  Decisions step(Duration by) {
    now += by;
    Decisions d = planner.plan(now);
    for (const auto& s : d.started) running.push_back(s.job);
    return d;
  }
  void finish(int n) {
    for (; n > 0 && !running.empty(); --n) {
      const std::size_t i = dice(running.size());
      planner.ended(running[i], now);
      running[i] = running.back();
      running.pop_back();
    }
  }
  std::size_t dice(std::size_t n) { return static_cast<std::size_t>(random_() % n); }

  Planner planner;
  Instant now{std::chrono::hours(24 * 365 * 56)};
  std::vector<JobId> running;

 private:
  std::mt19937_64 random_{7};
  std::int64_t last_ = 0;
};

// One job ends, and the planner decides what is next.
std::vector<double> completions(World& world, int n) {
  std::vector<double> out;
  world.step(61s);
  for (int i = 0; i < n; ++i) {
    world.now += 200ms;
    const std::size_t at = world.dice(world.running.size());
    const JobId id = world.running[at];
    world.running[at] = world.running.back();
    world.running.pop_back();
    const auto begin = Clock::now();
    world.planner.ended(id, world.now);
    const Decisions d = world.planner.plan(world.now);
    out.push_back(micros(begin));
    for (const auto& s : d.started) world.running.push_back(s.job);
  }
  return out;
}

// Jobs end until a thousand GPUs are free, then one pass gives them out.
double thousand_gpus(World& world) {
  world.step(61s);
  int freed = 0;
  while (freed < 1000 && !world.running.empty()) {
    const std::size_t at = world.dice(world.running.size());
    const JobId id = world.running[at];
    freed += world.planner.running().at(id).what.kind.gpus;
    world.planner.ended(id, world.now);
    world.running[at] = world.running.back();
    world.running.pop_back();
  }
  world.now += 200ms;
  const auto begin = Clock::now();
  const Decisions d = world.planner.plan(world.now);
  const double took = micros(begin);
  for (const auto& s : d.started) world.running.push_back(s.job);
  return took;
}

struct HeapCosts {
  double insert, erase, reprioritise;
};
HeapCosts heap_costs(World& world) {
  std::vector<double> insert, erase, again;
  for (int i = 0; i < 20'000; ++i) {
    world.now += 1ms;
    PlanJob job = world.make();
    auto begin = Clock::now();
    world.planner.submit(job, world.now);
    insert.push_back(micros(begin));
    begin = Clock::now();
    world.planner.withdraw(job.id);
    job.priority = job.priority == 60 ? 50 : 60;
    world.planner.submit(job, world.now);
    again.push_back(micros(begin));
    begin = Clock::now();
    world.planner.withdraw(job.id);
    erase.push_back(micros(begin));
  }
  return {quantile(insert, 0.5), quantile(erase, 0.5), quantile(again, 0.5)};
}

}  // namespace

int main() {
  World small;
  small.fill(10'000);
  small.step(61s);
  const auto ten_thousand = completions(small, 2000);

  World world;
  world.step(61s);
  const std::size_t before = heap_bytes(), waiting_before = world.planner.waiting();
  world.fill(1'000'000);
  const double bytes = static_cast<double>(heap_bytes() - before) /
                       static_cast<double>(world.planner.waiting() - waiting_before);
  for (int i = 0; i < 3; ++i) world.step(61s);
  const auto million = completions(world, 2000);
  std::vector<double> bulk;
  for (int i = 0; i < 15; ++i) bulk.push_back(thousand_gpus(world));
  const HeapCosts heap = heap_costs(world);
  std::vector<double> forecasts;
  for (int i = 0; i < 3; ++i) {
    const auto begin = Clock::now();
    const Forecast f = forecast(world.planner, "q", world.now, 10'000);
    forecasts.push_back(micros(begin) / 1e6);
    if (f.starts.size() < 9'000) return 1;  // it must have planned them
  }
  std::printf(
      "{\"completion_us_p50\": %.1f, \"completion_us_p99\": %.1f, \"completion_us_p50_at_10k\": %.1f, "
      "\"growth\": %.2f, \"thousand_gpus_ms\": %.2f, \"insert_us\": %.2f, \"erase_us\": %.2f, "
      "\"reprioritise_us\": %.2f, \"bytes_per_job\": %.0f, \"forecast_10k_s\": %.2f, \"waiting\": %zu, "
      "\"running\": %zu}\n",
      quantile(million, 0.5), quantile(million, 0.99), quantile(ten_thousand, 0.5),
      quantile(million, 0.5) / quantile(ten_thousand, 0.5), quantile(bulk, 0.5) / 1e3, heap.insert,
      heap.erase, heap.reprioritise, bytes, quantile(forecasts, 0.5), world.planner.waiting(),
      world.running.size());
}
