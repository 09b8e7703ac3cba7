// GET /v1/jobs/{id}/explain?at=: the state of then by the history, the reasons as the record has them.
#include <boost/json/serialize.hpp>

#include "api/wire/text_values.h"
#include "api_rig.h"
#include "db/memory/memory_waiting_reasons.h"
#include "scheduler/service/waiting_record.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

class ExplainThen : public ::testing::Test {
 protected:
  Call then(JobId id, Instant at, http::Headers headers = {}) {
    return rig.call(http::Method::get,
                    "/v1/jobs/" + to_string(id) + "/explain?at=" + wire::format_instant(at), {},
                    std::move(headers));
  }
  static std::string codes(const Call& call) {
    std::string out;
    const json::value body = call.body();
    for (const auto& reason : body.at("reasons").as_array())
      out += (out.empty() ? "" : " ") + std::string(reason.at("code").as_string());
    return out;
  }
  Instant now() const { return rig.backend.now().wall; }

  bool broken = false;
  std::shared_ptr<db::MemoryWaitingReasons> rows = std::make_shared<db::MemoryWaitingReasons>();
  std::unique_ptr<WaitingRecord> record;
  ApiRig rig{[this](TestBackend& backend) {
    record = std::make_unique<WaitingRecord>(
        backend,
        [this](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
          if (broken) return done(std::make_exception_ptr(StoreError(StoreError::unavailable, "broken")));
          work();
          done(nullptr);
        },
        rows, WaitingRecordSettings{.watched = 3, .per_step = 2, .step_time = 1h, .keep = 48h});
    Services services;
    services.waiting = record.get();
    return services;
  }};
};

TEST_F(ExplainThen, SaysWhatWasRecordedAndWhatItsHistorySays) {
  rig.backend.add_node("n1", 8);
  const auto early = now();
  rig.backend.tick(1min);
  const JobId running = rig.submit(R"({"name":"r","run":"x","resources":{"gpus":8}})");
  rig.backend.run_job(running);
  const JobId waiting = rig.submit(R"({"name":"w","run":"x","resources":{"gpus":8}})");
  const auto unrecorded = now();
  rig.backend.tick(1min);
  record->step();
  const auto busy_at = now();
  EXPECT_EQ(rows->size(), 1u);
  record->step();
  record->step();
  EXPECT_EQ(rows->size(), 1u) << "only what has changed";
  rig.backend.tick(1min);
  const auto busy = now();
  rig.post("/v1/jobs/" + to_string(waiting) + ":hold", R"({"reason":"maintenance"})");
  rig.backend.tick(1min);
  const auto held = now();

  const auto nothing = then(waiting, unrecorded);
  EXPECT_EQ(nothing.body().at("state"), "queued");
  EXPECT_EQ(nothing.body().at("recorded_at"), nullptr);
  EXPECT_EQ(codes(nothing), "");
  const auto found = then(waiting, busy);
  EXPECT_EQ(found.body().at("recorded_at").as_string(), wire::format_instant(busy_at));
  EXPECT_EQ(found.body().at("at").as_string(), wire::format_instant(busy));
  EXPECT_EQ(codes(found),
            codes(rig.get("/v1/jobs/" +
                          to_string(rig.submit(R"({"name":"same","run":"x","resources":{"gpus":8}})")) +
                          "/explain")));
  EXPECT_NE(codes(found), "");
  const auto then_held = then(waiting, held);
  EXPECT_EQ(then_held.body().at("state"), "held");
  EXPECT_EQ(codes(then_held), "held");
  EXPECT_EQ(then(running, busy).body().at("state"), "running");
  EXPECT_EQ(codes(then(running, busy)), "");
  EXPECT_EQ(then(waiting, early).status(), 422) << "it was not submitted yet";
}

TEST_F(ExplainThen, RefusesWhatItCannotAnswer) {
  const JobId id = rig.submit();
  EXPECT_EQ(then(id, now() + 1h).status(), 422) << "the future";
  EXPECT_EQ(rig.get("/v1/jobs/" + to_string(id) + "/explain?at=yesterday").status(), 422);
  EXPECT_EQ(then(JobId(99), now()).status(), 404);
  broken = true;
  EXPECT_EQ(then(id, now()).status(), 503);
  const auto eve = rig.user("eve", {{"vision", Role::member}});
  EXPECT_EQ(then(id, now(), eve).status(), 404) << "she may not see the job";
}

TEST_F(ExplainThen, AFewAtATimeOfTheHeadOfTheQueue) {
  for (int i = 0; i < 5; ++i) rig.submit(R"({"name":"w","run":"x","resources":{"gpus":8}})");
  record->step();
  EXPECT_EQ(rows->size(), 2u);
  record->step();
  EXPECT_EQ(rows->size(), 3u);
  broken = true;
  rig.backend.add_node("n1", 4);  // now there are GPUs, too few
  for (int i = 0; i < 4; ++i) record->step();
  EXPECT_EQ(rows->size(), 3u) << "not before five minutes";
  rig.backend.tick(6min);
  for (int i = 0; i < 4; ++i) record->step();
  EXPECT_EQ(rows->size(), 3u) << "cannot be stored";
  broken = false;
  for (int i = 0; i < 6; ++i) record->step();
  EXPECT_EQ(rows->size(), 6u) << "but is said as soon as it can be";
  rig.backend.be_unready();
  record->step();
  EXPECT_EQ(rows->size(), 6u);
}

TEST_F(ExplainThen, OldRowsAreForgotten) {
  rig.submit(R"({"name":"w","run":"x","resources":{"gpus":8}})");
  record->step();
  EXPECT_EQ(rows->size(), 1u);
  rig.backend.tick(25h);
  record->step();
  EXPECT_EQ(rows->size(), 2u) << "before the only one is forgotten it is said again";
  rig.backend.tick(24h);
  record->step();
  EXPECT_EQ(rows->size(), 2u) << "the first of three is forgotten";
}

TEST_F(ExplainThen, ItTellsNobodyOfOtherPeoplesJobs) {
  rig.backend.add_node("n1", 8);
  rig.backend.add_project("vision");
  const auto vision = [&](int gpus) {
    return rig.submit(
        R"({"name":"a","run":"x","project":"vision","priority":80,"time_limit":"1h","resources":{"gpus":)" +
        std::to_string(gpus) + "}}");
  };
  rig.backend.run_job(vision(4));
  const JobId promised = vision(8);
  const JobId mine =
      rig.submit(R"({"name":"a","run":"x","priority":40,"time_limit":"4h","resources":{"gpus":1}})");
  record->step();
  const auto body = then(mine, now()).body();
  EXPECT_EQ(codes(then(mine, now())), codes(rig.get("/v1/jobs/" + to_string(mine) + "/explain")));
  const auto text = json::serialize(body);
  EXPECT_NE(text.find("a job of others comes before it"), std::string::npos) << text;
  EXPECT_EQ(text.find("job " + to_string(promised)), std::string::npos) << text;
}

}  // namespace
}  // namespace tutti::testing
