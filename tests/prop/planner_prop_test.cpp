// Whatever comes: no GPU is promised twice, gangs are whole, promises hold, the same events give the same
// plan, and the planner agrees with a slow and obvious one.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "scheduler/planner/planner.h"
#include "scheduler/replay/report.h"

namespace tutti::planner {
namespace {

using namespace std::chrono_literals;
using rc::gen::inRange;

const Instant kBegin{std::chrono::hours(24 * 365 * 50)};

replay::Trace any_trace(int most_gpus, int jobs) {
  replay::Trace trace;
  Duration at{};
  for (int n = *inRange(1, jobs); n > 0; --n) {
    at += *inRange(0, 2000) * 1s;
    replay::TraceJob job;
    job.submitted = at;
    job.gpus = *inRange(1, most_gpus + 1);
    job.ran = *inRange(1, 20'000) * 1s;
    job.limit = std::chrono::ceil<std::chrono::minutes>(job.ran) + *inRange(0, 60) * 5min;
    job.limit = planned_limit(job.limit);
    job.user = *inRange(0, 4);
    trace.jobs.push_back(job);
  }
  return trace;
}

replay::ReplayOptions options(std::string_view policy, int nodes, int node_size) {
  replay::ReplayOptions o;
  o.policy = *find_policy(policy);
  o.nodes = nodes;
  o.node_size = node_size;
  return o;
}

NodeDesc node(int n, int size) {
  NodeDesc desc;
  desc.id = NodeId(n);
  desc.name = "n" + std::to_string(n);
  desc.queue = "q";
  desc.devices = {{.model = "H100", .total = size, .usable = size}};
  desc.cpus = 64;
  desc.memory_bytes = 1LL << 40;
  return desc;
}

PlanJob job(Planner& planner, JobId id, int gpus, int size, Duration limit, Instant now) {
  GangAsk ask;
  ask.queue = "q";
  ask.nodes = gpus < size ? 1 : (gpus + size - 1) / size;
  ask.resources.gpus = std::min(gpus, size);
  PlanJob j;
  j.id = id;
  j.kind = {0, 0, gpus};
  j.shape = planner.intern(ask);
  j.submitted = now;
  j.limit = limit;
  return j;
}

const char* any_policy() {
  return *rc::gen::element("fair", "checkpoint", "las", "easy", "fifo", "srtf", "srsf");
}

RC_GTEST_PROP(Replay, EveryJobEndsOnceWithAllItsWorkDone, ()) {
  const auto trace = any_trace(20, 40);
  const auto o = options(any_policy(), *inRange(1, 5), *inRange(1, 9));
  const auto result = replay::replay(trace, o);
  for (std::size_t i = 0; i < trace.jobs.size(); ++i) {
    const auto& job = result.jobs[i];
    const int needs =
        trace.jobs[i].gpus < o.node_size ? 1 : (trace.jobs[i].gpus + o.node_size - 1) / o.node_size;
    RC_ASSERT(job.never == (needs > o.nodes));
    if (job.never) continue;
    RC_ASSERT(job.first_start >= job.submitted);
    RC_ASSERT(job.ended - job.first_start >= trace.jobs[i].ran);
    if (job.preemptions == 0) RC_ASSERT(job.ended - job.first_start == trace.jobs[i].ran);
  }
}

RC_GTEST_PROP(Replay, TheSameSeedGivesTheSameOutcome, ()) {
  const auto trace = any_trace(20, 40);
  auto o = options(any_policy(), *inRange(1, 5), 8);
  o.shake = 600s;
  o.seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto a = replay::replay(trace, o), b = replay::replay(trace, o);
  for (std::size_t i = 0; i < trace.jobs.size(); ++i) {
    RC_ASSERT(a.jobs[i].first_start == b.jobs[i].first_start);
    RC_ASSERT(a.jobs[i].ended == b.jobs[i].ended);
    RC_ASSERT(a.jobs[i].preemptions == b.jobs[i].preemptions);
  }
}

// First come, first served with backfill: the first that waits stays the first, so what it was promised only
// comes nearer.
RC_GTEST_PROP(Planner, APromisedStartIsNeverLate, ()) {
  const int nodes = *inRange(1, 5), size = *inRange(1, 9);
  Planner planner(*find_policy("easy"));
  planner.set_queue(0, "q");
  for (int n = 1; n <= nodes; ++n) planner.put_node(node(n, size));
  struct Known {
    Instant ends;
  };
  std::map<JobId, Known> running;
  std::map<JobId, std::pair<Duration, Duration>> specs;  // run, limit
  std::map<JobId, Instant> promised;
  Instant now = kBegin;
  std::int64_t last = 0;
  for (int n = *inRange(1, 80); n > 0; --n) {
    Instant next = now + *inRange(0, 3000) * 1s;
    for (;;) {  // ends before then
      const auto first = std::ranges::min_element(running, {}, [](const auto& r) { return r.second.ends; });
      const bool end = first != running.end() && first->second.ends <= next;
      now = end ? first->second.ends : next;
      if (end) {
        planner.ended(first->first, now);
        running.erase(first);
      } else {
        const JobId id(++last);
        const Duration ran = *inRange(1, 10'000) * 1s, limit = ran + *inRange(0, 10'000) * 1s;
        specs[id] = {ran, limit};
        planner.submit(job(planner, id, *inRange(1, nodes * size + 1), size, limit, now), now);
      }
      const Decisions d = planner.plan(now);
      for (const auto& s : d.started) {
        running[s.job] = {now + specs[s.job].first};
        if (promised.contains(s.job)) RC_ASSERT(now <= promised[s.job]);
      }
      for (const auto& p : d.promised) {
        if (promised.contains(p.job)) RC_ASSERT(p.at <= promised[p.job]);
        promised[p.job] = p.at;
      }
      if (!end) break;
    }
  }
}

// EASY backfill on nodes of one GPU, by counting: the textbook's version.
std::vector<Instant> slow_easy(const replay::Trace& trace, int total) {
  struct Run {
    Instant ends, until;
    int gpus;
  };
  std::vector<Instant> starts(trace.jobs.size());
  std::vector<std::size_t> waiting;
  std::vector<Run> running;
  std::size_t next = 0;
  Instant now{};
  const auto free_at = [&](Instant t) {
    int free = total;
    for (const auto& r : running)
      if (std::max(r.until, now) > t) free -= r.gpus;
    return free;
  };
  while (next < trace.jobs.size() || !waiting.empty()) {
    Instant at = Instant::max();
    if (next < trace.jobs.size()) at = Instant(trace.jobs[next].submitted);
    for (const auto& r : running) at = std::min(at, r.ends);
    now = at;
    std::erase_if(running, [&](const Run& r) { return r.ends <= now; });
    while (next < trace.jobs.size() && Instant(trace.jobs[next].submitted) <= now) waiting.push_back(next++);
    int free = total;
    for (const auto& r : running) free -= r.gpus;
    std::optional<Instant> shadow;
    int extra = 0;
    for (auto it = waiting.begin(); it != waiting.end();) {
      const auto& job = trace.jobs[*it];
      const bool ends_before = !shadow || now + job.limit <= *shadow;
      if (job.gpus <= free && (ends_before || job.gpus <= extra)) {
        if (!ends_before) extra -= job.gpus;
        free -= job.gpus;
        starts[*it] = now;
        running.push_back({now + job.ran, now + job.limit, job.gpus});
        it = waiting.erase(it);
        continue;
      }
      if (!shadow) {
        std::vector<Instant> ends;
        for (const auto& r : running) ends.push_back(r.until);
        std::ranges::sort(ends);
        for (const Instant t : ends)
          if (free_at(t) >= job.gpus) {
            shadow = t;
            extra = free_at(t) - job.gpus;
            break;
          }
      }
      ++it;
    }
  }
  return starts;
}

RC_GTEST_PROP(Planner, BackfillIsTheTextbooks, ()) {
  const int total = *inRange(1, 12);
  const auto trace = any_trace(total, 40);
  const auto result = replay::replay(trace, options("easy", total, 1));
  const auto expected = slow_easy(trace, total);
  for (std::size_t i = 0; i < trace.jobs.size(); ++i) RC_ASSERT(result.jobs[i].first_start == expected[i]);
}

// The M/M/1 queue at load 0.8: theory says 5 mean service times from arrival to end, first come first served.
TEST(ReplayTheory, OneServerKeepsItsTheory) {
  replay::Trace trace;
  std::mt19937_64 random(7);
  const auto exponential = [&](double mean) {
    return -mean * std::log1p(-static_cast<double>(random() >> 11) * 0x1.0p-53);
  };
  double at = 0;
  for (int i = 0; i < 200'000; ++i) {
    at += exponential(1000 / 0.8);
    trace.jobs.push_back(
        {.submitted = from_seconds(at), .gpus = 1, .ran = from_seconds(exponential(1000)), .limit = 1000h});
  }
  const auto o = options("fifo", 1, 1);
  const auto report = replay::report_of(trace, o, replay::replay(trace, o));
  EXPECT_NEAR(report.completion_seconds.mean / 1000, 5.0, 0.25);
  EXPECT_NEAR(report.utilisation, 0.8, 0.01);
}

}  // namespace
}  // namespace tutti::planner
