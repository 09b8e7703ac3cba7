// Traces: the header of callers, the spans of a job from its rows, the form of OTLP, and that a collector
// that does not answer is in nobody's way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <map>

#include "scheduler/trace/job_tracer.h"
#include "scheduler/trace/span_exporter.h"
#include "tests/support/test_env.h"

namespace tutti::trace {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736", kParent = "00f067aa0ba902b7";
const std::string kHeader = "00-" + kTrace + "-" + kParent + "-01";

TEST(Traceparent, IsReadAsTheStandardSays) {
  const auto context = parse_traceparent(kHeader);
  ASSERT_TRUE(context);
  EXPECT_EQ(context->trace_id, kTrace);
  EXPECT_EQ(context->span_id, kParent);
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(traceparent_of(*context), kHeader);
  EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + kParent + "-00")->sampled);
  EXPECT_TRUE(parse_traceparent("01-" + kTrace + "-" + kParent + "-03-more")) << "a later version";
  for (const std::string& bad :
       {std::string(), std::string("hello"), "ff-" + kTrace + "-" + kParent + "-01", kHeader + "-more",
        kHeader + "0", "00-" + std::string(32, '0') + "-" + kParent + "-01",
        "00-" + kTrace + "-" + std::string(16, '0') + "-01", "00-" + kTrace + "-" + kParent + "-0g",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + kParent + "-01"})
    EXPECT_FALSE(parse_traceparent(bad)) << bad;
}

struct TracedEnv {
  explicit TracedEnv(double sample = 1) : tracer({.sample = sample, .most_jobs = 2}, dice(), sink()) {}
  std::function<std::uint64_t()> dice() {
    return [this] { return next_random += 0x1234567890abcdefULL; };
  }
  std::function<void(Span)> sink() {
    return [this](Span span) { spans.push_back(std::move(span)); };
  }
  // Takes what was written since the last time, as after its commit.
  void commit() {
    Batch batch = env.rows;
    env.rows = {};
    tracer.committed(batch, 2ms, 3ms, env.now.wall);
  }
  JobId submit(const std::string& header, bool placed_at_once = false) {
    const JobId id = env.try_submit(testing::job_spec(1, 8)).value().id;
    if (placed_at_once) env.plan();
    commit();
    tracer.submitted(header, env.now.wall - 10ms, id);
    return id;
  }
  const Span& named(const std::string& name) {
    const auto found = std::ranges::find(spans, name, &Span::name);
    EXPECT_NE(found, spans.end()) << name;
    static const Span none;
    return found == spans.end() ? none : *found;
  }
  std::uint64_t next_random = 1;
  std::vector<Span> spans;
  testing::TestEnv env;
  JobTracer tracer;
};

TEST(JobTracer, FollowsAJobThatGotItsNodesInTheBatchOfItsSubmission) {
  TracedEnv t;
  const NodeId node = t.env.add_node("n1");
  t.env.tick_alive(5s);
  const JobId job = t.submit(kHeader, true);
  const AttemptKey key = t.env.run(job);
  t.commit();
  t.env.end(node, key, true);
  t.commit();
  EXPECT_EQ(t.named("wait").from, t.named("wait").until);
  EXPECT_EQ(t.named("attempt 1").parent_id, t.named("job").span_id);
  EXPECT_EQ(t.named("worker launch").parent_id, t.named("attempt 1").span_id);
}

TEST(JobTracer, FollowsAJobFromTheRequestToItsEnd) {
  TracedEnv t;
  const NodeId node = t.env.add_node("n1");
  const JobId job = t.submit(kHeader);
  t.env.tick_alive(5s);
  t.env.plan();
  t.commit();
  t.env.tick_alive(1s);
  const AttemptKey key = t.env.run(job);
  t.commit();
  t.env.tick_alive(7s);
  t.env.end(node, key, true);
  t.commit();
  EXPECT_EQ(t.env.plane->find_job(job), nullptr) << "it is over";

  const Span &request = t.named("POST /v1/jobs"), &whole = t.named("job"), &attempt = t.named("attempt 1");
  EXPECT_EQ(request.parent_id, kParent);
  EXPECT_EQ(request.kind, Kind::server);
  EXPECT_EQ(t.named("decide").parent_id, request.span_id);
  EXPECT_EQ(t.named("commit").parent_id, request.span_id);
  EXPECT_EQ(t.named("decide").until, t.named("commit").from);
  EXPECT_EQ(t.named("commit").until - t.named("commit").from, Duration(3ms));
  EXPECT_EQ(whole.parent_id, request.span_id);
  EXPECT_EQ(std::get<std::string>(whole.attributes.back().second), "succeeded");
  EXPECT_EQ(t.named("wait").parent_id, whole.span_id);
  EXPECT_EQ(attempt.parent_id, whole.span_id);
  EXPECT_EQ(t.named("worker prepare").parent_id, attempt.span_id);
  EXPECT_EQ(t.named("worker launch").parent_id, attempt.span_id);
  EXPECT_EQ(t.named("worker prepare").until, t.named("worker launch").from);
  std::set<std::string> ids;
  for (const auto& span : t.spans) {
    EXPECT_EQ(span.trace_id, kTrace);
    EXPECT_TRUE(ids.insert(span.span_id).second) << "an id twice";
    EXPECT_LE(span.from, span.until) << span.name;
    EXPECT_EQ(span.error, "") << span.name;
  }
  EXPECT_EQ(t.tracer.followed(), 0u) << "it is over";
}

TEST(JobTracer, SaysWhichNodeTheGangWaitedFor) {
  TracedEnv t;
  for (const char* name : {"n1", "n2"}) t.env.add_node(name);
  const JobId job = t.env.try_submit(testing::job_spec(2, 8)).value().id;
  t.commit();
  t.tracer.submitted(kHeader, t.env.now.wall, job);
  t.env.plan();
  t.commit();
  const AttemptKey key = t.env.key_of(job);
  const auto nodes = t.env.nodes_of(key);
  const auto later = [&](NodeId node, protocol::Phase phase) {
    t.env.tick_alive(1s);
    t.env.status(node, key, phase);
    t.commit();
  };
  for (const auto phase : {protocol::Phase::preparing, protocol::Phase::ready, protocol::Phase::running})
    for (const NodeId node : nodes) later(node, phase);
  for (const auto& [part, whole] :
       {std::pair("node prepare", "worker prepare"), {"node launch", "worker launch"}}) {
    std::vector<const Span*> found;
    for (const Span& span : t.spans)
      if (span.name == part) found.push_back(&span);
    ASSERT_EQ(found.size(), 2u) << part << ": one of each node, once";
    EXPECT_EQ(std::get<std::string>(found[0]->attributes.back().second), "n1");
    EXPECT_EQ(std::get<std::string>(found[1]->attributes.back().second), "n2");
    for (const Span* span : found) EXPECT_EQ(span->parent_id, t.named(whole).span_id);
    EXPECT_EQ(found[0]->from, found[1]->from);
    EXPECT_EQ(found[1]->until - found[0]->until, Duration(1s)) << "n2 was the later one";
  }
}

TEST(JobTracer, ANodeThatNeverGetsReadyHasNoPart) {
  TracedEnv t;
  const NodeId node = t.env.add_node("n1");
  const JobId job = t.submit(kHeader);
  t.env.plan();
  t.commit();
  const AttemptKey key = t.env.key_of(job);
  t.env.status(node, key, protocol::Phase::preparing);
  t.commit();
  t.env.end(node, key, false);
  t.commit();
  EXPECT_NE(t.named("attempt 1").error, "");
  for (const char* part : {"node prepare", "node launch"})
    EXPECT_EQ(std::ranges::count(t.spans, part, &Span::name), 0) << part;
}

TEST(JobTracer, OtherRequestsBelongToTheirCallersTrace) {
  TracedEnv t;
  const Instant now = t.env.now.wall;
  t.tracer.answered(kHeader, "GET /v1/jobs/{id}", 200, now - 7ms, now);
  t.tracer.answered(kHeader, "POST /v1/jobs", 503, now, now);
  ASSERT_EQ(t.spans.size(), 2u);
  const Span& read = t.spans[0];
  EXPECT_EQ(read.trace_id, kTrace);
  EXPECT_EQ(read.parent_id, kParent);
  EXPECT_EQ(read.kind, Kind::server);
  EXPECT_EQ(read.until - read.from, Duration(7ms));
  EXPECT_EQ(read.error, "");
  EXPECT_EQ(t.spans[1].error, "HTTP 503");
  t.tracer.answered("", "GET /v1/jobs", 200, now, now);
  t.tracer.answered("00-" + kTrace + "-" + kParent + "-00", "GET /v1/jobs", 200, now, now);
  for (const int status : {401, 429}) t.tracer.answered(kHeader, "GET /v1/jobs", status, now, now);
  EXPECT_EQ(t.spans.size(), 2u) << "no caller, one that does not sample, and two that were kept out";
}

TEST(JobTracer, ASubmissionIsOneSpanAndItsReplayAnother) {
  TracedEnv t;
  const auto answered = [&] {
    t.tracer.answered(kHeader, "POST /v1/jobs", 201, t.env.now.wall, t.env.now.wall);
  };
  const auto requests = [&] { return std::ranges::count(t.spans, "POST /v1/jobs", &Span::name); };
  t.submit(kHeader);
  answered();
  EXPECT_EQ(requests(), 1) << "the job has it";
  answered();  // of an old job: submitted() is not told
  EXPECT_EQ(requests(), 2);
}

TEST(JobTracer, AnAttemptThatFailsSaysWhy) {
  TracedEnv t;
  const NodeId node = t.env.add_node("n1");
  const JobId job = t.submit(kHeader);
  t.env.plan();
  const AttemptKey key = t.env.run(job);
  t.commit();
  t.env.fail(node, key, 0, 1);
  t.env.end(node, key, false);
  t.commit();
  EXPECT_NE(t.named("attempt 1").error.find("user"), std::string::npos) << t.named("attempt 1").error;
}

TEST(JobTracer, TheCallerDecidesElseTheShare) {
  TracedEnv never(0);
  never.submit("00-" + kTrace + "-" + kParent + "-00");
  never.submit("");
  EXPECT_TRUE(never.spans.empty());
  never.submit(kHeader);
  EXPECT_FALSE(never.spans.empty()) << "its caller wants it";
  TracedEnv always(1);
  always.submit("00-" + kTrace + "-" + kParent + "-00");
  EXPECT_TRUE(always.spans.empty()) << "its caller does not want it";
  always.submit("rubbish");
  EXPECT_EQ(always.named("POST /v1/jobs").parent_id, "");
  EXPECT_EQ(always.named("POST /v1/jobs").trace_id.size(), 32u);
}

TEST(JobTracer, FollowsNotTooMany) {
  TracedEnv t;
  for (int i = 0; i < 5; ++i) t.submit(kHeader);
  EXPECT_EQ(t.tracer.followed(), 2u);
  EXPECT_EQ(std::ranges::count(t.spans, "POST /v1/jobs", &Span::name), 5);
}

TEST(JobTracer, TheOldestMakesRoomForTheNewest) {
  TracedEnv t;  // no node: they all wait
  const JobId oldest = t.submit(kHeader), second = t.submit(kHeader), newest = t.submit(kHeader);
  for (const JobId job : {oldest, second, newest}) {
    ASSERT_TRUE(t.env.plane->on_cancel(t.env.now, job, "ann"));
    t.env.step();
    t.commit();
    EXPECT_EQ(std::ranges::count(t.spans, "job", &Span::name), job == oldest ? 0 : job == second ? 1 : 2);
  }
  EXPECT_EQ(t.tracer.followed(), 0u);
}

Span some_span(std::string name = "x") {
  Span s;
  s.trace_id = kTrace;
  s.span_id = kParent;
  s.name = std::move(name);
  s.from = Instant(std::chrono::seconds(1'700'000'000));
  s.until = s.from + 5ms;
  return s;
}

TEST(Otlp, IsOfTheFormThatCollectorsRead) {
  Span child = some_span("child \xff");
  child.parent_id = "1111111111111111";
  child.attributes = {{"tutti.job", std::int64_t{7}}, {"word", std::string("a\"b")}};
  child.error = "gpu: it fell off";
  const auto body = json::parse(otlp_json({some_span(), child}, "tutti-scheduler", "1.2.3"));
  const auto& resource = body.at("resourceSpans").at(0);
  EXPECT_EQ(resource.at("resource").at("attributes").at(0).at("key"), "service.name");
  EXPECT_EQ(resource.at("resource").at("attributes").at(0).at("value").at("stringValue"), "tutti-scheduler");
  const auto& scope = resource.at("scopeSpans").at(0);
  EXPECT_EQ(scope.at("scope").at("version"), "1.2.3");
  const auto& spans = scope.at("spans").as_array();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].at("traceId"), kTrace.c_str());
  EXPECT_EQ(spans[0].at("spanId").as_string().size(), 16u);
  EXPECT_FALSE(spans[0].as_object().contains("parentSpanId"));
  EXPECT_FALSE(spans[0].as_object().contains("status"));
  EXPECT_EQ(spans[0].at("startTimeUnixNano"), "1700000000000000000");
  EXPECT_EQ(spans[0].at("endTimeUnixNano"), "1700000000005000000");
  EXPECT_EQ(spans[1].at("parentSpanId"), "1111111111111111");
  EXPECT_EQ(spans[1].at("attributes").at(0).at("value").at("intValue"), "7") << "64 bits are text";
  EXPECT_EQ(spans[1].at("attributes").at(1).at("value").at("stringValue"), "a\"b");
  EXPECT_EQ(spans[1].at("status").at("code"), 2);
}

struct Collector {
  std::vector<std::string> bodies;
  bool broken = false;
  std::function<void()> held;  // the answer to a batch, when it is to come later
  bool hold = false;
  SpanExporter exporter{[this](std::function<void()> work, std::function<void(std::exception_ptr)> done) {
                          std::exception_ptr failure;
                          try {
                            work();
                          } catch (...) {
                            failure = std::current_exception();
                          }
                          if (hold)
                            held = [done, failure] { done(failure); };
                          else
                            done(failure);
                        },
                        [this](const std::string& body) {
                          if (broken) throw std::runtime_error("it is away");
                          bodies.push_back(body);
                        },
                        {.service = "test", .version = "1", .most_waiting = 10, .batch = 4}};
};

TEST(SpanExporter, SendsInBatchesOneAfterTheOther) {
  Collector c;
  for (int i = 0; i < 9; ++i) c.exporter.add(some_span());
  c.hold = true;
  c.exporter.step();
  c.exporter.step();
  EXPECT_EQ(c.bodies.size(), 1u) << "one is under way";
  c.hold = false;
  std::exchange(c.held, nullptr)();
  EXPECT_EQ(c.bodies.size(), 3u) << "4, 4 and 1";
  EXPECT_EQ(c.exporter.counts().sent, 9u);
}

TEST(SpanExporter, DropsWhatDoesNotFitAndWhatIsNotTaken) {
  Collector c;
  c.broken = true;
  for (int i = 0; i < 12; ++i) c.exporter.add(some_span());
  EXPECT_EQ(c.exporter.waiting(), 10u);
  EXPECT_EQ(c.exporter.counts().dropped, 2u);
  c.exporter.step();
  EXPECT_EQ(c.exporter.counts().dropped, 6u);
  EXPECT_EQ(c.exporter.counts().failed_batches, 1u);
  c.broken = false;
  c.exporter.step();
  EXPECT_EQ(c.exporter.counts().sent, 6u);
  EXPECT_EQ(c.exporter.waiting(), 0u);
}

TEST(HttpSender, KnowsWhatAnEndpointIs) {
  EXPECT_THROW(http_sender("collector:4318", 1s), std::runtime_error);
  EXPECT_THROW(http_sender("ftp://collector", 1s), std::runtime_error);
  EXPECT_THROW(http_sender("http://127.0.0.1:1", 1s)("{}"), std::runtime_error) << "nobody is there";
  EXPECT_NO_THROW(http_sender("http://127.0.0.1:1/v1/a@b", 1s)) << "that is no user";
}

TEST(HttpSender, TakesNoPasswordAndDoesNotRepeatIt) {
  for (const char* url : {"http://ann:s3cr@h:4318", "https://s3cr@h/v1/traces", "ann:s3cr@h:4318"}) {
    EXPECT_THAT([&] { http_sender(url, 1s); },
                ::testing::ThrowsMessage<std::runtime_error>(::testing::AllOf(
                    ::testing::HasSubstr("--otlp-endpoint"), ::testing::Not(::testing::HasSubstr("s3cr")))))
        << url;
  }
}

}  // namespace
}  // namespace tutti::trace
