// Events: pages, and streams that resume without gap or duplicate.
#include <boost/json/parse.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

const http::Headers kStream = {{"Accept", "text/event-stream"}};

/// The ids in what a stream has sent, with `data` checked against the schema of an event.
std::vector<std::int64_t> ids_of(const TestStream& stream) {
  std::vector<std::int64_t> ids;
  const SchemaChecker checker(openapi());
  std::size_t at = 0;
  while ((at = stream.text.find("id: ", at)) != std::string::npos) {
    at += 4;
    ids.push_back(std::stoll(stream.text.substr(at)));
    const auto data = stream.text.find("data: ", at) + 6;
    const auto event = json::parse(stream.text.substr(data, stream.text.find('\n', data) - data));
    EXPECT_EQ(event.at("id"), ids.back());
    for (const auto& error : checker.check(event, openapi().at("components").at("schemas").at("Event")))
      ADD_FAILURE() << error;
  }
  return ids;
}

std::vector<std::int64_t> up_to(std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> ids;
  for (auto i = first; i <= last; ++i) ids.push_back(i);
  return ids;
}

std::int64_t last_event(ApiRig& rig) {
  std::int64_t last = 0;
  for (;;) {
    const auto events = rig.get("/v1/events?after=" + std::to_string(last)).body().at("events").as_array();
    if (events.empty()) return last;
    last = events.back().at("id").as_int64();
  }
}

TEST(Events, Pages) {
  ApiRig rig;
  rig.backend.add_node("n1");
  rig.submit();
  rig.submit();
  const auto all = rig.get("/v1/events").body().at("events").as_array();
  ASSERT_GE(all.size(), 4u);
  EXPECT_EQ(all.front().at("id"), 1);
  EXPECT_EQ(all.front().at("node"), "n1") << "by name";
  EXPECT_EQ(all.front().at("job_id"), nullptr);
  const auto page = rig.get("/v1/events?after=1&limit=2").body().at("events").as_array();
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0], all[1]);
  const auto of_job = rig.get("/v1/jobs/2/events").body().at("events").as_array();
  ASSERT_FALSE(of_job.empty());
  for (const auto& event : of_job) EXPECT_EQ(event.at("job_id"), 2);
  EXPECT_EQ(rig.get("/v1/jobs/3/events").status(), 404);
  EXPECT_EQ(rig.get("/v1/events?after=x").status(), 422);
  EXPECT_EQ(rig.get("/v1/events?limit=0").status(), 422);
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/events").status(), 503);
  rig.backend.break_reads(false);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/events").status(), 503) << "names of nodes are not known";
  EXPECT_EQ(rig.get("/v1/jobs/2/events").status(), 200);
}

TEST(EventStreams, LiveFromNowOn) {
  ApiRig rig;
  rig.submit();
  const auto last = last_event(rig);
  const auto call = rig.get("/v1/events", kStream);
  ASSERT_NE(call.stream, nullptr);
  EXPECT_EQ(call.header("Content-Type"), "text/event-stream");
  EXPECT_EQ(ids_of(*call.stream), up_to(1, 0)) << "no history";
  rig.submit();
  rig.submit();
  EXPECT_EQ(ids_of(*call.stream), up_to(last + 1, last_event(rig)));
  call.stream->leave();
  EXPECT_EQ(rig.backend.subscriptions(), 0u);
  rig.submit();
}

TEST(EventStreams, OneCallerHasABoundedNumber) {
  ApiRig rig;
  rig.submit();
  std::vector<Call> open;
  for (int i = 0; i < 64; ++i)
    open.push_back(rig.get(i % 2 == 0 ? "/v1/events" : "/v1/jobs/1/events", kStream));
  const auto refused = rig.get("/v1/events", kStream);
  EXPECT_EQ(refused.status(), 429);
  EXPECT_EQ(refused.header("Retry-After"), "5");
  EXPECT_EQ(rig.get("/v1/events").status(), 200) << "pages are no streams";
  open.front().stream->leave();
  EXPECT_EQ(rig.get("/v1/events", kStream).status(), 200);
  EXPECT_EQ(rig.get("/v1/events", kStream).status(), 429);
}

TEST(EventStreams, ResumeAfterTheLastEvent) {
  ApiRig rig;
  for (int i = 0; i < 20; ++i) rig.submit();
  auto headers = kStream;
  headers.push_back({"Last-Event-ID", "5"});
  const auto call = rig.get("/v1/events?after=1", headers);
  rig.submit();
  EXPECT_EQ(ids_of(*call.stream), up_to(6, last_event(rig))) << "the header wins";
  EXPECT_EQ(ids_of(*rig.get("/v1/events?after=0", kStream).stream), up_to(1, last_event(rig)));
  EXPECT_EQ(rig.get("/v1/events?after=x", kStream).status(), 422);
}

TEST(EventStreams, WhatHappensWhileRowsAreReadComesOnceAndInOrder) {
  ApiRig rig;
  for (int i = 0; i < 10; ++i) rig.submit();
  rig.backend.hold_reads(true);
  const auto call = rig.get("/v1/events?after=2", kStream);
  rig.submit();  // committed after the subscription and before the query: told and read
  rig.backend.run_queries();
  rig.submit();  // committed while the rows are on their way: only told
  rig.submit();
  rig.backend.run_reads();
  rig.submit();
  rig.backend.hold_reads(false);
  EXPECT_EQ(ids_of(*call.stream), up_to(3, last_event(rig)));
}

TEST(EventStreams, ALongHistoryComesPageByPage) {
  ApiRig rig;
  for (int i = 0; i < 1300; ++i) rig.submit();
  rig.backend.hold_reads(true);
  const auto call = rig.get("/v1/events?after=0", kStream);
  int pages = 0;
  while (ids_of(*call.stream).size() < 1301 && pages < 10) {
    rig.submit();  // always something new
    rig.backend.run_reads();
    ++pages;
  }
  EXPECT_GE(pages, 3);
  rig.backend.hold_reads(false);
  EXPECT_EQ(ids_of(*call.stream), up_to(1, last_event(rig)));
}

TEST(EventStreams, ASlowReaderIsNotSentTheWholeHistoryAtOnce) {
  ApiRig rig;
  for (int i = 0; i < 1300; ++i) rig.submit();
  rig.backend.hold_reads(true);
  const auto call = rig.get("/v1/events?after=0", kStream);
  call.stream->slow = true;
  rig.backend.hold_reads(false);
  rig.backend.run_reads();
  EXPECT_EQ(ids_of(*call.stream).size(), 500u);
  for (int i = 0; i < 5; ++i) call.stream->take_all();
  EXPECT_EQ(ids_of(*call.stream), up_to(1, 1300));
}

TEST(EventStreams, CommitsNobodyWasToldOfAreNoticed) {
  ApiRig rig;
  rig.submit();
  const auto all = rig.get("/v1/events", kStream);
  const auto one = rig.get("/v1/jobs/1/events", kStream);
  rig.submit();
  // The leader lost the connection during COMMIT: it happened, but no event was told. Then it recovered.
  rig.backend.change_untold(
      [](ControlPlane& plane, Now now) { (void)plane.on_hold(now, JobId(1), "untold"); });
  rig.backend.recover();
  rig.submit();
  EXPECT_EQ(ids_of(*all.stream), up_to(2, last_event(rig)));
  const auto& text = one.stream->text;
  EXPECT_NE(text.find("untold"), std::string::npos) << "also when the next event is another job's";
  EXPECT_EQ(text.find("\"job_id\":2"), std::string::npos);
}

TEST(EventStreams, OfOneJobBeginAtItsBeginning) {
  ApiRig rig;
  rig.submit();
  rig.submit();
  const auto call = rig.get("/v1/jobs/2/events", kStream);
  rig.post("/v1/jobs/1:hold");
  rig.post("/v1/jobs/2:hold");
  EXPECT_EQ(ids_of(*call.stream).size(), 2u) << call.stream->text;
  EXPECT_EQ(rig.get("/v1/jobs/9/events", kStream).status(), 404);
  rig.post("/v1/jobs/1:cancel");
  EXPECT_EQ(ids_of(*rig.get("/v1/jobs/1/events", kStream).stream).size(), 3u)
      << "a finished job has a history, too";
}

TEST(EventStreams, EndWhenRowsCannotBeRead) {
  ApiRig rig;
  rig.submit();
  rig.backend.hold_reads(true);
  const auto call = rig.get("/v1/events?after=0", kStream);
  rig.backend.break_reads(true);
  rig.backend.run_reads();
  EXPECT_TRUE(call.stream->closed()) << "the client comes back with its last id";
  EXPECT_EQ(rig.backend.subscriptions(), 0u);
}

TEST(EventStreams, AReaderThatTakesNothingLosesItsStream) {
  ApiRig rig;
  const auto call = rig.get("/v1/events", kStream);
  call.stream->slow = true;
  for (int i = 0; i < 40'000 && !call.stream->closed(); ++i)
    rig.backend.change([](ControlPlane& plane, Now now) {
      if (plane.find_job(JobId(1)) == nullptr) {
        auto spec = std::make_shared<JobSpec>();
        spec->name = spec->run = "x";
        (void)plane.on_submit(now, SubmitRequest{.spec = spec,
                                                 .spec_json = R"({"name":"x","run":"x"})",
                                                 .owner = "a",
                                                 .idempotency_key = "",
                                                 .body_hash = 0});
      } else if (plane.find_job(JobId(1))->row.state == JobState::held) {
        (void)plane.on_release(now, JobId(1));
      } else {
        (void)plane.on_hold(now, JobId(1), std::string(500, 'x'));
      }
    });
  EXPECT_TRUE(call.stream->closed());
  EXPECT_EQ(rig.backend.subscriptions(), 0u);
}

}  // namespace
}  // namespace tutti::testing
