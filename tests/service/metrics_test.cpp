// What a scheduler shows at /metrics: all of the table and nothing else, and the numbers in it.
#include "scheduler/service/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "db/store.h"
#include "scheduler/model/metric_table.h"
#include "scheduler/service/plane_metrics.h"
#include "tests/support/test_env.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

struct Shown {
  std::map<std::string, std::string> types;  // by metric
  std::map<std::string, std::string> helps;
  std::map<std::string, std::set<std::string>> labels;  // by metric, all that were seen
};

std::string metric_of(std::string sample, const std::map<std::string, std::string>& types) {
  for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
    if (types.contains(sample) || !sample.ends_with(suffix)) continue;
    const std::string stem = sample.substr(0, sample.size() - suffix.size());
    if (types.contains(stem)) return stem;
  }
  return sample;
}

Shown read(const std::string& text) {
  Shown out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string hash, what, name;
    if (line.starts_with("#")) {
      words >> hash >> what >> name;
      std::string rest;
      std::getline(words >> std::ws, rest);
      EXPECT_TRUE((what == "HELP" ? out.helps : out.types).emplace(name, rest).second)
          << name << ": its samples do not follow each other";
      continue;
    }
    const auto end = line.find_first_of("{ ");
    auto& labels = out.labels[metric_of(line.substr(0, end), out.types)];
    if (line[end] != '{') continue;
    for (auto at = end; line[at] != '}';) {  // no value in these tests holds a quote
      const auto equals = line.find('=', at);
      if (const auto label = line.substr(at + 1, equals - at - 1); label != "le") labels.insert(label);
      at = line.find('"', equals + 2) + 1;
    }
  }
  return out;
}

std::set<std::string> series_of(const std::string& text, const std::set<std::string>& metrics) {
  std::set<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (metrics.contains(line.substr(0, line.find_first_of("{ "))))
      out.insert(line.substr(0, line.rfind(' ')));
  return out;
}

// Everything that is counted, once.
void count_everything(Metrics& m, const Batch& batch, const ControlPlane* plane) {
  m.batch_committed(batch, plane, 0.01);
  m.recovery_stages({{"running", Cause::gpu, 5s}});
  m.request_done("GET", "/v1/jobs", 200, 0.002);
  m.planned(0.001);
  m.commit_failed(std::make_exception_ptr(StoreError(StoreError::in_doubt, "gone")));
  m.worker_connected();
  m.leader_changed(true);
  m.measurements_dropped("names", 1);
  m.measurements_written(10, true);
  m.history_failed("archive");
}

struct MetricsTest : ::testing::Test {
  testing::TestEnv env;
  Metrics metrics;

  std::string text() { return metrics.text(env.plane.get(), 3, &env.leases, env.now.mono); }

  // tutti_queue_oldest_timestamp_seconds; 0: there is none.
  double oldest() {
    const std::string shown = text();
    const auto at = shown.find("tutti_queue_oldest_timestamp_seconds{queue=\"default\"} ");
    return at == std::string::npos ? 0 : std::stod(shown.substr(shown.find("} ", at) + 2));
  }

  Batch batch_of_all_kinds() {
    const NodeId node = env.add_node("n1");
    const JobId failed = env.submit(testing::job_spec(1, 8));
    const AttemptKey key = env.run(failed);
    env.submit(testing::job_spec(1, 8, "waits"));
    protocol::NodeHealth health;
    health.conditions.push_back({.kind = "disk_full", .subject = "/tmp", .detail = "full", .age_us = 0});
    env.plane->on_node_health(env.now, node, health);
    env.step();
    Batch batch = env.rows;
    AttemptRow ended = env.plane->find_attempt(key)->row;
    ended.state = AttemptState::ended;
    ended.result = AttemptResult::failed;
    ended.cause = Cause::gpu;
    ended.fault_at = ended.stopping_at = ended.running_at;
    ended.ended_at = ended.running_at + 10s;
    ended.lost_gpu = 40s;
    batch.attempts.push_back(ended);
    batch.revised.push_back(ended);
    DoneRow done{.job = env.plane->find_job(failed)->row, .ended_at = ended.ended_at, .exit_code = 1};
    done.job.state = JobState::failed;
    done.job.cause = Cause::gpu;
    batch.done.push_back({.row = done, .base_version = 1});
    FaultRow fault;
    fault.fault_class = "xid";
    fault.action = "shadow: stop";
    fault.rule = "xid:79";
    batch.faults.push_back(fault);
    return batch;
  }
};

TEST_F(MetricsTest, ShowsAllOfTheTableAndNothingElse) {
  const Batch batch = batch_of_all_kinds();
  count_everything(metrics, batch, env.plane.get());
  metrics.step(env.plane.get(), env.now.mono);
  metrics.step(env.plane.get(), env.now.mono + 2s);
  const Shown shown = read(text());
  std::set<std::string> expected, found;
  for (const auto& m : metric_table())
    if (m.of_scheduler) expected.insert(m.name);
  for (const auto& [name, type] : shown.types) found.insert(name);
  EXPECT_EQ(found, expected);
  for (const auto& [name, labels] : shown.labels) {
    const MetricDesc& row = metric(name);
    EXPECT_EQ(labels, std::set<std::string>(row.labels.begin(), row.labels.end())) << name;
    EXPECT_EQ(shown.types.at(name), tutti::name(row.type)) << name;
    EXPECT_EQ(shown.helps.at(name), row.help) << name;
  }
}

TEST_F(MetricsTest, WhatBecomesKnownOfAnEndIsNoVerdictAndNoOtherEnd) {
  AttemptRow ended;
  ended.state = AttemptState::ended;
  ended.result = AttemptResult::failed;
  ended.cause = Cause::user;
  Batch batch;
  batch.supplemented = {ended};
  metrics.batch_committed(batch, nullptr, 0.01);
  EXPECT_THAT(text(), Not(HasSubstr("\ntutti_verdicts_revised_total{cause=\"user\"} 1")));
  EXPECT_THAT(text(), HasSubstr("\ntutti_attempts_ended_total{cause=\"user\",result=\"failed\"} 0\n"));
  batch.revised = {ended};
  metrics.batch_committed(batch, nullptr, 0.01);
  EXPECT_THAT(text(), HasSubstr("\ntutti_verdicts_revised_total{cause=\"user\"} 1\n"));
}

TEST_F(MetricsTest, AStandbyShowsNoGaugesOfTheCluster) {
  const std::string shown = metrics.text(nullptr, 0);
  EXPECT_THAT(shown, HasSubstr("\ntutti_ready 0\n"));
  EXPECT_THAT(shown, HasSubstr("\ntutti_leader 0\n"));
  EXPECT_THAT(shown, Not(HasSubstr("tutti_jobs{")));
}

TEST_F(MetricsTest, CountsQueuesByState) {
  env.add_node("n1");
  const JobId first = env.submit(testing::job_spec(1, 8));
  env.run(first);
  env.tick_alive(30s);
  const Instant since = env.now.wall;
  env.submit(testing::job_spec(2, 4, "waits"));
  env.submit(testing::job_spec(1, 8, "waits too"));
  const std::string shown = text();
  EXPECT_THAT(shown, HasSubstr("\ntutti_queue_jobs{queue=\"default\",state=\"queued\"} 2\n"));
  EXPECT_THAT(shown, HasSubstr("\ntutti_queue_jobs{queue=\"default\",state=\"running\"} 1\n"));
  EXPECT_THAT(shown, HasSubstr("\ntutti_queue_backlog_gpus{queue=\"default\"} 16\n"));
  EXPECT_THAT(shown, HasSubstr("\ntutti_queue_held_gpus{queue=\"default\"} 8\n"));
  EXPECT_THAT(shown, HasSubstr("\ntutti_jobs{state=\"queued\"} 2\n"));
  EXPECT_EQ(oldest(), to_seconds(since.time_since_epoch()));
}

TEST_F(MetricsTest, TellsWhatGpusAreUsedFor) {
  const NodeId one = env.add_node("n1"), two = env.add_node("n2", 4), three = env.add_node("n3", 2);
  env.run(env.submit(testing::job_spec(1, 8)));
  ASSERT_TRUE(env.plane->on_node_service(env.now, "n2", NodeService::draining, "test"));
  env.step();
  env.silent.insert(three);
  env.tick_alive(4s);
  const auto uses = gpus_by_use(env.plane->cluster());
  EXPECT_EQ(uses.at("used"), 8u);
  EXPECT_EQ(uses.at("closed"), 4u);
  EXPECT_EQ(uses.at("away"), 2u);
  EXPECT_EQ(uses.at("idle"), 0u);
  EXPECT_THAT(
      text(),
      HasSubstr("\ntutti_class_gpus{queue=\"default\",model=\"NVIDIA H100 80GB HBM3\",use=\"used\"} 8\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_nodes_by_service{service=\"draining\"} 1\n"));
  (void)one, (void)two;
}

TEST_F(MetricsTest, ARetiredNodeCountsNowhereButUnderItsService) {
  env.add_node("n1", 4);
  const NodeId gone = env.add_node("pilot", 2);
  for (const NodeService s : {NodeService::draining, NodeService::retired})
    ASSERT_TRUE(env.plane->on_node_service(env.now, "pilot", s, "the pilot ends"));
  env.step();
  const auto counted = [&](const char* when) {
    const std::string shown = text();
    EXPECT_THAT(shown, HasSubstr("\ntutti_nodes_by_service{service=\"retired\"} 1\n")) << when;
    EXPECT_THAT(shown, HasSubstr("\ntutti_nodes{state=\"reachable\"} 1\n")) << when;
    EXPECT_THAT(shown, HasSubstr("\ntutti_nodes{state=\"unreachable\"} 0\n")) << when;
    EXPECT_THAT(shown, HasSubstr("\ntutti_nodes{state=\"dead\"} 0\n")) << when;
    EXPECT_THAT(shown, HasSubstr("\ntutti_gpus{state=\"free\"} 4\n")) << when;
    EXPECT_THAT(shown, HasSubstr("\ntutti_gpus{state=\"away\"} 0\n")) << when;
    const auto uses = gpus_by_use(env.plane->cluster());
    EXPECT_EQ(uses.at("idle"), 4u) << when;
    EXPECT_EQ(uses.at("away") + uses.at("closed"), 0u) << when;
  };
  counted("it is heard");
  env.silent.insert(gone);
  env.tick_alive(4s);
  ASSERT_EQ(env.plane->cluster().find(gone)->row.state, NodeState::unreachable);
  counted("it is silent");
  env.tick_alive(20s);
  ASSERT_EQ(env.plane->cluster().find(gone)->row.state, NodeState::dead);
  counted("it is dead");
}

TEST_F(MetricsTest, GpusOfASilentNodeAreNotFree) {
  env.add_node("n1", 4);
  env.silent.insert(env.add_node("n2", 2));
  env.tick_alive(20s);
  EXPECT_THAT(text(), HasSubstr("\ntutti_nodes{state=\"dead\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_gpus{state=\"free\"} 4\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_gpus{state=\"away\"} 2\n"));
}

TEST_F(MetricsTest, AGpusTimeIsCountedOnlyWhileSomebodyLooks) {
  env.add_node("n1", 4);
  metrics.step(env.plane.get(), env.now.mono);
  metrics.step(env.plane.get(), env.now.mono + 2s);
  EXPECT_THAT(text(), HasSubstr("\ntutti_gpu_use_seconds_total{use=\"idle\"} 8\n"));
  metrics.step(env.plane.get(), env.now.mono + 1h);  // nobody has looked for an hour: not known
  metrics.step(nullptr, env.now.mono + 1h + 1s);     // another leads
  metrics.step(env.plane.get(), env.now.mono + 1h + 2s);
  EXPECT_THAT(text(), HasSubstr("\ntutti_gpu_use_seconds_total{use=\"idle\"} 8\n"));
}

TEST_F(MetricsTest, TheWaitIsThatOfTheFirstPlacement) {
  const JobId job = env.submit(testing::job_spec(1, 8));
  env.tick_alive(20s);
  env.add_node("n1");
  env.plan();
  ASSERT_EQ(env.state(job), JobState::starting);
  metrics.batch_committed(env.rows, env.plane.get(), 0.01);
  EXPECT_THAT(text(), HasSubstr("\ntutti_job_wait_seconds_count{queue=\"default\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_job_wait_seconds_sum{queue=\"default\"} 20\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_attempts_placed_total 1\n"));
}

TEST_F(MetricsTest, TheWaitOfAJobThatIsNotToBeginYetHasNotBegun) {
  JobSpec later = testing::job_spec(1, 8);
  later.begin_time = env.now.wall + 12s;
  const JobId job = env.submit(later);
  env.tick_alive(15s);
  ASSERT_EQ(env.state(job), JobState::queued);
  EXPECT_EQ(oldest(), to_seconds((*later.begin_time).time_since_epoch()));
  env.add_node("n1");
  env.plan();
  ASSERT_EQ(env.state(job), JobState::starting);
  metrics.batch_committed(env.rows, env.plane.get(), 0.01);
  EXPECT_THAT(text(), HasSubstr("\ntutti_job_wait_seconds_sum{queue=\"default\"} 3\n"));
}

// It keeps its place in the order, and has not waited since.
TEST_F(MetricsTest, AJobThatComesBackWaitsSinceItCameBack) {
  const NodeId node = env.add_node("n1");
  const JobId job = env.submit(testing::job_spec(1, 8));
  const AttemptKey key = env.run(job);
  env.tick_alive(72h, 1min);
  ASSERT_TRUE(env.plane->on_node_service(env.now, "n1", NodeService::draining, "fans"));
  ASSERT_TRUE(env.plane->on_requeue(env.now, job, "ada"));
  env.step();
  env.end(node, key, false);
  ASSERT_EQ(env.state(job), JobState::queued);
  const Instant back = env.now.wall;
  env.tick_alive(1min);
  const JobId newer = env.submit(testing::job_spec(1, 8));
  EXPECT_EQ(oldest(), to_seconds(back.time_since_epoch()));
  ASSERT_TRUE(env.plane->on_cancel(env.now, job, "ada"));
  env.step();
  EXPECT_EQ(oldest(), to_seconds(env.plane->find_job(newer)->row.queued_at.time_since_epoch()));
}

// The alert asks for more than ten minutes: what takes longer must not all be in the last bucket.
TEST_F(MetricsTest, ARecoveryOfTwentyMinutesIsToldFromOneOfTwoHours) {
  metrics.recovery_stages({{"running", Cause::gpu, 20min}, {"running", Cause::gpu, 2h}});
  const auto below = [&](const std::string& le) {
    return "\ntutti_recovery_stage_seconds_bucket{cause=\"gpu\",stage=\"running\",le=\"" + le + "\"} ";
  };
  EXPECT_THAT(text(), HasSubstr(below("600") + "0\n"));
  EXPECT_THAT(text(), HasSubstr(below("1800") + "1\n"));
  EXPECT_THAT(text(), HasSubstr(below("7200") + "2\n"));
}

// What is born with its first event is no increase to Prometheus: the alert would not see it.
TEST_F(MetricsTest, TheFirstOfItsKindIsAnIncrease) {
  const std::set<std::string> counters{
      "tutti_faults_total",           "tutti_attempts_ended_total",        "tutti_jobs_ended_total",
      "tutti_gpu_seconds_total",      "tutti_gpu_use_seconds_total",       "tutti_lost_gpu_seconds_total",
      "tutti_measurement_rows_total", "tutti_measurements_dropped_total",  "tutti_verdicts_revised_total",
      "tutti_history_failures_total", "tutti_recovery_stage_seconds_count"};
  const auto before = series_of(text(), counters);
  const NodeId a = env.add_node("n1"), b = env.add_node("n2"), c = env.add_node("n3");
  const auto xid = [&](NodeId node, const char* uuid, int n) {
    env.plane->on_gpu_fault(env.now, node,
                            {.uuid = uuid, .kind = "xid", .xid = n, .age_us = 0, .detail = ""});
    env.step();
  };
  const JobId killed = env.submit(testing::job_spec(1, 8)), lost = env.submit(testing::job_spec(1, 8));
  const AttemptKey stopped = env.run(killed);
  env.run(lost);
  env.tick_alive(2s);
  const JobId undecided = env.submit(testing::job_spec(1, 8));
  const AttemptKey dies = env.run(undecided);
  xid(a, "GPU-n1-0", 79);
  xid(a, "GPU-n1-1", 48);  // of the same event
  xid(c, "GPU-n3-1", 31);
  env.end(a, stopped, false);
  env.fail(c, dies, 0, 0, 9);
  env.end(c, dies, false);
  ASSERT_TRUE(env.plane->on_node_report(env.now, "n1", "ada", "slow"));
  env.silent.insert(b);
  env.tick_alive(20s);
  ASSERT_TRUE(env.plane->on_cancel(env.now, lost, "ada"));
  env.step();
  std::set<std::string> actions;
  for (const auto& fault : env.rows.faults) actions.insert(fault.fault_class + " " + fault.action);
  ASSERT_THAT(actions,
              ::testing::IsSupersetOf({"xid quarantine, stop", "xid folded: quarantine, stop", "xid watch",
                                       "attempt_failed watch", "report watch", "node_lost dead"}));
  metrics.batch_committed(env.rows, env.plane.get(), 0.01);
  metrics.recovery_stages({{"running", Cause::gpu, 20min}});
  metrics.measurements_dropped("store", 1);
  metrics.measurements_written(1, false);
  metrics.step(env.plane.get(), env.now.mono);
  metrics.step(env.plane.get(), env.now.mono + 1s);
  std::vector<std::string> born;
  const auto after = series_of(text(), counters);
  std::ranges::set_difference(after, before, std::back_inserter(born));
  std::erase_if(born, [](const std::string& series) {  // of the stages only the one that an alert asks for
    return series.starts_with("tutti_recovery_stage_seconds") && series.find("running") == series.npos;
  });
  EXPECT_THAT(born, ::testing::IsEmpty());
  EXPECT_THAT(text(), HasSubstr("\ntutti_faults_total{action=\"dead\",class=\"node_lost\"} 1\n"));
}

TEST_F(MetricsTest, ACommitInDoubtIsNotOneThatIsRefused) {
  metrics.commit_failed(std::make_exception_ptr(StoreError(StoreError::in_doubt, "x")));
  metrics.commit_failed(std::make_exception_ptr(StoreError(StoreError::corrupt, "x")));
  metrics.commit_failed(std::make_exception_ptr(StoreError(StoreError::unavailable, "x")));
  EXPECT_THAT(text(), HasSubstr("\ntutti_commit_failures_total 3\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_commits_in_doubt_total 1\n"));
  EXPECT_THAT(text(), HasSubstr("\ntutti_commits_refused_total 1\n"));
}

TEST_F(MetricsTest, TellsTheHeartbeatThatIsOldest) {
  const NodeId one = env.add_node("n1");
  env.add_node("n2");
  env.leases.renew(one, env.now.mono + 2s);
  EXPECT_THAT(metrics.text(env.plane.get(), 0, &env.leases, env.now.mono + 3s),
              HasSubstr("\ntutti_heartbeat_age_max_seconds 3\n"));
}

}  // namespace
}  // namespace tutti
