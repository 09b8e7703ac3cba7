#include "tests/sim/simulation.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "scheduler/decisions/decision_log.h"
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/worker_process.h"

// What a run leaves of frames on the fake stack, by exceptions that pass them, is looked through at each
// call: a hundred runs would take ten times as long. Every other test looks for such uses.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }

namespace tutti::sim {
namespace {

constexpr Duration kToRest = 600s;  // after everything is mended: jobs restarted last want their whole run
constexpr Duration kQuiet = 20s;    // after the last job: for ends that are still to be told
// In a storm schedulers and links go away again before what was to be done could be told.
constexpr Duration kStormLimit = 30s;
constexpr Duration kLivesOn = 6s + 1500ms + 3s + 5s;  // lease, margin, grace, and the way there

class Simulation {
 public:
  explicit Simulation(const RunOptions& options)
      : world_(options.seed, options.verbose),
        dice_(world_.dice(0)),
        asked_nodes_(options.nodes),
        fewest_nodes_(of_replicas(options.canary) ? 4 : 2),
        benign_(options.canary == Canary::none && dice_.chance(350) && !options.storm),
        network_(world_, static_cast<std::size_t>(nodes_)),
        oracle_(world_, server_.database, benign_),
        place_{network_,       oracle_,
               workload_,      {},
               options.canary, benign_,
               options.storm,  !benign_ && options.canary == Canary::none && dice_.chance(300)},
        clients_(place_, static_cast<std::size_t>(nodes_), gpus_),
        faults_(place_, server_, machines_) {
    server_.continue_for = dice_.chance(400) ? 0s : dice_.chance(500) ? 15s : 600s;
    server_.renews_for = dice_.chance(600) ? 10s : dice_.chance(500) ? 20s : 600s;
    // Often others wait for the lead.
    int schedulers = 1;
    if (options.canary == Canary::none) schedulers = dice_.chance(400) ? 1 : dice_.chance(600) ? 2 : 3;
    if (of_replicas(options.canary)) {
      schedulers = dice_.between(2, 3);
      server_.continue_for = 0s;
      server_.renews_for = 15s;
    }
    Dice rolling = world_.dice(6);  // of its own: runs without are as they were
    place_.rolling = of_versions(options.canary) || place_.upgrade || (benign_ && rolling.chance(400));
    if (benign_) server_.renews_for = 600s;  // longer than any store is away: nothing is to end
    for (int i = 0; i < schedulers; ++i) {
      schedulers_.push_back(std::make_unique<SchedulerProcess>(network_, server_, oracle_, options.canary,
                                                               "scheduler" + std::to_string(i),
                                                               static_cast<std::uint64_t>(50 + i)));
      place_.schedulers.push_back(schedulers_.back().get());
      if (options.decisions.empty()) continue;
      decisions::DecisionLogSettings log;
      log.directory = options.decisions + "/scheduler" + std::to_string(i);
      log.version = "simulation";
      logs_.push_back(std::make_unique<decisions::DecisionLog>(log));
      schedulers_.back()->watched_by(logs_.back().get());
    }
    for (int i = 0; i < nodes_; ++i)
      machines_.push_back(std::make_unique<Machine>(place_, static_cast<std::size_t>(i), gpus_));
    for (const auto& machine : machines_) place_.machines.push_back(machine.get());
  }

  RunResult run() {
    const Time until = large() ? dice_.between(20s, 30s) : dice_.between(30s, 90s);
    if (place_.rolling) faults_.choose_versions();
    for (auto& s : schedulers_) s->start();
    for (auto& machine : machines_) world_.at(dice_.between(0ms, 2s), [m = machine.get()] { m->boot(); });
    clients_.start(until, large() ? nodes_ / 8 : dice_.between(5, 20));
    faults_.start(until);
    watch();
    world_.at(until, [this] { mend(); });
    while (world_.step() && !over_) {
    }
    if (!over_ && !world_.failure()) world_.fail("nothing happens any more, and not all is over");
    RunResult result;
    result.failure = world_.failure();
    result.failed_at = result.length = world_.now();
    result.events = world_.events();
    result.injections = world_.injections();
    result.hash = world_.hash();
    result.marks = world_.marks();
    return result;
  }

 private:
  void watch() {
    world_.after(1s, [this] {
      oracle_.sweep(faults_.control_plane_down(), place_.storm ? kLivesOn + kStormLimit : kLivesOn);
      watch();
    });
  }

  void mend() {
    faults_.heal();
    for (auto& machine : machines_) {
      if (!machine->powered()) machine->boot();
      if (!machine->worker()->alive()) machine->start_worker();
    }
    for (auto& s : schedulers_)
      if (!s->alive()) s->start();
    mended_at_ = world_.now();
    put_in_order();
    await_rest();
  }

  // An operator resets the GPUs and puts nodes back into service, until all are.
  void put_in_order() {
    std::vector<std::string> names;
    for (auto& machine : machines_) {
      if (large() && takes_work(machine->name())) continue;
      machine->reset_gpus();
      names.push_back(machine->name());
    }
    world_.after(2s, [this, names] { clients_.resume_nodes(names); });
    world_.after(15s, [this] {
      if (over_) return;
      if (!why_not_free().empty()) put_in_order();
    });
  }

  // In service, and none of its GPUs set aside.
  bool takes_work(const std::string& name) const {
    const ControlPlane* plane = this->plane();
    if (plane == nullptr) return false;
    for (const auto& [id, node] : plane->cluster().nodes) {
      if (node.row.name != name) continue;
      return node.accepts_work() && std::ranges::all_of(node.gpus, [&](GpuId gpu) {
               return plane->cluster().gpus.at(gpu).row.health == GpuHealth::healthy;
             });
    }
    return false;
  }

  bool large() const { return nodes_ > 100; }

  void await_rest() {
    world_.after(500ms, [this] {
      const std::string why = why_not_at_rest();
      if (!why.empty()) {
        rest_since_.reset();
        if (world_.now() - mended_at_ > kToRest) return world_.fail("does not come to rest: " + why);
        return await_rest();
      }
      if (!rest_since_) rest_since_ = world_.now();
      if (world_.now() - *rest_since_ < kQuiet) return await_rest();
      oracle_.at_end();
      check_workers();
      over_ = true;
    });
  }

  std::string why_not_at_rest() {
    const ControlPlane* plane = this->plane();
    if (plane == nullptr) return "the scheduler is not ready";
    if (!clients_.all_answered()) return "a client has no answer";
    for (const auto& [id, job] : plane->jobs())
      if (job.row.state != JobState::held && !waits_for_held(*plane, job)) {
        std::string why = "job " + to_string(id) + " is " + std::string(name(job.row.state));
        for (const auto& reason : plane->explain(id, leader()->clock()).reasons) why += "; " + reason.text;
        return why;
      }
    if (oracle_.ranks_alive() > 0) return std::to_string(oracle_.ranks_alive()) + " ranks live";
    return why_not_free();
  }

  // Some job that it depends on is still there; that one is held, or waits for one that is.
  static bool waits_for_held(const ControlPlane& plane, const Job& job) {
    return job.row.state == JobState::blocked &&
           std::ranges::any_of(job.spec->depends_on, [&](const Dependency& d) {
             const auto live = plane.jobs().lower_bound(d.job);
             return live != plane.jobs().end() && live->first.value < d.job.value + d.tasks;
           });
  }

  std::string why_not_free() {
    const ControlPlane* plane = this->plane();
    if (plane == nullptr) return "the scheduler is not ready";
    if (plane->cluster().nodes.size() != machines_.size()) return "not all nodes are registered";
    for (const auto& [id, gpu] : plane->cluster().gpus)
      if (!gpu.free())
        return gpu.row.uuid + " is " + std::string(name(gpu.row.health)) + " (" + gpu.row.health_reason +
               ")" + (gpu.holder.job ? ", held by job " + to_string(gpu.holder.job) : "") +
               (gpu.row.present ? "" : ", absent");
    for (const auto& [id, node] : plane->cluster().nodes)
      if (!node.accepts_work())
        return "node " + node.row.name + " takes no work: " + std::string(name(node.row.state)) + ", " +
               std::string(name(node.row.service)) + (node.linked ? "" : ", not connected") +
               (node.stale.empty() ? "" : ", stale ranks");
    return "";
  }

  // Of whoever leads.
  const SchedulerProcess* leader() const {
    const Term newest = server_.database->leader().term;
    for (const auto& s : schedulers_)
      if (s->leads() && s->term() == newest && s->plane() != nullptr) return s.get();
    return nullptr;
  }
  const ControlPlane* plane() const {
    const SchedulerProcess* leads = leader();
    return leads == nullptr ? nullptr : leads->plane();
  }

  void check_workers() {
    for (auto& machine : machines_) {
      if (const auto* core = machine->worker()->core(); core != nullptr && !core->attempts().empty())
        return world_.fail(machine->name() + " still keeps attempt " +
                           to_string(core->attempts().front().job) + "/" +
                           to_string(core->attempts().front().epoch));
      for (const auto& [key, supervisor] : machine->supervisors())
        if (supervisor->alive())
          return world_.fail("the supervisor of job " + to_string(key.job) + " is left on " +
                             machine->name());
    }
    if (!server_.database->load().allocations.empty()) world_.fail("I5: an allocation is left open");
  }

  World world_;
  Dice dice_;
  const int asked_nodes_, fewest_nodes_;
  const int nodes_ = asked_nodes_ > 0 ? asked_nodes_ : dice_.between(fewest_nodes_, 5);
  const int gpus_ = dice_.between(1, 4);
  const bool benign_;
  Server server_;
  Workload workload_;
  Network network_;
  Oracle oracle_;
  std::vector<std::unique_ptr<decisions::DecisionLog>> logs_;  // outlive the schedulers
  std::vector<std::unique_ptr<SchedulerProcess>> schedulers_;
  Place place_;
  std::vector<std::unique_ptr<Machine>> machines_;
  Clients clients_;
  Faults faults_;
  Time mended_at_{};
  std::optional<Time> rest_since_;
  bool over_ = false;
};

}  // namespace

RunResult run_simulation(const RunOptions& options) {
  Simulation simulation(options);
  return simulation.run();
}

}  // namespace tutti::sim
