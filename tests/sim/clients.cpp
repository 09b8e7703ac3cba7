#include "tests/sim/clients.h"

#include <algorithm>
#include <functional>
#include <memory>

#include "api/wire/job_spec_codec.h"
#include "scheduler/model/assert.h"

namespace tutti::sim {
namespace {
constexpr auto kOwner = "ada";
constexpr std::uint64_t kBodyHash = 7;

// Noticed only when a job outlives the leases that a leader before may have renewed.
constexpr bool wants_long_jobs(Canary canary) {
  return canary == Canary::renew_unconfirmed || canary == Canary::reads_confirm ||
         canary == Canary::confirmed_when_heard || canary == Canary::settle_by_hello ||
         canary == Canary::untold_term;
}
}  // namespace

Clients::Clients(Place& place, std::size_t nodes, int gpus_per_node)
    : place_(place),
      world_(place.network.world()),
      dice_(world_.dice(3)),
      nodes_(nodes),
      gpus_per_node_(gpus_per_node) {}

JobSpec Clients::make_spec(const std::string& name) {
  JobSpec s;
  s.name = name;
  s.run = "train";
  s.nodes = dice_.between(1, std::min<int>(3, static_cast<int>(nodes_)));
  if (nodes_ > 100) s.nodes = dice_.chance(50) ? dice_.between(17, 64) : dice_.between(1, 16);
  s.resources.gpus = dice_.chance(150) ? 0 : dice_.between(1, gpus_per_node_);
  s.launcher = dice_.chance(150) ? Launcher::script : Launcher::direct;
  s.procs_per_node = std::max(1, std::min(2, s.resources.gpus));
  s.priority = dice_.between(5, 95);
  s.stop.grace = dice_.between(1, 3) * 1s;
  const Duration backoff = dice_.between(1, 5) * 100ms;
  for (auto cause :
       {Cause::user, Cause::gpu, Cause::node_lost, Cause::launch, Cause::unknown, Cause::storage})
    s.retry.backoff[cause] = {backoff, 3s};
  s.retry.budget[Cause::user] = dice_.between(0, 2);
  s.retry.no_progress_limit = dice_.chance(500) ? 0 : 4;
  if (dice_.chance(150)) s.time_limit = dice_.between(3, 20) * 1s;
  if (dice_.chance(150))
    s.begin_time = Instant{std::chrono::hours(24 * 365 * 56)} +
                   std::chrono::duration_cast<std::chrono::seconds>(world_.now()) + dice_.between(1, 20) * 1s;

  JobPlan plan;
  plan.work = dice_.between(500ms, 25s);
  if (dice_.chance(700)) {
    s.checkpoint.dir = "/ckpt/" + name;
    plan.checkpoint_every = dice_.between(500ms, 4s);
    if (dice_.chance(600)) s.checkpoint.keep = dice_.between(1, 3);
    if (dice_.chance(200)) s.checkpoint.keep_every = 20;
  }
  if (!place_.benign || dice_.chance(200)) plan.fails_per_mille = dice_.chance(300) ? 300 : 20;
  plan.exit_code = dice_.chance(300) ? 85 : dice_.between(1, 3);
  if (plan.exit_code == 85)
    plan.fails_per_mille = 20;  // restarts are free and without limit: it must end some day
  plan.obeys_stop = dice_.chance(700);
  if (dice_.chance(300)) {
    s.setup = "prepare data";
    plan.setup = dice_.between(1ms, 3s);
    if (!place_.benign) plan.setup_fails_per_mille = 50;
  }
  if (wants_long_jobs(place_.canary)) {
    s.nodes = 1;
    s.time_limit.reset();
    s.begin_time.reset();
    plan.work = dice_.between(20s, 45s);
    plan.fails_per_mille = 0;
  }
  place_.workload.plans[name] = plan;
  return s;
}

// As it is stored and read back.
SubmitRequest Clients::request(JobSpec spec) const {
  SubmitRequest r;
  r.spec_json = wire::encode_spec(spec);
  auto parsed = wire::parse_spec_json(r.spec_json, Now{});
  TUTTI_ASSERT(parsed.ok(), "the simulation writes legal specs");
  r.spec = std::make_shared<const JobSpec>(std::move(parsed.spec));
  r.owner = kOwner;
  r.idempotency_key = "key-" + r.spec->name;
  r.body_hash = kBodyHash;
  return r;
}

// Each waits for one or two before it.
Clients::Submission Clients::chain() {
  using When = Dependency::When;
  Submission all;
  for (int i = dice_.between(2, 4); i > 0; --i) {
    all.push_back(request(make_spec(next_name())));
    for (std::size_t before = all.size() - 1; before-- > 0 && all.back().after.size() < 2;)
      if (dice_.chance(600) || all.back().after.empty())
        all.back().after.push_back({.request = before,
                                    .tasks = 1,
                                    .when = dice_.chance(500)   ? When::any
                                            : dice_.chance(500) ? When::ok
                                            : dice_.chance(500) ? When::started
                                                                : When::failed});
  }
  return all;
}

// Tasks, and one that waits for all of them.
Clients::Submission Clients::array() {
  Submission all;
  JobSpec spec = make_spec(next_name());
  const int tasks = dice_.between(2, 4), at_once = dice_.between(0, 2);
  for (int i = 0; i < tasks; ++i) {
    spec.array_task = ArrayTask{.index = i, .position = i, .tasks = tasks, .max_parallel = at_once};
    all.push_back(request(spec));
    if (i == 0) continue;
    all.back().task_of = 0;
    all.back().idempotency_key.clear();
  }
  all.push_back(request(make_spec(next_name())));
  all.back().after.push_back({.request = 0, .tasks = tasks, .when = Dependency::When::any});
  return all;
}

Clients::Submission Clients::schedule() {
  JobSpec spec = make_spec(next_name());
  spec.begin_time.reset();
  spec.schedule = Schedule{.cron = "* * * * *",
                           .times = *parse_cron("* * * * *"),
                           .overlap = dice_.chance(500) ? Schedule::Overlap::skip : Schedule::Overlap::queue};
  return {request(std::move(spec))};
}

void Clients::start(Time until, int jobs) {
  until_ = until;
  for (int i = 0; i < jobs; ++i)
    world_.at(dice_.between(0ms, until), [this] {
      ++waiting_;
      if (dice_.chance(place_.canary == Canary::not_unfolded ? 600 : 100))
        submit(array(), 0);
      else if (dice_.chance(100))
        submit(chain(), 0);
      else if (dice_.chance(50))
        submit(schedule(), 0);
      else
        submit({request(make_spec(next_name()))}, 0);
    });
  meddle(until);
}

// Else it would go on for ever.
void Clients::cancel_schedule(JobId id) {
  auto settled = std::make_shared<bool>(false);
  const auto again = [this, id, settled] {
    if (!std::exchange(*settled, true)) cancel_schedule(id);
  };
  world_.after(3s, again);
  call(
      [id, settled](ControlPlane& p, Now t) -> std::function<void()> {
        (void)p.on_cancel(t, id, "eve");
        return [settled] { *settled = true; };
      },
      [this, again] { world_.after(dice_.between(100ms, 1s), again); });
}

void Clients::call(std::function<std::function<void()>(ControlPlane&, Now)> decide,
                   std::function<void()> refused) {
  // Whoever says that it leads, of the client's list of addresses; sometimes two do.
  SchedulerProcess* target = nullptr;
  std::uint64_t found = 0;
  for (auto* s : place_.schedulers)
    if (s->alive() && s->plane() != nullptr && (found++ == 0 || dice_.chance(500))) target = s;
  if (target == nullptr) return world_.after(dice_.between(50ms, 500ms), std::move(refused));
  if (dice_.chance(10)) return;  // the request is lost; the caller's deadline sees to it
  world_.after(place_.network.latency(), [target, decide = std::move(decide), refused = std::move(refused)] {
    target->gate([target, decide, refused] { target->post({.decide = decide, .refuse = refused}); });
  });
}

void Clients::submit(const Submission& s, int tries) {
  auto settled = std::make_shared<bool>(false);
  const auto again = [this, s, tries, settled] {
    if (*settled) return;
    *settled = true;
    submit(s, tries + 1);
  };
  world_.after(5s, again);  // no answer
  call(
      [this, s, settled](ControlPlane& plane, Now now) -> std::function<void()> {
        const auto results = plane.on_submit_all(now, s);
        for (const auto& result : results)
          if (!result) {
            world_.fail("a submission was refused: " + result.error().message);
            return {};
          }
        return [this, s, settled, results] {
          if (results.front()->replayed) world_.mark("submission replayed");
          if (dice_.chance(30)) return;  // the answer is lost
          world_.after(place_.network.latency(), [this, s, settled, results] {
            for (std::size_t i = 0; i < s.size(); ++i)
              if (!s[i].idempotency_key.empty())
                place_.oracle.acknowledged(kOwner, s[i].idempotency_key, results[i]->id);
            if (*settled) return;  // an answer after its deadline is still true
            *settled = true;
            --waiting_;
            if (s.front().spec->schedule) {
              world_.mark("schedule");
              const JobId id = results.front()->id;
              world_.at(std::max(world_.now(), until_ + 1s), [this, id] { cancel_schedule(id); });
            }
          });
        };
      },
      [this, again] { world_.after(dice_.between(100ms, 1s), again); });
}

void Clients::meddle(Time until) {
  world_.after(dice_.between(1s, 8s), [this, until] {
    if (world_.now() >= until) return;
    act_on_a_job();
    meddle(until);
  });
}

void Clients::act_on_a_job() {
  const JobId id(dice_.between(1, std::max(1, next_job_)));
  const auto ignore = [] {};
  switch (dice_.below(6)) {
    case 0:
      return call(
          [this, id](ControlPlane& p, Now t) -> std::function<void()> {
            if (const Job* job = p.find_job(id))
              world_.mark("cancel while " + std::string(name(job->row.state)));
            (void)p.on_cancel(t, id, "eve");
            return {};
          },
          ignore);
    case 1:
      return call(
          [this, id](ControlPlane& p, Now t) -> std::function<void()> {
            if (const Job* job = p.find_job(id))
              world_.mark("hold while " + std::string(name(job->row.state)));
            (void)p.on_hold(t, id, "look at it");
            return {};
          },
          ignore);
    case 2:
      return call(
          [id](ControlPlane& p, Now t) -> std::function<void()> {
            (void)p.on_release(t, id);
            return {};
          },
          ignore);
    case 3:
      return call(
          [this, id](ControlPlane& p, Now t) -> std::function<void()> {
            if (const Job* job = p.find_job(id))
              world_.mark("requeue while " + std::string(name(job->row.state)));
            (void)p.on_requeue(t, id, "eve");
            return {};
          },
          ignore);
    case 4: {
      const std::string node = "n" + std::to_string(dice_.below(nodes_));
      const auto service = dice_.chance(500) ? NodeService::draining : NodeService::cordoned;
      serve(node, service, 1);
      return world_.after(dice_.between(2s, 15s), [this, node] { serve(node, NodeService::schedulable, 5); });
    }
    default:
      return call(
          [](ControlPlane& p, Now t) -> std::function<void()> {  // whatever is held, all at once
            std::vector<JobId> held;
            for (const auto& [job, j] : p.jobs())
              if (j.row.state == JobState::held) held.push_back(job);
            for (JobId job : held) (void)p.on_release(t, job);
            return {};
          },
          ignore);
  }
}

void Clients::serve(const std::string& node, NodeService service, int tries) {
  if (tries <= 0) return;
  auto settled = std::make_shared<bool>(false);
  const auto again = [this, node, service, tries, settled] {
    if (std::exchange(*settled, true)) return;
    serve(node, service, tries - 1);
  };
  world_.after(3s, again);
  call(
      [node, service, settled](ControlPlane& p, Now t) -> std::function<void()> {
        (void)p.on_node_service(t, node, service, "maintenance");
        return [settled] { *settled = true; };
      },
      [this, again] { world_.after(dice_.between(100ms, 1s), again); });
}

void Clients::resume_nodes(const std::vector<std::string>& names) {
  for (const auto& node : names) serve(node, NodeService::schedulable, 1000);
}

}  // namespace tutti::sim
