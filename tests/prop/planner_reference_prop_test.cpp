// Policy easy, pass by pass, against a planner of loops that is written from the definition; and that the
// checks used here do fail when a decision is wrong.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include "tests/prop/reference_planner.h"

namespace tutti::planner {
namespace {

using namespace std::chrono_literals;
using rc::gen::inRange;

bool dice(int percent) { return *inRange(0, 100) < percent; }

// The same small state twice: in a planner, and as plain data.
class Twins {
 public:
  explicit Twins(std::vector<slow::Amount> nodes) : planner(*find_policy("easy")) {
    state.now = Instant(std::chrono::hours(24 * 365 * 50));
    planner.set_queue(0, "q");
    for (const auto& has : nodes) {
      NodeDesc desc;
      desc.id = NodeId(static_cast<std::int64_t>(state.nodes.size()) + 1);
      desc.name = "n" + std::to_string(state.nodes.size());
      desc.queue = "q";
      desc.devices = {{.model = "H100", .total = has.gpus, .usable = has.gpus}};
      desc.cpus = has.cpus;
      planner.put_node(desc);
      state.nodes.push_back(has);
    }
  }

  PlanJob plan_job(const slow::Job& job) {
    GangAsk ask;
    ask.queue = "q";
    ask.nodes = job.nodes;
    ask.resources.gpus = job.each.gpus;
    ask.resources.cpus = job.each.cpus;
    PlanJob out;
    out.id = job.id;
    out.kind = {0, 0, ask.gpus()};
    out.shape = planner.intern(ask);
    out.priority = job.priority;
    out.submitted = job.rank_at;
    out.limit = job.limit;
    return out;
  }
  // `attained`: of a limit that was so much longer.
  void wait(const slow::Job& job, Duration attained = {}) {
    state.waiting.push_back(job);
    PlanJob what = plan_job(job);
    what.limit += attained;
    planner.enqueue({.what = what, .attained = attained, .since = state.now, .rank_at = job.rank_at},
                    state.now);
  }
  void run(const slow::Job& job, std::vector<int> on, Duration ago) {
    Parts parts;
    for (const int node : on) {
      parts.push_back({.node = node, .gpus = {}});
      parts.back().gpus[0] = static_cast<std::uint8_t>(job.each.gpus);
    }
    const Instant since = state.now - ago;
    planner.adopt(plan_job(job), parts, since, since, {});
    state.running.push_back({job.id, since + job.limit, job.each, std::move(on)});
  }
  void end(JobId id) {
    planner.ended(id, state.now);
    std::erase_if(state.running, [&](const slow::Run& r) { return r.id == id; });
  }
  void follow(const slow::Plan& p) {
    state = slow::with_starts(std::move(state), p);
    for (const auto& [id, on] : p.started)
      std::erase_if(state.waiting, [&](const slow::Job& j) { return j.id == id; });
  }

  Planner planner;
  slow::State state;
};

slow::Job any_job(std::int64_t id, Instant now) {
  slow::Job job;
  job.id = JobId(id);
  job.priority = dice(80) ? 50 : *inRange(10, 101);
  job.rank_at = now - *inRange(0, 3) * 1min;
  job.limit = *inRange(1, 7) * *rc::gen::element(1min, 10min, 20min);  // steps of whole minutes, often equal
  job.nodes = *inRange(1, 4);
  job.each = {.gpus = dice(20) ? 8 : *inRange(0, 5), .cpus = *inRange(0, 4)};
  if (job.each.gpus == 0 && job.each.cpus == 0) job.each.cpus = 1;
  return job;
}

Twins any_state() {
  std::vector<slow::Amount> nodes;
  for (int n = *inRange(1, 5); n > 0; --n)
    nodes.push_back({.gpus = dice(50) ? 8 : *inRange(1, 9), .cpus = *inRange(1, 12)});
  return Twins(nodes);
}

// Some run already, now and then beyond their limits; some wait.
std::int64_t begin_with_any(Twins& twins) {
  std::int64_t last = 0;
  for (int n = *inRange(0, 5); n > 0; --n) {
    slow::Job job = any_job(++last, twins.state.now);
    auto on = slow::nodes_with_room(twins.state, std::nullopt, job.each);
    while (static_cast<int>(on.size()) > job.nodes)
      on.erase(on.begin() + *inRange<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(on.size())));
    if (static_cast<int>(on.size()) == job.nodes) twins.run(job, on, *inRange(0, 70) * 1min);
  }
  return last;
}

void plan_and_compare(Twins& twins) {
  const slow::State before = twins.state;
  const auto plan = slow::as_plan(twins.planner.plan(before.now));
  const auto expected = slow::plan(before);
  const auto broken = slow::broken_laws(before, plan);
  if (broken.empty() && plan.started == expected.started && plan.promised == expected.promised)
    return twins.follow(plan);
  std::string words =
      slow::text(before) + "\nplanner:  " + slow::text(plan) + "\nexpected: " + slow::text(expected);
  for (const auto& law : broken) words += "\nbroken: " + law;
  RC_FAIL(words);
}

RC_GTEST_PROP(Reference, EasyDecidesWhatItsDefinitionSays, ()) {
  Twins twins = any_state();
  std::int64_t last = begin_with_any(twins);
  for (int pass = *inRange(1, 8); pass > 0; --pass) {
    for (int n = *inRange(0, 5); n > 0 && twins.state.waiting.size() < 8; --n) {
      const slow::Job job = any_job(++last, twins.state.now);
      twins.wait(job, dice(20) ? *inRange(1, 100) * 1min : 0min);
    }
    plan_and_compare(twins);
    twins.state.now += *inRange(0, 30) * 1min;
    for (const auto& run : std::vector(twins.state.running))
      if (run.until <= twins.state.now ? dice(80) : dice(20)) twins.end(run.id);
  }
}

}  // namespace
}  // namespace tutti::planner
