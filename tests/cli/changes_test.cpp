// cancel, hold, release, requeue, node drain: what is asked for, and how many of several succeed.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cli/fake_scheduler.h"
#include "tests/cli/pty_process.h"

namespace tutti::cli::test {
namespace {

struct Changes {
  Changes() {
    for (const std::string verb : {"cancel", "hold", "release", "requeue"})
      scheduler.routes.post("/v1/jobs/{id}:" + verb, [verb](const Request& request) {
        const int id = std::stoi(request.param("id"));
        if (id == 404) return http::problem(404, "job_not_found", "no job 404");
        return http::json(200, job(id, verb == "cancel" ? "cancelled" : verb == "hold" ? "held" : "queued"));
      });
    scheduler.routes.post("/v1/jobs/{id}:signal", [](const Request& request) {
      return http::json(200, job(std::stoi(request.param("id")), "running"));
    });
    scheduler.routes.get("/v1/jobs/{id}", [](const Request& request) {
      return http::json(200, job(std::stoi(request.param("id")), "running"));
    });
    scheduler.routes.get("/v1/nodes/{name}", [](const Request&) {
      return http::json(200, json::object{{"name", "n1"}, {"service", "schedulable"}});
    });
    scheduler.routes.post("/v1/nodes/{name}:drain", [](const Request&) {
      return http::json(200,
                        json::object{{"name", "n1"}, {"service", "draining"}, {"jobs", json::array{7, 9}}});
    });
    scheduler.start();
  }
  std::vector<std::string> posts() const {
    std::vector<std::string> all;
    for (const auto& asked : scheduler.asked())
      if (asked.method == "POST") all.push_back(asked.target + " " + asked.body);
    return all;
  }
  FakeScheduler scheduler;
};

TEST(Changes, OneJobNeedsNoQuestion) {
  Changes c;
  const Finished ended = c.scheduler.run({"cancel", "7", "--reason", "wrong data"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 7 (hello) is cancelled\n");
  EXPECT_EQ(c.posts(), std::vector<std::string>{R"(/v1/jobs/7:cancel {"reason":"wrong data"})"});
}

TEST(Changes, CancelWithASignalSendsItAndEndsNothing) {
  Changes c;
  const Finished ended = c.scheduler.run({"cancel", "--signal", "USR1", "7", "--reason", "save now"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 7 (hello) was sent USR1; it is running\n");
  EXPECT_EQ(c.posts(),
            std::vector<std::string>{R"(/v1/jobs/7:signal {"signal":"USR1","reason":"save now"})"});
  const Finished many = c.scheduler.run({"cancel", "--signal", "USR1", "7", "8"});
  EXPECT_NE(many.err.find("signal 2 jobs: needs -y"), std::string::npos) << many.err;
  EXPECT_EQ(c.scheduler.run({"cancel", "--signal", "USR1", "--user", "ann", "-y"}).status, 2);
  EXPECT_EQ(c.posts().size(), 1U);
}

TEST(Changes, SeveralNeedAYesWhenNobodyCanBeAsked) {
  Changes c;
  const Finished ended = c.scheduler.run({"cancel", "7", "8"});
  EXPECT_EQ(ended.status, 2);
  EXPECT_NE(ended.err.find("cancel 2 jobs: needs -y"), std::string::npos) << ended.err;
  EXPECT_TRUE(c.posts().empty());
}

TEST(Changes, OneFailureDoesNotSpareTheOthers) {
  Changes c;
  const Finished ended = c.scheduler.run({"cancel", "-y", "-"}, "7 404\n8\n");
  EXPECT_EQ(ended.status, 3);
  EXPECT_EQ(ended.out, "job 7 (hello) is cancelled\njob 8 (hello) is cancelled\n");
  EXPECT_NE(ended.err.find("404: no job 404"), std::string::npos) << ended.err;
}

TEST(Changes, DryRunChangesNothing) {
  Changes c;
  EXPECT_EQ(c.scheduler.run({"hold", "7", "8", "--dry-run"}).out,
            "job 7 (hello): would hold it; now running\njob 8 (hello): would hold it; now running\n");
  EXPECT_EQ(c.scheduler.run({"node", "drain", "n1", "--reason", "r", "--dry-run"}).out,
            "node n1: would drain it; now schedulable\n");
  EXPECT_TRUE(c.posts().empty());
}

TEST(Changes, JsonIsOneObjectPerLine) {
  Changes c;
  const Finished ended = c.scheduler.run({"release", "7", "8", "-o", "json"});
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 2);
  EXPECT_EQ(json::parse(ended.out.substr(0, ended.out.find('\n'))).as_object().at("id").as_int64(), 7);
}

TEST(Changes, DrainSaysWhatStillRunsThere) {
  Changes c;
  EXPECT_EQ(c.scheduler.run({"node", "drain", "n1", "--reason", "new cable"}).out,
            "node n1 is draining; still runs there: 7,9\n");
  EXPECT_EQ(c.posts(), std::vector<std::string>{R"(/v1/nodes/n1:drain {"reason":"new cable"})"});
  EXPECT_EQ(c.scheduler.run({"node", "drain", "n1", "--reason", "new cable", "--until", "+2h"}).status, 0);
  EXPECT_EQ(c.posts().back(), R"(/v1/nodes/n1:drain {"reason":"new cable","until":"+2h"})");
}

// POST /v1/jobs:bulk over jobs 1 to 5, of which 4 cannot be changed; two a page.
struct Bulk {
  Bulk() {
    scheduler.routes.post("/v1/jobs:bulk", [](const Request& request) {
      const json::object asked = json::parse(request.body).as_object();
      const bool dry_run = asked.at("dry_run").as_bool();
      std::vector<std::int64_t> ids;
      std::string next;
      if (asked.contains("ids")) {
        for (const auto& id : asked.at("ids").as_array()) ids.push_back(id.as_int64());
      } else {
        const int page =
            asked.contains("page_token") ? std::stoi(asked.at("page_token").as_string().c_str()) : 0;
        if (page < 2) next = std::to_string(page + 1);
        for (int id = 2 * page + 1; id <= std::min(5, 2 * page + 2); ++id) ids.push_back(id);
      }
      json::array jobs;
      for (const auto id : ids)
        jobs.push_back(json::object{{"id", id},
                                    {"outcome", id == 4   ? "refused"
                                                : dry_run ? "would_change"
                                                          : "changed"},
                                    {"detail", id == 4 ? "it has started" : ""}});
      const auto refused = std::count(ids.begin(), ids.end(), 4);
      const auto done = static_cast<std::int64_t>(ids.size()) - refused;
      return http::json(200, json::object{{"matched", 5},
                                          {"changed", dry_run ? 0 : done},
                                          {"refused", refused},
                                          {"skipped", 0},
                                          {"would_change", dry_run ? done : 0},
                                          {"dry_run", dry_run},
                                          {"jobs", jobs},
                                          {"next_page_token", next}});
    });
    scheduler.start();
  }
  std::vector<json::object> posts() const {
    std::vector<json::object> all;
    for (const auto& asked : scheduler.asked()) all.push_back(json::parse(asked.body).as_object());
    return all;
  }
  FakeScheduler scheduler;
};

TEST(Bulk, CountsFirstAndAsks) {
  Bulk b;
  const Finished refused = b.scheduler.run({"cancel", "--user", "ann"});
  EXPECT_EQ(refused.status, 2) << "nobody can be asked";
  EXPECT_NE(refused.err.find("would cancel 4 jobs, not possible for 1"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("job 4: it has started"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("cancel 4 jobs: needs -y"), std::string::npos) << refused.err;
  ASSERT_EQ(b.posts().size(), 3U) << "three pages";
  EXPECT_EQ(b.posts()[0],
            json::parse(R"({"action":"cancel","filter":{"user":"ann","state":["pending","active"]},
                                          "limit":1000,"dry_run":true})"));
}

TEST(Bulk, ChangesWhatWasCountedAndNothingElse) {
  Bulk b;
  PtyProcess tutti({"hold", "--project", "nlp"}, b.scheduler.environment());
  tutti.wait_for_output("hold 4 jobs? [y/N] ");
  tutti.type("y\n");
  EXPECT_EQ(tutti.wait(), 0) << tutti.output();
  EXPECT_NE(tutti.output().find("hold: 4 jobs"), std::string::npos) << tutti.output();
  EXPECT_EQ(b.posts().back(), json::parse(R"({"action":"hold","ids":[1,2,3,5],"dry_run":false})"));
}

TEST(Bulk, ANoChangesNothing) {
  Bulk b;
  PtyProcess tutti({"cancel", "--all"}, b.scheduler.environment());
  tutti.wait_for_output("? [y/N] ");
  tutti.type("n\n");
  EXPECT_EQ(tutti.wait(), 1);
  for (const auto& post : b.posts()) EXPECT_TRUE(post.at("dry_run").as_bool());
}

TEST(Bulk, WithAYesNobodyIsAsked) {
  Bulk b;
  const Finished ended =
      b.scheduler.run({"hold", "-y", "--label", "team=speech", "--project", "nlp", "--reason", "quota"});
  EXPECT_EQ(ended.status, 1) << "one was refused";
  EXPECT_NE(ended.out.find("hold: 4 jobs, not possible for 1"), std::string::npos) << ended.out;
  ASSERT_EQ(b.posts().size(), 3U);
  EXPECT_EQ(b.posts()[0],
            json::parse(R"({"action":"hold","filter":{"project":"nlp","labels":{"team":"speech"},
                            "state":["queued","delayed","blocked"]},"limit":1000,"reason":"quota","dry_run":false})"));
  EXPECT_EQ(b.posts()[1].at("page_token").as_string(), "1");
}

TEST(Bulk, WhatTheLimitLeavesOutIsSaid) {
  Bulk b;
  const Finished ended = b.scheduler.run({"hold", "-y", "--user", "ann", "--limit", "2"});
  EXPECT_NE(ended.out.find("hold: 2 jobs\n  3 more match: --limit"), std::string::npos) << ended.out;
  EXPECT_EQ(b.posts().size(), 1U);
}

TEST(Bulk, JsonIsAllPagesAsOne) {
  Bulk b;
  const Finished ended = b.scheduler.run({"release", "-y", "--user", "ann", "-o", "json"});
  const json::object all = json::parse(ended.out).as_object();
  EXPECT_EQ(all.at("jobs").as_array().size(), 5U);
  EXPECT_EQ(all.at("changed").as_int64(), 4);
  EXPECT_EQ(all.at("refused").as_int64(), 1);
  b.scheduler.run({"release", "-y", "--user", "ann", "--limit", "3"});
  EXPECT_EQ(b.posts().back().at("limit").as_int64(), 1) << "of three, two are done";
}

TEST(Bulk, DryRunSaysSoAndChangesNothing) {
  Bulk b;
  const Finished ended = b.scheduler.run({"update", "--all", "--priority", "5", "--dry-run"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_NE(ended.out.find("would update 4 jobs"), std::string::npos) << ended.out;
  for (const auto& post : b.posts()) EXPECT_TRUE(post.at("dry_run").as_bool());
  EXPECT_EQ(b.posts()[0].at("change"), json::parse(R"({"priority":5})"));
  EXPECT_TRUE(b.posts()[0].at("filter").as_object().at("all").as_bool());
}

TEST(Bulk, NeedsJobsOrACondition) {
  Bulk b;
  EXPECT_EQ(b.scheduler.run({"cancel"}).status, 2);
  EXPECT_EQ(b.scheduler.run({"cancel", "7", "--all"}).status, 2);
  EXPECT_TRUE(b.posts().empty());
}

// Job 7, whose version moves on by itself `moves` times, each time just before a change arrives.
struct Versions {
  explicit Versions(int moves_before_change, bool priority_too = false) : moves(moves_before_change) {
    scheduler.routes.get("/v1/jobs/{id}", [this](const Request& request) {
      if (request.param("id") == "9") return http::problem(404, "not_found", "no job 9");
      auto answer = http::json(200, shown());
      answer.set("ETag", "\"" + std::to_string(version) + "\"");
      return answer;
    });
    scheduler.routes.patch("/v1/jobs/{id}", [this, priority_too](const Request& request) {
      if (moves-- > 0) {
        ++version;
        if (priority_too) priority = 70;
      }
      if (request.header("If-Match") != "\"" + std::to_string(version) + "\"")
        return http::problem(412, "version_mismatch", "the job has changed meanwhile");
      const json::object change = json::parse(request.body).as_object();
      if (const auto* p = change.if_contains("priority")) priority = static_cast<int>(p->as_int64());
      ++version;
      return http::json(200, shown());
    });
    scheduler.start();
  }
  json::object shown() const {
    return job(7, "queued",
               {{"priority", priority},
                {"version", version},
                {"labels", json::object{{"a", "b"}}},
                {"spec", json::object{{"time_limit", "24h"}, {"run", "x"}}}});
  }
  std::vector<Asked> patches() const { return scheduler.asked("PATCH", "/v1/jobs/7"); }
  int moves;
  int version = 3, priority = 50;
  FakeScheduler scheduler;
};

TEST(Update, SendsTheVersionItHasSeen) {
  Versions v(0);
  const Finished ended =
      v.scheduler.run({"update", "7", "--priority", "80", "--time-limit", "none", "--set-label",
                       "team=speech", "--set-label", "a=", "--reason", "urgent"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_NE(ended.out.find("job 7 is changed: priority 80"), std::string::npos) << ended.out;
  ASSERT_EQ(v.patches().size(), 1U);
  EXPECT_EQ(
      json::parse(v.patches()[0].body),
      json::parse(
          R"({"priority":80,"time_limit":null,"labels":{"team":"speech","a":null},"reason":"urgent"})"));
}

TEST(Update, TriesOnceMoreWhenSomethingElseHasChanged) {
  Versions v(1);
  const Finished ended = v.scheduler.run({"update", "7", "--priority", "80"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(v.patches().size(), 2U);
  EXPECT_EQ(v.priority, 80);
}

TEST(Update, GivesUpWhenItIsTheSameField) {
  Versions v(1, true);
  const Finished ended = v.scheduler.run({"update", "7", "--priority", "80"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.err.find("priority was changed meanwhile from 50 to 70"), std::string::npos) << ended.err;
  EXPECT_EQ(v.patches().size(), 1U);
  EXPECT_EQ(v.priority, 70);
}

TEST(Update, DoesNotTryForEver) {
  Versions v(2);
  EXPECT_EQ(v.scheduler.run({"update", "7", "--priority", "80"}).status, 1);
  EXPECT_EQ(v.patches().size(), 2U);
}

TEST(Update, SeveralAndDryRun) {
  Versions v(0);
  const Finished shown =
      v.scheduler.run({"update", "7", "--priority", "80", "--time-limit", "2h", "--dry-run"});
  EXPECT_EQ(shown.out, "job 7: would change priority 50 → 80, time_limit 24h → 2h\n") << shown.err;
  EXPECT_TRUE(v.patches().empty());
  const Finished ended = v.scheduler.run({"update", "-y", "-", "--priority", "80"}, "9 7\n");
  EXPECT_EQ(ended.status, 3);
  EXPECT_EQ(v.patches().size(), 1U) << "the one that is there is changed all the same";
  EXPECT_EQ(v.scheduler.run({"update", "7"}).status, 2) << "nothing to change";
}

TEST(Resubmit, SendsTheSpecAsItWasWithWhatIsToBeDifferent) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}", [](const Request&) {
    return http::json(
        200, job(7, "failed",
                 {{"spec", json::object{{"name", "hello"},
                                        {"run", "x"},
                                        {"nodes", 4},
                                        {"begin_time", "2026-01-01T00:00:00Z"},
                                        {"scheduled_by", 3},
                                        {"array", json::object{{"index", 5}, {"position", 5}, {"tasks", 8}}},
                                        {"env", json::object{{"A", "1"}}}}}}));
  });
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(8, "queued")); });
  scheduler.start();
  const Finished ended =
      scheduler.run({"resubmit", "7", "--set", "nodes=2", "--env", "B=2", "--name", "again"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 8 (hello) queued\n");
  const auto posts = scheduler.asked("POST", "/v1/jobs");
  ASSERT_EQ(posts.size(), 1U);
  EXPECT_EQ(
      json::parse(posts[0].body),
      json::parse(R"({"name":"again","run":"x","nodes":2,"array":{"range":"5"},"env":{"A":"1","B":"2"}})"));
  EXPECT_EQ(posts[0].key.size(), 36U);
  EXPECT_EQ(scheduler.run({"resubmit", "7", "8", "--wait"}).status, 2);
  EXPECT_NE(scheduler.run({"resubmit", "7", "--dry-run"}).out.find("\"run\":\"x\""), std::string::npos);
}

}  // namespace
}  // namespace tutti::cli::test
