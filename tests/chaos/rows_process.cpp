// Rows A, A', D, D', M and the frozen worker: processes that end or stop.
#include <algorithm>

#include "tests/chaos/rows.h"

namespace tutti::chaos {

namespace json = e2e::json;
using e2e::Failure;
using e2e::number_of;
using e2e::text_of;

void rank_dies(Lab& lab) {
  auto ranks = lab.ranks(lab.gang());
  const auto& victim = ranks[lab.dice().below(ranks.size())];
  const int how = lab.dice().chance(50) ? SIGKILL : SIGUSR1;  // the second makes it exit with 3
  lab.await_back(lab.strike(lab.gang(), [&] { victim.signal(how); }));
}

void user_error(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  const auto id = c.submit(c.spec("wrong", c.rank("--crash 1:3"), 2, 1));
  const auto job = c.await_state(id, "failed");
  const auto attempts = c.attempts(id);
  if (attempts.size() != 1 || number_of(attempts[0], "exit_code") != 3 ||
      text_of(attempts[0], "cause") != "user" || attempts[0].at("evidence").as_array().empty())
    throw Failure("a user's error is not told as one: " + json::serialize(attempts.back()));
  const auto exited = c.stamp(id, 1, 0).second;
  for (const auto& a : load_attempts(c, clock_offset())) {
    if (a.job != id) continue;
    lab.measured(Stage::detected, exited, a.fault);
    lab.measured(Stage::fenced, exited, a.ended_at);
    lab.measured(Stage::requeued, exited, a.ended_at);  // failed in the same transaction
  }
}

void worker_killed(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  auto& worker = c.worker(node);
  lab.count_injection();
  lab.mend_later([&c, &worker, node] {
    if (!worker.process().running()) c.start_worker(worker);
    c.await_linked({node});
  });
  const auto at = e2e::boot_us();
  worker.process().kill();
  e2e::await_true("the scheduler sees the worker go", e2e::kPatience,
                  [&] { return !c.node(node).at("linked").as_bool(); });
  lab.measured(Stage::detected, at, e2e::boot_us());
  c.start_worker(worker);
  c.await_linked({node});
  lab.measured(Stage::back, at, e2e::boot_us());
  lab.watch_unharmed(500ms);
}

void worker_and_supervisors_killed(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  auto& worker = c.worker(node);
  auto there = e2e::find_processes("E2E_ROOT", worker.directory() + "/");
  std::erase_if(there, [](const e2e::Seen& s) { return s.program != "tutti-supervisor"; });
  lab.hit_node(node);
  lab.mend_later([&c, &worker, node] {
    if (!worker.process().running()) c.start_worker(worker);
    c.await_linked({node});
  });
  const auto hit = lab.strike(lab.gang(), [&] {
    worker.process().kill();
    for (const auto& supervisor : there) supervisor.signal(SIGKILL);
    c.start_worker(worker);
  });
  lab.await_back(hit);
}

void crash_loop(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  auto spec = c.spec("loop", c.rank("--step-ms 100 --crash-each 10:3"), 1, 1);
  spec["retry"] =
      json::object{{"budget", {{"user", 10}}}, {"backoff", {{"user", {{"initial", "0s"}, {"max", "0s"}}}}}};
  const auto at = e2e::boot_us();
  const auto id = c.submit(spec);
  c.await_state(id, "held");
  lab.measured(Stage::requeued, at, e2e::boot_us());
  if (const auto n = c.attempts(id).size(); n != 3)
    throw Failure("a crash loop was stopped after " + std::to_string(n) + " attempts, not 3");
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
}

// Its supervisors go on and keep the fence; when it wakes, it must find that the gang has gone elsewhere.
void worker_frozen(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  auto& worker = c.worker(node);
  lab.hit_node(node);
  lab.mend_later([&c, &worker, node] {
    worker.process().signal(SIGCONT);
    c.await_linked({node});
  });
  lab.await_back(lab.strike(lab.gang(), [&] { worker.process().signal(SIGSTOP); }), node);
}

}  // namespace tutti::chaos
