// Rows F, G, frozen scheduler and clocks that jump: faults of the control plane, which may end no gang.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/chaos/rows.h"

namespace tutti::chaos {

using e2e::await_true;

namespace {

void mend_scheduler(Lab& lab) {
  lab.mend_later([&lab] {
    auto& c = lab.cluster();
    c.scheduler().signal(SIGCONT);
    if (!c.scheduler().running()) c.start_scheduler();
    c.await_linked();
  });
}

}  // namespace

void scheduler_killed(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  mend_scheduler(lab);
  const auto at = e2e::boot_us();
  c.kill_scheduler();
  lab.measured(Stage::detected, at, e2e::boot_us());  // by whoever is to start it again
  lab.watch_unharmed(lab.dice().between(0ms, 800ms));
  const auto again = e2e::boot_us();
  c.start_scheduler();
  lab.measured(Stage::back, again, e2e::boot_us());
  lab.watch_unharmed(1s);
}

LabOptions with_standby() {
  LabOptions o;
  o.cluster.standby = true;
  return o;
}

// Of two schedulers the one that leads: the other takes over, and the one that comes back stands by.
void leader_killed(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  const bool second_leads = e2e::text_of(c.standby_rest().get("/readyz").as_object(), "role") == "leader";
  auto& leader = second_leads ? c.standby() : c.scheduler();
  const auto start_again = [&c, second_leads] { second_leads ? c.start_standby() : c.start_scheduler(); };
  lab.mend_later([&c, &leader, start_again] {
    if (!leader.running()) start_again();
    c.talk_to_standby(false);
    c.await_linked();
  });
  c.talk_to_standby(!second_leads);
  const auto at = e2e::boot_us();
  leader.kill();
  await_true("a write is answered", 30s,
             [&] { return lab.try_submit(second_leads ? c.rest() : c.standby_rest()).has_value(); });
  lab.measured(Stage::back, at, e2e::boot_us());
  lab.watch_unharmed(lab.dice().between(200ms, 2s));
  start_again();
  c.talk_to_standby(false);
  lab.watch_unharmed(1s);
}

namespace {

// One that has been followed by another leader must notice it by itself, and end.
void await_deposed(e2e::Cluster& c, e2e::Process& former, const std::string& term) {
  const auto status = former.wait(e2e::kPatience);
  if (!status) throw e2e::Failure("a leader that has been followed by another one goes on");
  if (!WIFEXITED(*status) || WEXITSTATUS(*status) != 3)
    throw e2e::Failure("a leader that has been followed by another one: " + e2e::describe_status(*status));
  if (const auto now = c.sql("SELECT term::text FROM leader").at(0); now != term)
    throw e2e::Failure("term " + term + " was followed by " + now + ", though its leader lives");
}

// A client that asks the other scheduler, again and again.
std::int64_t await_write(Lab& lab, e2e::Rest (*asked)(const e2e::Cluster&)) {
  await_true("a write is answered", 60s, [&] {
    auto rest = asked(lab.cluster());
    rest.patience = 3s;  // it may hand this to a leader that does not answer
    return lab.try_submit(std::move(rest)).has_value();
  });
  return e2e::boot_us();
}
e2e::Rest first_of(const e2e::Cluster& c) { return c.rest(); }
e2e::Rest second_of(const e2e::Cluster& c) { return c.standby_rest(); }

}  // namespace

// For longer than the server waits for a leader that says nothing. What it wakes up to is not its own any
// more.
void leader_paused(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  const bool second_leads = e2e::text_of(c.standby_rest().get("/readyz").as_object(), "role") == "leader";
  auto& leader = second_leads ? c.standby() : c.scheduler();
  const auto start_again = [&c, second_leads] { second_leads ? c.start_standby() : c.start_scheduler(); };
  lab.mend_later([&c, &leader, start_again] {
    if (leader.running()) {
      leader.signal(SIGCONT);
      leader.wait(10s);  // if it was followed by another one; else it leads on
    }
    if (!leader.running()) start_again();
    c.talk_to_standby(false);
    c.await_linked();
  });
  c.talk_to_standby(!second_leads);
  const auto at = e2e::boot_us();
  leader.signal(SIGSTOP);
  lab.measured(Stage::back, at, await_write(lab, second_leads ? first_of : second_of));
  c.await_linked();
  lab.watch_unharmed(lab.dice().between(200ms, 8s));
  const std::string term = c.sql("SELECT term::text FROM leader").at(0);
  leader.signal(SIGCONT);
  await_deposed(c, leader, term);
  lab.watch_unharmed(1s);
  start_again();
  c.talk_to_standby(false);
  lab.watch_unharmed(1s);
}

LabOptions with_leader_apart() {
  LabOptions o = with_standby();
  o.cluster.own_database = true;
  o.cluster.apart = true;
  return o;
}

// From PostgreSQL, from all nodes and from the other scheduler at once, for longer than lease and margin. It
// lives, believes that it leads, and nobody can tell it.
void leader_cut_off(Lab& lab) {
  auto& c = lab.cluster();
  if (e2e::text_of(c.rest().get("/readyz").as_object(), "role") != "leader")
    throw e2e::Failure("the scheduler that can be cut off does not lead");
  lab.count_injection();
  lab.mend_later([&c] {
    c.heal_scheduler();
    if (c.scheduler().running()) c.scheduler().wait(20s);
    if (!c.scheduler().running()) c.start_scheduler();
    c.talk_to_standby(false);
    c.await_linked();
  });
  c.talk_to_standby(true);
  const auto at = e2e::boot_us();
  c.cut_scheduler();
  lab.measured(Stage::back, at, await_write(lab, second_of));
  c.await_linked();
  lab.watch_unharmed(lab.dice().between(8s, 15s));
  if (!c.scheduler().running()) throw e2e::Failure("the leader that was cut off has ended");
  const std::string term = c.sql("SELECT term::text FROM leader").at(0);
  c.heal_scheduler();
  await_deposed(c, c.scheduler(), term);
  lab.watch_unharmed(1s);
  c.start_scheduler();
  c.talk_to_standby(false);
  lab.watch_unharmed(1s);
}

// What fails while nobody decides is decided by the next scheduler.
void scheduler_killed_and_a_fault(Lab& lab) {
  auto& c = lab.cluster();
  auto ranks = lab.ranks(lab.gang());
  const auto [node, gpu] = lab.some_gpu(lab.gang());
  auto& worker = c.worker(node);
  mend_scheduler(lab);
  const bool by_gpu = lab.dice().chance(50);
  if (by_gpu)
    lab.mend_later([&worker, gpu = gpu] { worker.gpu_sim("reset", {"--gpu", std::to_string(gpu)}); });
  const auto hit = lab.strike(lab.gang(), [&, gpu = gpu] {
    c.kill_scheduler();
    if (by_gpu)
      worker.xid(gpu, 79);
    else
      ranks[0].signal(SIGKILL);
  });
  lab.count_injection();
  lab.watch_unharmed(lab.dice().between(0ms, 800ms));
  c.start_scheduler();
  lab.await_back(hit);
}

void scheduler_away(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  mend_scheduler(lab);
  c.kill_scheduler();
  lab.watch_unharmed(lab.dice().between(8s, 20s));
  c.start_scheduler();
}

void scheduler_frozen(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  mend_scheduler(lab);
  c.scheduler().signal(SIGSTOP);
  lab.watch_unharmed(lab.dice().between(8s, 20s));
  c.scheduler().signal(SIGCONT);
}

LabOptions with_own_database() {
  LabOptions o;
  o.cluster.own_database = true;
  return o;
}

void database_restarts(Lab& lab) {
  auto& c = lab.cluster();
  lab.note("restart of one server; promotion of a standby is not tried (Patroni is not part of the harness)");
  lab.count_injection();
  lab.mend_later([&c] {
    c.postgres().start();
    c.await_linked();
  });
  const auto at = e2e::boot_us();
  if (lab.dice().chance(50))
    c.postgres().kill();
  else
    c.postgres().stop();
  await_true("a submission is refused", e2e::kPatience, [&] { return !lab.try_submit().has_value(); });
  lab.measured(Stage::detected, at, e2e::boot_us());
  lab.watch_unharmed(lab.dice().between(0ms, 8s));  // also for longer than the lease
  const auto again = e2e::boot_us();
  c.postgres().start();
  await_true("a submission is accepted", e2e::kPatience, [&] { return lab.try_submit().has_value(); });
  lab.measured(Stage::back, again, e2e::boot_us());
  lab.watch_unharmed(1s);
}

// ---------------------------------------------------------------- clocks

namespace {

std::string fake_time_library() {
  for (const auto* path : {"/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                           "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"})
    if (::access(path, R_OK) == 0) return path;
  return {};
}

std::map<std::string, std::string> faked(const std::string& file) {
  std::ofstream(file) << "+0\n";
  ::chmod(file.c_str(), 0644);
  return {{"LD_PRELOAD", fake_time_library()},
          {"FAKETIME_TIMESTAMP_FILE", file},
          {"FAKETIME_NO_CACHE", "1"},
          {"FAKETIME_DONT_FAKE_MONOTONIC", "1"},
          {"DONT_FAKE_MONOTONIC", "1"}};
}

std::string clock_file(const char* of) { return e2e::Site::instance().root() + "/clock-" + of; }

void set_clock(const char* of, const std::string& offset) {
  const std::string file = clock_file(of);
  std::ofstream(file + ".next") << offset << "\n";
  ::chmod((file + ".next").c_str(), 0644);
  ::rename((file + ".next").c_str(), file.c_str());
}

void jump(Lab& lab, const char* whose) {
  lab.mend_later([whose] { set_clock(whose, "+0"); });
  for (const auto* offset : {"+3600", "-1800", "+0"}) {
    lab.count_injection();
    set_clock(whose, offset);
    lab.watch_unharmed(8s);  // longer than lease and margin
    // Work starts and ends under the wrong clock too.
    const auto job = lab.try_submit();
    if (!job) throw e2e::Failure(std::string("no submission is accepted with a clock at ") + offset);
    lab.cluster().await_state(*job, "succeeded");
  }
}

}  // namespace

std::string why_no_fake_clocks() {
  if (fake_time_library().empty()) return "libfaketime is not installed";
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
  return "libfaketime and the sanitizers do not go together; the release build does it";
#endif
#endif
  return {};
}

LabOptions with_fake_clocks() {
  LabOptions o;
  o.wall_clock_steps = true;
  o.cluster.scheduler_env = faked(clock_file("scheduler"));
  o.cluster.worker_env = faked(clock_file("workers"));
  return o;
}

void clock_of_a_worker(Lab& lab) { jump(lab, "workers"); }
void clock_of_the_scheduler(Lab& lab) { jump(lab, "scheduler"); }

}  // namespace tutti::chaos
