// GET /v1/history and what is below it; and the past of one node or project.
#include <algorithm>
#include <boost/json/serialize.hpp>

#include "api/wire/text_values.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

// One node with two GPUs. A job of vision takes both; a job of nlp waits for a minute, until that one ends.
class HistoryApi : public ::testing::Test {
 protected:
  HistoryApi() {
    rig.backend.add_project("nlp");
    rig.backend.add_project("vision");
    before_ = now();
    rig.backend.add_node("n1", 2);
    idle_ = now();
    rig.backend.tick(1min);
    first_ = submit("vision");
    const auto key = rig.backend.run_job(first_);
    second_ = submit("nlp");
    busy_ = now();
    rig.backend.tick(1min);
    rig.backend.end_attempt(key, true);
    over_ = now();
    rig.backend.tick(2s);
  }
  JobId submit(const std::string& project) {
    return rig.submit(R"({"name":"a-)" + project + R"(","run":"true","resources":{"gpus":2},"project":")" +
                      project + "\"}");
  }
  Instant now() const { return rig.backend.now().wall; }
  Call then(const std::string& what, Instant at, http::Headers headers = {}) {
    return rig.get("/v1/history/" + what + "?at=" + wire::format_instant(at), std::move(headers));
  }
  http::Headers ada() { return rig.user("ada", {{"nlp", Role::member}}); }
  static std::string jobs_of(const Call& call) {
    return json::serialize(call.body().at("nodes").at(0).at("jobs"));
  }

  ApiRig rig;
  Instant before_, idle_, busy_, over_;
  JobId first_, second_;
};

TEST_F(HistoryApi, TheMapIsAsItWas) {
  EXPECT_TRUE(then("map", before_).body().at("nodes").as_array().empty());
  const auto idle = then("map", idle_), busy = then("map", busy_);
  EXPECT_EQ(idle.body().at("nodes").at(0).at("gpus"), "ff");
  EXPECT_EQ(busy.body().at("nodes").at(0).at("gpus"), "aa");
  EXPECT_EQ(busy.body().at("at"), json::value(wire::format_instant(busy_)));
  EXPECT_TRUE(busy.body().at("nodes").at(0).at("conditions").is_null());
  const auto id = to_string(first_);
  EXPECT_EQ(jobs_of(busy), "[" + id + "," + id + "]");
  EXPECT_EQ(jobs_of(then("map", over_)), "[" + to_string(second_) + "," + to_string(second_) + "]");
}

TEST_F(HistoryApi, TheMapDoesNotSayWhichJobsOfOthers) {
  const auto who = ada();
  EXPECT_EQ(jobs_of(then("map", busy_, who)), "[null,null]");
  EXPECT_EQ(jobs_of(then("map", over_, who)), "[" + to_string(second_) + "," + to_string(second_) + "]");
}

TEST_F(HistoryApi, ANodeOutOfServiceWasInServiceBefore) {
  rig.post("/v1/nodes/n1:cordon", R"({"reason":"disk"})");
  EXPECT_EQ(then("map", over_).body().at("nodes").at(0).at("service"), "schedulable");
  EXPECT_EQ(then("map", now()).body().at("nodes").at(0).at("service"), "cordoned");
}

TEST_F(HistoryApi, GpusAreTheNodesOwnWhenTheyWere) {
  const auto swap = [&](const char* uuid) {
    rig.backend.change([&](ControlPlane& plane, Now at) {
      protocol::GpuInventory inventory;
      inventory.gpus.push_back({.uuid = "GPU-n1-0",
                                .index = 0,
                                .model = "H100",
                                .memory_bytes = 80LL << 30,
                                .pci = "",
                                .island = 0,
                                .device_path = "",
                                .healthy = true,
                                .health_reason = ""});
      inventory.gpus.push_back(inventory.gpus[0]);
      inventory.gpus[1].uuid = uuid;
      inventory.gpus[1].index = 1;
      plane.on_gpu_inventory(at, plane.cluster().node_by_name.at("n1"), inventory);
    });
  };
  const auto key = AttemptKey{second_, rig.backend.plane()->find_job(second_)->row.epoch};
  rig.backend.run_job(second_);
  rig.backend.end_attempt(key, true);
  rig.backend.tick(1min);
  const auto whole = now();
  swap("GPU-new");
  const auto swapped = now();
  rig.backend.tick(1min);
  swap("GPU-n1-1");
  const auto letters = [&](Instant at) {
    return std::string(then("map", at).body().at("nodes").at(0).at("gpus").as_string());
  };
  EXPECT_EQ(letters(whole), "ff") << "the new one did not exist";
  EXPECT_EQ(letters(swapped).size(), 3u);
  EXPECT_EQ(std::ranges::count(letters(swapped), 'x'), 1);
  EXPECT_EQ(std::ranges::count(letters(now()), 'x'), 1) << "the first pair is back";
}

TEST_F(HistoryApi, TheQueueIsAsItWas) {
  const auto body = then("queue", busy_).body();
  ASSERT_EQ(body.at("total"), 1);
  const auto& job = body.at("jobs").at(0);
  EXPECT_EQ(job.at("id"), second_.value);
  EXPECT_EQ(job.at("name"), "a-nlp");
  EXPECT_EQ(job.at("state"), "queued");
  EXPECT_EQ(job.at("attempt"), 0);
  EXPECT_EQ(body.at("by_reason").at(0).at("code"), "not_recorded");
  EXPECT_EQ(body.at("by_reason").at(0).at("gpus"), 2);
  EXPECT_EQ(body.at("cut"), false);
  EXPECT_EQ(then("queue", over_).body().at("total"), 0);
  EXPECT_EQ(then("queue", idle_).body().at("total"), 0);
  EXPECT_EQ(then("queue", busy_, ada()).body().at("total"), 1);
  EXPECT_EQ(then("queue", busy_, rig.user("eve", {{"vision", Role::admin}})).body().at("total"), 0);
  const auto at = wire::format_instant(busy_);
  EXPECT_EQ(rig.get("/v1/history/queue?project=vision&at=" + at).body().at("total"), 0);
  const auto beyond = rig.get("/v1/history/queue?page_token=1&at=" + at).body();
  EXPECT_TRUE(beyond.at("jobs").as_array().empty());
  EXPECT_EQ(beyond.at("total"), 1);
}

TEST_F(HistoryApi, HeldJobsComeBehindThoseThatAreReady) {
  const auto held = rig.submit(R"({"name":"h","run":"true","priority":80,"resources":{"gpus":2}})");
  rig.post("/v1/jobs/" + to_string(held) + ":hold");
  for (int i = 0; i < 3; ++i) submit("nlp");
  const auto at = wire::format_instant(now());
  const auto first = rig.get("/v1/history/queue?page_size=3&at=" + at).body();
  EXPECT_EQ(first.at("jobs").as_array().size(), 3u);
  EXPECT_EQ(first.at("next_page_token"), "3");
  const auto second = rig.get("/v1/history/queue?page_size=3&page_token=3&at=" + at).body();
  ASSERT_EQ(second.at("jobs").as_array().size(), 1u);
  EXPECT_EQ(second.at("jobs").at(0).at("id"), held.value);
  EXPECT_EQ(second.at("jobs").at(0).at("reasons").at(0).at("code"), "held");
  EXPECT_EQ(second.at("next_page_token"), "");
}

TEST_F(HistoryApi, TheClusterInNumbers) {
  const auto body = then("cluster", busy_).body();
  EXPECT_EQ(body.at("nodes"), 1);
  EXPECT_EQ(body.at("gpus").at("total"), 2);
  EXPECT_EQ(body.at("gpus").at("allocated"), 2);
  EXPECT_EQ(body.at("jobs").at("running"), 1);
  EXPECT_EQ(body.at("jobs").at("queued"), 1);
  EXPECT_EQ(body.at("jobs").at("succeeded"), 0);
  const auto later = then("cluster", over_).body();
  EXPECT_EQ(later.at("jobs").at("succeeded"), 1);
  EXPECT_EQ(later.at("jobs").at("starting"), 1);
  EXPECT_EQ(then("cluster", before_).body().at("nodes"), 0);
}

TEST(HistoryOfManyJobs, SaysWhatItCannotCount) {
  struct Crowded final : db::MemoryHistory {
    using MemoryHistory::MemoryHistory;
    PastJobs jobs(Instant at) override {
      auto all = MemoryHistory::jobs(at);
      all.ended_known = false;
      return all;
    }
  };
  const Aside aside = [](const std::function<void()>& work,
                         const std::function<void(std::exception_ptr)>& done) {
    work();
    done(nullptr);
  };
  std::unique_ptr<History> history;
  ApiRig rig([&](TestBackend& backend) {
    history = std::make_unique<History>(std::make_shared<Crowded>(backend.database()), aside, aside,
                                        History::Compare());
    Services services;
    services.history = history.get();
    return services;
  });
  rig.submit();
  rig.backend.tick(2s);
  const auto jobs = rig.get("/v1/history/cluster?at=1s").body().at("jobs");
  EXPECT_EQ(jobs.at("queued"), 1);
  EXPECT_EQ(jobs.at("running"), 0);
  for (const auto* state : {"succeeded", "failed", "cancelled"})
    EXPECT_TRUE(jobs.at(state).is_null()) << state;
}

TEST_F(HistoryApi, WhatWasDecided) {
  const auto all = [&](const std::string& query, http::Headers headers = {}) {
    std::string out;
    const auto body = rig.get("/v1/history/decisions?" + query, std::move(headers)).body();
    for (const auto& d : body.at("decisions").as_array())
      out += std::string(d.at("kind").as_string()) + " " + json::serialize(d.at("job_id")) + ", ";
    return out;
  };
  const auto a = to_string(first_), b = to_string(second_);
  EXPECT_EQ(all("since=1h"), "start " + a + ", end " + a + ", start " + b + ", ");
  EXPECT_EQ(all("since=1h&order=desc&limit=1"), "start " + b + ", ");
  EXPECT_EQ(all("since=1h", ada()), "start " + b + ", ");
  const auto page = rig.get("/v1/history/decisions?since=1h&limit=2").body();
  EXPECT_EQ(page.at("decisions").at(0).at("text"), "started on n1");
  const std::string token(page.at("next_page_token").as_string());
  EXPECT_EQ(all("since=1h&limit=2&page_token=" + token), "start " + b + ", ");
  EXPECT_EQ(all("since=" + wire::format_instant(over_ + 1s)), "");
}

TEST_F(HistoryApi, HowMuchThereIs) {
  const auto body = rig.get("/v1/history").body();
  EXPECT_EQ(body.at("decisions"), 3);
  EXPECT_EQ(body.at("density").as_array().size(), 200u);
  EXPECT_EQ(body.at("from"), body.at("recorded_since")) << "there was nothing before";
  EXPECT_EQ(body.at("until"), json::value(wire::format_instant(now())));
  std::int64_t starts = 0;
  for (const auto& piece : body.at("density").as_array()) starts += piece.at("starts").as_int64();
  EXPECT_EQ(starts, 2);
  EXPECT_EQ(rig.get("/v1/history?since=" + wire::format_instant(over_ + 1s)).body().at("decisions"), 0);
}

TEST_F(HistoryApi, NamesWhatIsWrongWithAQuestion) {
  for (const char* bad :
       {"/v1/history/map", "/v1/history/map?at=yesterday", "/v1/history/map?at=2100-01-01T00:00:00Z",
        "/v1/history/map?at=1h&x=1", "/v1/history/queue?at=1h&page_size=0",
        "/v1/history/queue?at=1h&page_token=x", "/v1/history/decisions?order=up", "/v1/history/decisions?since=32d",
        "/v1/history/decisions?limit=0", "/v1/history?since=1h&until=2h", "/v1/history?since=5000d",
        "/v1/nodes/n1/score?since=x", "/v1/nodes/n1/attempts?x=1"})
    EXPECT_EQ(rig.get(bad).status(), 422) << bad;
  EXPECT_EQ(rig.get("/v1/nodes/n9/attempts").status(), 404);
  EXPECT_EQ(rig.get("/v1/projects/none/waits").status(), 404);
  rig.history_broken = true;
  EXPECT_EQ(then("map", busy_).status(), 503);
}

TEST_F(HistoryApi, WhoRanOnANode) {
  const auto body = rig.get("/v1/nodes/n1/attempts").body();
  ASSERT_EQ(body.at("attempts").as_array().size(), 2u);
  const auto& newest = body.at("attempts").at(0);
  EXPECT_EQ(newest.at("job_id"), second_.value);
  EXPECT_TRUE(newest.at("until").is_null());
  EXPECT_TRUE(newest.at("result").is_null());
  const auto& oldest = body.at("attempts").at(1);
  EXPECT_EQ(oldest.at("name"), "a-vision");
  EXPECT_EQ(json::serialize(oldest.at("gpus")), "[0,1]");
  EXPECT_EQ(oldest.at("result"), "succeeded");
  const auto seen = rig.get("/v1/nodes/n1/attempts", ada()).body();
  EXPECT_EQ(seen.at("attempts").at(0).at("name"), "a-nlp");
  EXPECT_TRUE(seen.at("attempts").at(1).at("job_id").is_null());
  EXPECT_EQ(seen.at("attempts").at(1).at("name"), "");
  EXPECT_EQ(seen.at("attempts").at(1).at("project"), "");
  for (const auto* hidden : {"number", "result", "cause"})
    EXPECT_TRUE(seen.at("attempts").at(1).at(hidden).is_null()) << hidden;
  const auto page = rig.get("/v1/nodes/n1/attempts?page_size=1").body();
  EXPECT_EQ(page.at("next_page_token"), "1");
  const auto next = rig.get("/v1/nodes/n1/attempts?page_size=1&page_token=1").body();
  EXPECT_EQ(next.at("attempts").at(0).at("job_id"), first_.value);
  EXPECT_EQ(next.at("next_page_token"), "");
}

TEST_F(HistoryApi, InspectionsOfANode) {
  const auto report = [&](std::vector<protocol::CheckResult> checks) {
    rig.backend.tick(1min);
    rig.backend.change([&](ControlPlane& plane, Now at) {
      protocol::InspectionReport r;
      r.trigger = "person";
      r.checks = std::move(checks);
      plane.on_inspection(at, plane.cluster().node_by_name.at("n1"), r);
    });
  };
  const auto check = [](const char* name, const char* result) {
    protocol::CheckResult c;
    c.name = name;
    c.result = result;
    return c;
  };
  report({check("disk", "ok")});
  report({check("disk", "failed"), check("nvlink", "failed"), check("gpu", "ok")});
  const auto body = rig.get("/v1/nodes/n1/inspections").body();
  ASSERT_EQ(body.at("inspections").as_array().size(), 2u);
  const auto& newest = body.at("inspections").at(0);
  EXPECT_EQ(newest.at("passed"), false);
  EXPECT_EQ(newest.at("trigger"), "person");
  EXPECT_EQ(json::serialize(newest.at("failed")), R"(["disk","nvlink"])");
  EXPECT_TRUE(body.at("inspections").at(1).at("failed").as_array().empty());
  const auto page = rig.get("/v1/nodes/n1/inspections?page_size=1").body();
  const std::string token(page.at("next_page_token").as_string());
  const auto next = rig.get("/v1/nodes/n1/inspections?page_size=1&page_token=" + token).body();
  ASSERT_EQ(next.at("inspections").as_array().size(), 1u);
  EXPECT_EQ(next.at("inspections").at(0).at("passed"), true);
  EXPECT_EQ(next.at("next_page_token"), "");
}

TEST_F(HistoryApi, TheScoreOfANodeThatIsLikeTheOthers) {
  const auto body = rig.get("/v1/nodes/n1/score").body();
  ASSERT_EQ(body.at("points").as_array().size(), 60u);
  EXPECT_EQ(body.at("points").at(59).at("at"), json::value(wire::format_instant(now())));
  EXPECT_EQ(body.at("points").at(59).at("suspicion"), 0.0);
}

TEST_F(HistoryApi, HowLongJobsOfAProjectWaited) {
  const auto jobs = [&](const std::string& project, double upto, http::Headers headers = {}) {
    const auto body = rig.get("/v1/projects/" + project + "/waits", std::move(headers)).body();
    for (const auto& bucket : body.at("buckets").as_array())
      if (bucket.at("upto_seconds").is_double() && bucket.at("upto_seconds").as_double() == upto)
        return bucket.at("jobs").as_int64();
    return std::int64_t{-1};
  };
  EXPECT_EQ(jobs("nlp", 300), 1);
  EXPECT_EQ(jobs("nlp", 60), 0);
  EXPECT_EQ(jobs("vision", 10), 1);
  EXPECT_EQ(jobs("vision", 10, ada()), 0) << "she may not see that job";
}

}  // namespace
}  // namespace tutti::testing
