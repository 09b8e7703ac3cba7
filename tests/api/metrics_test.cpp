// GET …/metrics of an attempt and of a node, and how what is measured gets there.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "api/wire/text_values.h"
#include "api_rig.h"
#include "db/memory/memory_series.h"
#include "db/too_much.h"
#include "scheduler/service/series_record.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct LimitedSeries final : db::MemorySeries {
  std::size_t most = SIZE_MAX;  // rows at once
  int refused = 0;
  void add(const std::vector<SeriesRow>& more) override {
    if (more.size() > most && ++refused > 0) throw TooMuch("its time is over");
    MemorySeries::add(more);
  }
};

class MetricsTest : public ::testing::Test {
 protected:
  explicit MetricsTest(SeriesSettings with = {}) : settings(std::move(with)) {}
  Instant now() const { return rig.backend.now().wall; }
  static std::string gpu(const std::string& node, int index) {
    return "GPU-" + node + "-" + std::to_string(index);
  }
  void until_ten_minutes_begin() {
    pass(10min - now().time_since_epoch() % 10min);
  }
  void pass(Duration time) { rig.backend.tick(time - 1ms); }  // the tick itself takes that long
  void load(NodeId node, const std::string& uuid, int percent) {
    record->on_loads(node, {{uuid, percent, 60LL << 30, 650'000, 71}});
  }
  void tell(NodeId node, AttemptKey key, std::int64_t step, std::map<std::string, double> metrics) {
    record->on_progress(node, {key, step, 1000, 0, std::move(metrics)});
  }
  json::object metrics(const std::string& target) {
    const auto call = rig.get(target);
    EXPECT_EQ(call.status(), 200) << target;
    return call.status() == 200 ? call.body().as_object() : json::object{{"series", json::array{}}};
  }
  /// "loss rank 0", "gpu_power_watts n1 3", …
  static std::set<std::string> lines(const json::object& metrics) {
    std::set<std::string> out;
    for (const auto& line : metrics.at("series").as_array()) {
      std::string text(line.at("name").as_string());
      if (line.at("rank").is_null())
        text +=
            " " + std::string(line.at("node").as_string()) + " " + std::to_string(line.at("gpu").as_int64());
      else
        text += " rank " + std::to_string(line.at("rank").as_int64());
      out.insert(text);
    }
    return out;
  }
  static std::vector<double> numbers(const json::object& metrics, std::string_view name,
                                     std::string_view list, std::int64_t item = 0) {
    for (const auto& line : metrics.at("series").as_array()) {
      const auto& of = line.at("rank").is_null() ? line.at("gpu") : line.at("rank");
      if (line.at("name").as_string() != name || of.as_int64() != item) continue;
      std::vector<double> out;
      for (const auto& n : line.at(list).as_array()) out.push_back(n.to_number<double>());
      return out;
    }
    ADD_FAILURE() << "no " << name << " of " << item;
    return {};
  }
  AttemptKey run_on_two_nodes() {
    first = rig.backend.add_node("n1", 4);
    second = rig.backend.add_node("n2", 4);
    const JobId id =
        rig.submit(R"({"name":"a","run":"x","nodes":2,"resources":{"gpus":2},"launcher":"direct"})");
    const AttemptKey key = rig.backend.run_job(id);
    path = "/v1/jobs/" + to_string(id) + "/attempts/1/metrics";
    return key;
  }
  const GangMember& member(AttemptKey key, std::size_t index) const {
    return rig.backend.plane()->find_attempt(key)->row.gang.at(index);
  }

  NodeId first, second;
  std::string path;
  bool broken = false;
  bool hangs = false;  // the store, and
  int asked = 0;       // so often it was asked then
  std::map<std::string, std::size_t> dropped;
  SeriesSettings settings;
  std::shared_ptr<LimitedSeries> rows = std::make_shared<LimitedSeries>();
  std::unique_ptr<SeriesRecord> record;
  ApiRig rig{[this](TestBackend& backend) {
    const Aside aside = [this](const std::function<void()>& work,
                               const std::function<void(std::exception_ptr)>& done) {
      if (hangs) return void(++asked);
      if (broken) return done(std::make_exception_ptr(StoreError(StoreError::unavailable, "broken")));
      std::exception_ptr failure;
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      done(failure);
    };
    settings.dropped = [this](std::string_view why, std::size_t n) { dropped[std::string(why)] += n; };
    record =
        std::make_unique<SeriesRecord>(backend, SeriesAside{aside, rows}, SeriesAside{aside, rows}, settings);
    Services services;
    services.series = record.get();
    return services;
  }};
};

TEST_F(MetricsTest, OfANodeWhatIsStoredAndWhatIsNotYet) {
  const auto n1 = rig.backend.add_node("n1", 2);
  until_ten_minutes_begin();
  for (int i = 0; i < 120; ++i) {  // ten minutes
    pass(5s);
    load(n1, gpu("n1", 0), 50);
    load(n1, gpu("n1", 1), i % 2 == 0 ? 0 : 100);
    record->step();
  }
  EXPECT_GT(rows->size(), 0u);
  const auto body = metrics("/v1/nodes/n1/metrics");
  EXPECT_EQ(body.at("bucket_seconds"), 10);
  EXPECT_EQ(body.at("simulated"), true);
  EXPECT_EQ(body.at("cut"), false);
  EXPECT_EQ(body.at("from").as_string(), wire::format_instant(now() - 1h));
  EXPECT_EQ(body.at("until").as_string(), wire::format_instant(now()));
  EXPECT_EQ(lines(body),
            (std::set<std::string>{"gpu_memory_bytes n1 0", "gpu_memory_bytes n1 1", "gpu_power_watts n1 0",
                                   "gpu_power_watts n1 1", "gpu_temperature_celsius n1 0",
                                   "gpu_temperature_celsius n1 1", "gpu_utilisation n1 0",
                                   "gpu_utilisation n1 1"}));
  const auto at = numbers(body, "gpu_utilisation", "at_seconds", 1);
  ASSERT_THAT(at, SizeIs(60));
  EXPECT_EQ(at.front(), 3000);
  EXPECT_EQ(at.back(), 3590);
  EXPECT_EQ(numbers(body, "gpu_utilisation", "mean", 1).at(30), 50);
  EXPECT_EQ(numbers(body, "gpu_utilisation", "min", 1).at(30), 0);
  EXPECT_EQ(numbers(body, "gpu_utilisation", "max", 1).at(30), 100);
  EXPECT_EQ(numbers(body, "gpu_memory_bytes", "mean").at(0), static_cast<double>(60LL << 30));
  EXPECT_EQ(numbers(body, "gpu_power_watts", "max").at(0), 650);
  EXPECT_EQ(numbers(body, "gpu_temperature_celsius", "mean").at(0), 71);

  const auto few = metrics("/v1/nodes/n1/metrics?points=6&names=gpu_utilisation");
  EXPECT_EQ(few.at("bucket_seconds"), 600);
  EXPECT_EQ(lines(few), (std::set<std::string>{"gpu_utilisation n1 0", "gpu_utilisation n1 1"}));
  EXPECT_THAT(numbers(few, "gpu_utilisation", "at_seconds", 1), ElementsAre(3000));
  EXPECT_THAT(numbers(few, "gpu_utilisation", "min", 1), ElementsAre(0));
  EXPECT_THAT(numbers(few, "gpu_utilisation", "max", 1), ElementsAre(100));

  const auto part =
      metrics("/v1/nodes/n1/metrics?names=gpu_utilisation,loss&from=" + wire::format_instant(now() - 60s) +
              "&until=" + wire::format_instant(now() - 30s));
  EXPECT_THAT(numbers(part, "gpu_utilisation", "at_seconds"), ElementsAre(0, 10, 20));
  for (const int points : {1, 7, 100}) {
    const auto bounded = metrics("/v1/nodes/n1/metrics?points=" + std::to_string(points));
    for (const auto& line : bounded.at("series").as_array())
      EXPECT_LE(line.at("mean").as_array().size(), static_cast<std::size_t>(points));
  }
}

TEST_F(MetricsTest, TheMapSaysWhatGpusDoNow) {
  const auto n1 = rig.backend.add_node("n1", 3);
  const auto use = [&] { return rig.get("/v1/map").body().at("nodes").at(0).at("utilisation"); };
  EXPECT_TRUE(use().is_null()) << "nothing has been measured";
  load(n1, gpu("n1", 0), 97);
  load(n1, gpu("n1", 2), 0);
  EXPECT_EQ(use(), json::parse("[97,null,0]"));
  const auto tag = rig.get("/v1/map").header("ETag");
  load(n1, gpu("n1", 0), 12);
  EXPECT_EQ(rig.get("/v1/map", {{"If-None-Match", tag}}).status(), 200);
  EXPECT_EQ(use(), json::parse("[12,null,0]"));
  pass(20s);
  load(n1, gpu("n1", 2), 5);
  EXPECT_EQ(use(), json::parse("[12,null,5]"));
  pass(20s);
  EXPECT_EQ(use(), json::parse("[null,null,5]")) << "the first has said nothing for 40 s";
  pass(20s);
  EXPECT_TRUE(use().is_null());
}

TEST_F(MetricsTest, OfAnAttemptItsRanksAndItsOwnGpusOnly) {
  const auto key = run_on_two_nodes();
  rig.backend.tick(20s);
  const int other = member(key, 1).first_rank;
  ASSERT_EQ(other, 2);
  for (const auto node : {member(key, 0).node, member(key, 1).node})
    for (int i = 0; i < 4; ++i) load(node, gpu(node == first ? "n1" : "n2", i), 90);
  tell(member(key, 0).node, key, 5, {{"loss", 2.5}, {"train/lr", 1e-4}, {"compute_s", 0.4}, {"step", 7}});
  tell(member(key, 1).node, key, 5, {{"loss", 2.25}});
  protocol::RankReport report;
  report.key = key;
  report.tells_progress = true;
  for (const int rank : {2, 3, 9}) {  // nine is not of this node
    protocol::RankPulse pulse;
    pulse.rank = rank;
    pulse.step = 5;
    pulse.step_us = 500'000;
    pulse.compute_us = 400'000;
    report.ranks.push_back(pulse);
  }
  record->on_ranks(member(key, 1).node, report);
  tell(NodeId(99), key, 5, {{"loss", 9}});
  tell(member(key, 0).node, {key.job, Epoch(99)}, 5, {{"loss", 9}});
  rig.backend.tick(10s);

  const auto all = metrics(path);
  std::set<std::string> expected = {"compute_seconds rank 2",
                                    "compute_seconds rank 3",
                                    "loss rank 0",
                                    "loss rank 2",
                                    "step rank 0",
                                    "step rank 2",
                                    "step rank 3",
                                    "step_seconds rank 2",
                                    "step_seconds rank 3",
                                    "train/lr rank 0"};
  for (const auto* name :
       {"gpu_memory_bytes", "gpu_power_watts", "gpu_temperature_celsius", "gpu_utilisation"})
    for (std::size_t i = 0; i < 2; ++i)
      for (const GpuId id : member(key, i).gpus)
        expected.insert(std::string(name) + " " + member(key, i).node_name + " " +
                        std::to_string(rig.backend.plane()->cluster().gpus.at(id).row.index));
  EXPECT_EQ(lines(all), expected);
  EXPECT_EQ(all.at("simulated"), true);
  EXPECT_THAT(numbers(all, "loss", "mean", 2), ElementsAre(2.25));
  EXPECT_THAT(numbers(all, "step_seconds", "max", 3), ElementsAre(0.5));
  EXPECT_THAT(numbers(all, "train/lr", "mean"), ElementsAre(1e-4));
  EXPECT_THAT(numbers(all, "step", "max"), ElementsAre(5));

  EXPECT_EQ(lines(metrics(path + "?rank=2")), (std::set<std::string>{"compute_seconds rank 2", "loss rank 2",
                                                                     "step rank 2", "step_seconds rank 2"}));
  EXPECT_EQ(lines(metrics(path + "?rank=all&names=loss")),
            (std::set<std::string>{"loss rank 0", "loss rank 2"}));
  EXPECT_EQ(metrics(path + "?names=loss").at("simulated"), false) << "no GPU is shown";
}

TEST_F(MetricsTest, AnAttemptThatHasEndedKeepsWhatItWas) {
  const auto key = run_on_two_nodes();
  const NodeId node = member(key, 0).node;
  rig.backend.tick(15s);
  const auto during = now();
  tell(node, key, 5, {{"loss", 2.5}});
  rig.backend.tick(15s);
  rig.backend.end_attempt(key, true);
  const auto end = now();
  tell(node, key, 6, {{"loss", 1}});
  for (int i = 0; i < 20; ++i) {
    rig.backend.tick(1min);
    load(first, gpu("n1", 0), 99);  // somebody else's
    load(first, gpu("n1", 1), 99);
    record->step();
  }
  const auto body = metrics(path);
  EXPECT_EQ(lines(body), (std::set<std::string>{"loss rank 0", "step rank 0"}));
  EXPECT_THAT(numbers(body, "loss", "max"), ElementsAre(2.5));
  EXPECT_EQ(body.at("until").as_string(), wire::format_instant(end));
  EXPECT_EQ(lines(metrics("/v1/jobs/a/attempts/latest/metrics")), lines(body));
  EXPECT_THAT(lines(metrics(path + "?from=" + wire::format_instant(end + 1min))), IsEmpty())
      << "after its end";
  EXPECT_THAT(lines(metrics(path + "?until=" + wire::format_instant(during - 1h))), IsEmpty())
      << "before its begin";
}

TEST_F(MetricsTest, RefusesWhatItCannotAnswer) {
  const auto key = run_on_two_nodes();
  const auto future = wire::format_instant(now() + 1h), past = wire::format_instant(now() - 1h);
  for (const auto& base : {path, std::string("/v1/nodes/n1/metrics")})
    for (const auto& query :
         {std::string("points=0"), std::string("points=5001"), std::string("points=many"),
          std::string("names=a%20b"), std::string("names=loss,,step"), std::string("from=yesterday"),
          std::string("until=yesterday"), "from=" + future, "from=" + past + "&until=" + past,
          std::string("rank=-1"), std::string("rank=first")})
      EXPECT_EQ(rig.get(base + "?" + query).status(), 422) << base << "?" << query;
  EXPECT_EQ(rig.get("/v1/nodes/n1/metrics?rank=1").status(), 422);
  EXPECT_EQ(rig.get("/v1/nodes/n1/metrics?rank=all").status(), 200);
  EXPECT_EQ(rig.get("/v1/nodes/n9/metrics").status(), 404);
  const auto job = "/v1/jobs/" + to_string(key.job) + "/attempts/";
  EXPECT_EQ(rig.get(job + "2/metrics").status(), 404);
  EXPECT_EQ(rig.get(job + "0/metrics").status(), 422);
  EXPECT_EQ(rig.get("/v1/jobs/99/attempts/1/metrics").status(), 404);
  EXPECT_EQ(rig.get(path, rig.user("eve", {{"vision", Role::admin}})).status(), 404);
  EXPECT_EQ(rig.get("/v1/nodes/n1/metrics", rig.user("vera", {})).status(), 200);
  broken = true;
  EXPECT_EQ(rig.get(path).status(), 503);
  ApiRig without;
  without.backend.add_node("n1", 1);
  EXPECT_EQ(without.get("/v1/nodes/n1/metrics").status(), 501);
  EXPECT_EQ(without.get("/v1/jobs/" + to_string(without.submit()) + "/attempts/1/metrics").status(), 501);
}

TEST_F(MetricsTest, WhatIsTooMuchIsCountedAndNotKept) {
  const auto key = run_on_two_nodes();
  std::map<std::string, double> many;
  for (int i = 10; i < 80; ++i) many["m" + std::to_string(i)] = i;
  tell(member(key, 0).node, key, 5, many);
  tell(member(key, 0).node, key, 6, {{"not a name", 1}, {"m10", 11}});
  rig.backend.tick(10s);
  EXPECT_EQ(dropped["names"], 7u) << "64 with the step";
  EXPECT_EQ(dropped["name"], 1u);
  EXPECT_THAT(lines(metrics(path + "?rank=0")), SizeIs(64));
  EXPECT_THAT(numbers(metrics(path), "m10", "max"), ElementsAre(11));
}

TEST_F(MetricsTest, WhatCannotBeStoredIsStoredLater) {
  const auto n1 = rig.backend.add_node("n1", 1);
  until_ten_minutes_begin();
  broken = true;
  const auto go_on = [&](int minutes) {
    for (int i = 0; i < minutes * 12; ++i) {
      pass(5s);
      load(n1, gpu("n1", 0), 50);
      record->step();
    }
  };
  go_on(10);
  EXPECT_EQ(rows->size(), 0u);
  broken = false;
  EXPECT_THAT(numbers(metrics("/v1/nodes/n1/metrics"), "gpu_utilisation", "mean"), SizeIs(60))
      << "all of it is here";
  go_on(10);
  EXPECT_GT(rows->size(), 0u);
  EXPECT_THAT(numbers(metrics("/v1/nodes/n1/metrics"), "gpu_utilisation", "mean"), SizeIs(120));
  record->finish();
  const auto body = metrics("/v1/nodes/n1/metrics");
  EXPECT_THAT(numbers(body, "gpu_utilisation", "mean"), SizeIs(120)) << "all of it is there";
  for (const double mean : numbers(body, "gpu_utilisation", "mean")) EXPECT_EQ(mean, 50);
  EXPECT_THAT(dropped, IsEmpty());
}

TEST_F(MetricsTest, WhatIsTooMuchAtOnceIsWrittenInHalves) {
  std::vector<NodeId> nodes;
  for (int n = 1; n <= 4; ++n) nodes.push_back(rig.backend.add_node("n" + std::to_string(n), 1));
  until_ten_minutes_begin();
  const auto go_on = [&](int minutes) {
    for (int i = 0; i < minutes * 12; ++i) {
      pass(5s);
      for (int n = 1; n <= 4; ++n)
        load(nodes[static_cast<std::size_t>(n - 1)], gpu("n" + std::to_string(n), 0), 50);
      record->step();
    }
  };
  broken = true;
  go_on(10);  // a lot gathers
  broken = false;
  rows->most = 1;
  go_on(10);
  EXPECT_GT(rows->refused, 2);
  EXPECT_GT(rows->size(), 0u);
  EXPECT_THAT(dropped, IsEmpty());
  rows->most = SIZE_MAX;
  record->finish();
  for (int n = 1; n <= 4; ++n)
    EXPECT_THAT(numbers(metrics("/v1/nodes/n" + std::to_string(n) + "/metrics"), "gpu_utilisation", "mean"),
                SizeIs(120));
}

TEST_F(MetricsTest, ARowThatIsTooMuchDoesNotStopTheOthers) {
  const auto n1 = rig.backend.add_node("n1", 1);
  const auto go_on = [&](int minutes) {
    for (int i = 0; i < minutes * 12; ++i) {
      pass(5s);
      load(n1, gpu("n1", 0), 50);
      record->step();
    }
  };
  rows->most = 0;
  go_on(6);
  EXPECT_GT(dropped["store"], 0u);
  EXPECT_EQ(rows->size(), 0u);
  rows->most = SIZE_MAX;
  go_on(6);
  EXPECT_GT(rows->size(), 0u);
}

TEST_F(MetricsTest, OldRowsAreForgottenAndCoarserOnesLater) {
  const auto n1 = rig.backend.add_node("n1", 1);
  load(n1, gpu("n1", 0), 50);
  const auto then = now();
  record->finish();
  EXPECT_EQ(rows->size(), 3u) << "a row of each tier";
  const auto day_later = [&] {
    return numbers(metrics("/v1/nodes/n1/metrics?names=gpu_utilisation&from=" + wire::format_instant(then) +
                           "&until=" + wire::format_instant(then + 1h)),
                   "gpu_utilisation", "mean");
  };
  rig.backend.tick(23h);
  record->step();
  EXPECT_EQ(rows->size(), 3u);
  rig.backend.tick(3h);
  record->step();
  EXPECT_EQ(rows->size(), 2u);
  EXPECT_THAT(day_later(), ElementsAre(50)) << "by the minute";
  rig.backend.tick(24h * 15);
  record->step();
  EXPECT_EQ(rows->size(), 1u);
  EXPECT_THAT(day_later(), ElementsAre(50)) << "by ten minutes";
  rig.backend.tick(24h * 365);
  record->step();
  EXPECT_EQ(rows->size(), 0u);
}

TEST_F(MetricsTest, AStoreThatHangsIsNotAskedAgain) {
  hangs = true;
  for (int i = 0; i < 10; ++i) {
    pass(1min);
    record->step();
  }
  EXPECT_EQ(asked, 3) << "to forget, once of each tier";
}

TEST_F(MetricsTest, NothingIsTakenWhileThisSchedulerDoesNotLead) {
  const auto n1 = rig.backend.add_node("n1", 1);
  rig.backend.be_unready();
  load(n1, gpu("n1", 0), 50);
  rig.backend.recover();
  record->finish();
  EXPECT_EQ(rows->size(), 0u);
  EXPECT_EQ(rig.get("/v1/nodes/n1/metrics").status(), 200);
}

SeriesSettings with(const std::function<void(SeriesSettings&)>& change) {
  SeriesSettings settings;
  change(settings);
  return settings;
}

struct MetricsOfFewBytes : MetricsTest {
  MetricsOfFewBytes() : MetricsTest(with([](auto& s) { s.bytes_per_read = 800; })) {}
};

TEST_F(MetricsOfFewBytes, ComeFromACoarserTier) {
  const auto n1 = rig.backend.add_node("n1", 2);
  for (int i = 0; i < 120; ++i) {  // ten minutes
    rig.backend.tick(5s);
    load(n1, gpu("n1", 0), i % 2 == 0 ? 0 : 100);
    load(n1, gpu("n1", 1), 50);
  }
  record->finish();
  const auto body = metrics("/v1/nodes/n1/metrics");
  EXPECT_EQ(body.at("bucket_seconds"), 60) << "sixty points of eight lines were too much";
  EXPECT_EQ(body.at("cut"), false);
  EXPECT_THAT(lines(body), SizeIs(8));
  EXPECT_GE(numbers(body, "gpu_utilisation", "mean", 1).size(), 10u);
}

struct MetricsOfOneRow : MetricsTest {
  MetricsOfOneRow() : MetricsTest(with([](auto& s) { s.rows_per_read = 1; })) {}
};

TEST_F(MetricsOfOneRow, AreThoseThatTheAttemptTold) {
  const auto key = run_on_two_nodes();
  rig.backend.tick(20s);
  for (int i = 0; i < 4; ++i) load(first, gpu("n1", i), 90);
  tell(member(key, 0).node, key, 5, {{"loss", 2.5}});
  rig.backend.tick(10s);
  record->finish();
  const auto body = metrics(path);
  EXPECT_EQ(lines(body), (std::set<std::string>{"loss rank 0", "step rank 0"}));
  EXPECT_EQ(body.at("cut"), true);
}

struct MetricsInNoTime : MetricsTest {
  MetricsInNoTime() : MetricsTest(with([](auto& s) { s.read_for = 0s; })) {}
};

TEST_F(MetricsInNoTime, AreWhatIsNotStoredYet) {
  const auto n1 = rig.backend.add_node("n1", 1);
  load(n1, gpu("n1", 0), 50);
  rig.backend.tick(10s);
  record->finish();
  load(n1, gpu("n1", 0), 70);
  const auto body = metrics("/v1/nodes/n1/metrics");
  EXPECT_THAT(numbers(body, "gpu_utilisation", "mean"), ElementsAre(70));
  EXPECT_EQ(body.at("cut"), true);
}

}  // namespace
}  // namespace tutti::testing
