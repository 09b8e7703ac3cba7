// cancel, hold, release, requeue, node drain: what is asked for, and how many of several succeed.
#include <gtest/gtest.h>

#include "tests/cli/fake_scheduler.h"

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

TEST(Changes, SeveralNeedAYesWhenNobodyCanBeAsked) {
  Changes c;
  const Finished ended = c.scheduler.run({"cancel", "7", "8"});
  EXPECT_EQ(ended.status, 2);
  EXPECT_NE(ended.err.find("2 jobs needs -y"), std::string::npos) << ended.err;
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
}

}  // namespace
}  // namespace tutti::cli::test
