// The fleet of bench/ against the real hub, writer and API over real sockets, with a store in memory: all on
// one thread. A fleet that measures nothing, or that harms a cluster by itself, is found here.
#include "bench/fleet/fleet.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "tests/bench/cluster_rig.h"

namespace tutti::bench {
namespace {

namespace json = boost::json;

struct FleetTest : ClusterRig {
  std::vector<json::object> lines;
  std::optional<std::string> trouble;  // what the fleet says at its end

  FleetSettings settings(int workers) const {
    FleetSettings s;
    s.worker.scheduler.port = server->port();
    s.worker.boot_id = "boot";
    s.worker.run = std::chrono::milliseconds(20);
    s.workers = workers;
    s.seconds = 2;
    return s;
  }

  // Its result; empty if it has none.
  json::object run(FleetSettings s) {
    Fleet fleet(
        io, std::move(s), [this](const std::string& line) { lines.push_back(json::parse(line).as_object()); },
        [this](const std::string& why) { trouble = why; });
    fleet.start();
    until([this] { return trouble.has_value(); });
    EXPECT_EQ(trouble, "");
    if (lines.empty() || !lines.back().contains("result")) return {};
    return lines.back().at("result").as_object();
  }

  static std::int64_t number(const json::object& o, const char* phase, const char* key) {
    return o.at(phase).at(key).to_number<std::int64_t>();
  }
};

TEST_F(FleetTest, RunsGangsThroughAStormAndTroublemakersWithoutHarmToAny) {
  FleetSettings s = settings(8);
  s.storm = s.trouble = s.worker.loads = true;
  s.spec = R"({"name":"gang","run":"true","nodes":2,"resources":{"gpus":8}})";
  s.window = 12;
  s.batch = 4;
  const json::object result = run(std::move(s));
  ASSERT_TRUE(result.contains("trouble"));
  EXPECT_GT(result.at("finished").to_number<int>(), 0);
  EXPECT_EQ(result.at("submissions_refused").to_number<int>(), 0);
  for (const char* phase : {"calm", "storm", "trouble"}) {
    EXPECT_GT(result.at(phase).at("heartbeats").at("n").to_number<int>(), 0) << phase;
    EXPECT_GT(number(result, phase, "jobs_finished"), 0) << phase;
    EXPECT_EQ(number(result, phase, "leases_lapsed"), 0) << phase;
    EXPECT_EQ(number(result, phase, "links_lost"), 0) << phase;
    EXPECT_EQ(number(result, phase, "parts_stopped"), 0) << phase;
  }
  EXPECT_EQ(number(result, "storm", "welcomes"), 8) << "each has come back once";
  EXPECT_EQ(number(result, "storm", "not_back"), 0);
  const auto& attacks = result.at("trouble").at("attacks").as_object();
  EXPECT_EQ(attacks.size(), static_cast<std::size_t>(HostileWorker::kAttacks));
  for (const auto& [name, outcome] : attacks)
    EXPECT_EQ(outcome.at("unanswered").to_number<int>(), 0) << std::string(name);
}

TEST_F(FleetTest, TimesSingleJobsOnAnIdleCluster) {
  FleetSettings s = settings(1);
  s.samples = 5;
  const json::object result = run(std::move(s));
  ASSERT_TRUE(result.contains("submit_to_launch"));
  EXPECT_EQ(result.at("finished").to_number<int>(), 5);
  const auto prepare = result.at("submit_to_prepare"), launch = result.at("submit_to_launch");
  EXPECT_EQ(prepare.at("n").to_number<int>(), 5);
  EXPECT_GT(prepare.at("p50_ms").as_double(), 0);
  EXPECT_GT(launch.at("p50_ms").as_double(), prepare.at("p50_ms").as_double());
  const auto first = std::ranges::count_if(lines, [](const auto& l) { return l.contains("first_order"); });
  EXPECT_EQ(first, 1);
}

TEST_F(FleetTest, SaysWhoCouldNotJoin) {
  FleetSettings s = settings(2);
  s.join_deadline = std::chrono::seconds(1);
  s.worker.scheduler.port = 1;  // nobody listens there
  Fleet fleet(
      io, std::move(s), [](const std::string&) {}, [this](const std::string& why) { trouble = why; });
  fleet.start();
  until([this] { return trouble.has_value(); });
  EXPECT_EQ(trouble, "only 0 of 2 workers were welcome in time");
}

TEST_F(FleetTest, CountsLeasesThatLapse) {
  FleetLog log;
  FakeWorkerSettings s = settings(1).worker;
  const auto worker = std::make_shared<FakeWorker>(io, s, log, "alone");
  worker->start();
  until([&] { return worker->welcome(); });
  worker->check_lease(Clock::now());
  EXPECT_EQ(log.counts.lapsed, 0);
  const auto later = Clock::now() + std::chrono::minutes(1);
  worker->check_lease(later);
  worker->check_lease(later);
  EXPECT_EQ(log.counts.lapsed, 1) << "once, until it is renewed";
  until([&] { return !log.counts.ack_ms.empty(); });
  worker->check_lease(later);
  EXPECT_EQ(log.counts.lapsed, 2);
  worker->stop();
}

}  // namespace
}  // namespace tutti::bench
