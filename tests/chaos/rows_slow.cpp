// Rows I, J and L: ranks that hang or lag, and a checkpoint that is not what it was.
#include <filesystem>

#include "tests/chaos/rows.h"

namespace tutti::chaos {

using e2e::Failure;
using e2e::number_of;
using e2e::text_of;

namespace {

// The rank's place in the gang, and its node.
struct Named {
  e2e::Seen process;
  int rank = 0;
  std::string node;
};
Named some_rank(Lab& lab, std::int64_t job) {
  auto& c = lab.cluster();
  auto ranks = c.await_ranks(job, lab.epoch(job), 4);  // in order of their numbers, two on each node
  const auto at = lab.dice().below(ranks.size());
  return {std::move(ranks[at]), static_cast<int>(at), c.gang(job).at(at / 2)};
}

}  // namespace

// Stopped, or computing without an end: in either case the others wait for it as in a collective.
void rank_hangs(Lab& lab) {
  auto& c = lab.cluster();
  const auto job = lab.submit_lockstep("hangs", "--usr2 spin");
  lab.await_step(job, 20);
  const auto victim = some_rank(lab, job);
  const bool stopped = lab.dice().chance(50);
  const auto hit = lab.strike(job, [&] { victim.process.signal(stopped ? SIGSTOP : SIGUSR2); });
  if (stopped) lab.silence(hit);
  lab.await_back(hit);
  const auto first = c.attempts(job).at(0);
  const auto who = "rank " + std::to_string(victim.rank) + " on " + victim.node;
  if (text_of(first, "cause") != "hang" || text_of(first, "detail").find(who) == std::string::npos)
    throw Failure(who + (stopped ? " was stopped" : " span") + ", and the verdict is " +
                  text_of(first, "cause") + ": " + text_of(first, "detail"));
  for (const auto& node : c.gang(job))
    if (node == victim.node) throw Failure("the gang runs again on " + node + ", whose rank had hung");
  lab.cancel(job);
}

void straggler(Lab& lab) {
  auto& c = lab.cluster();
  const auto job = lab.submit_lockstep("lags", "--usr2 slow");
  lab.await_step(job, 20);
  const auto victim = some_rank(lab, job);
  lab.count_injection();
  const auto at = e2e::boot_us();
  victim.process.signal(SIGUSR2);
  const auto who = "rank " + std::to_string(victim.rank);
  std::string said;
  e2e::await_true(
      "the straggler is named", 180s,
      [&] {
        for (const auto& event : c.events(job))
          if (text_of(event, "kind") == "straggler") said = e2e::json::serialize(event);
        return !said.empty();
      },
      [&] { return e2e::json::serialize(c.job(job)); });
  lab.measured(Stage::detected, at, e2e::boot_us());
  if (said.find(who) == std::string::npos || said.find(victim.node) == std::string::npos)
    throw Failure(who + " on " + victim.node + " lags, and named is " + said);
  if (c.attempts(job).size() != 1) lab.violated({Rule::healthy_killed, "a gang was ended for a slow rank"});
  lab.cancel(job);
}

// The newest one, while its gang is between two attempts; the next begins from the one before.
void checkpoint_corrupt(Lab& lab) {
  auto& c = lab.cluster();
  namespace fs = std::filesystem;
  const auto name = "damaged-" + std::to_string(e2e::boot_us());  // a folder of its own
  auto spec = forgiving(c.spec(name, c.rank("--usr1 3 --step-ms 20 --every 50"), 1, 2));
  const auto dir = c.checkpoints(name);
  spec["checkpoint"] = e2e::json::object{{"dir", dir}};
  // Time to do the damage.
  spec["retry"].as_object()["backoff"] = e2e::json::object{{"user", {{"initial", "3s"}, {"max", "3s"}}}};
  const auto job = c.submit(spec);
  c.await_running(job, 1);
  lab.await_step(job, 220);
  const auto ranks = c.await_ranks(job, 1, 2);
  const auto hit = lab.strike(job, [&] { ranks[0].signal(SIGUSR1); });
  c.await_state(job, "delayed");
  std::int64_t newest = -1;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("step-") && fs::exists(entry.path() / "COMPLETE.json"))
      newest = std::max<std::int64_t>(newest, std::stoll(name.substr(5)));
  }
  if (newest < 100) throw Failure("there are no two checkpoints in " + dir);
  fs::resize_file(dir + "/step-" + std::to_string(newest) + "/state", 1);
  lab.await_back(hit);
  const auto resumed = number_of(c.attempts(job).back(), "resume_step");
  if (resumed != newest - 50)
    throw Failure("the checkpoint of step " + std::to_string(newest) +
                  " is damaged, and the job begins at step " + std::to_string(resumed));
  lab.cancel(job);
}

}  // namespace tutti::chaos
