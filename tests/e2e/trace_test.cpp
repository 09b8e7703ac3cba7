// From a caller's traceparent to the nodes of the gang: a real scheduler and real workers, a collector in
// this process.
#include <map>
#include <mutex>
#include <set>

#include "tests/e2e/e2e_test.h"
#include "tests/http/test_server.h"

namespace tutti::e2e {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736", kCaller = "00f067aa0ba902b7";

struct ReceivedSpan {
  std::string trace, id, parent, name, node;
  bool operator==(const ReceivedSpan&) const = default;
};

// Takes OTLP as collectors do.
class Collector {
 public:
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_.port()); }
  std::vector<ReceivedSpan> spans() {
    const std::scoped_lock lock(mutex_);
    return spans_;
  }
  std::vector<ReceivedSpan> named(const std::string& name) {
    std::vector<ReceivedSpan> out;
    for (const auto& span : spans())
      if (span.name == name) out.push_back(span);
    return out;
  }
  ReceivedSpan one(const std::string& name) {
    const auto found = named(name);
    if (found.size() != 1) throw Failure(std::to_string(found.size()) + " spans are named " + name);
    return found.front();
  }

 private:
  http::Router routes() {
    http::Router router;
    router.post("/v1/traces", [this](const http::Request& request) {
      const std::scoped_lock lock(mutex_);
      const auto body = json::parse(request.body);
      for (const auto& resource : body.at("resourceSpans").as_array())
        for (const auto& scope : resource.at("scopeSpans").as_array())
          for (const auto& span : scope.at("spans").as_array()) take(span.as_object());
      return http::text(200, "{}", "application/json");
    });
    return router;
  }
  void take(const json::object& span) {
    ReceivedSpan out{text_of(span, "traceId"), text_of(span, "spanId"), text_of(span, "parentSpanId"),
                     text_of(span, "name"), ""};
    for (const auto& attribute : span.at("attributes").as_array())
      if (attribute.at("key") == "tutti.node")
        out.node = json::value_to<std::string>(attribute.at("value").at("stringValue"));
    spans_.push_back(std::move(out));
  }

  std::mutex mutex_;
  std::vector<ReceivedSpan> spans_;
  http::test::TestServer server_{routes()};
};

TEST_F(E2e, ACallersTraceGoesDownToTheNodesOfItsJob) {
  Collector collector;
  ClusterOptions options;
  options.scheduler_env = {{"TUTTI_SCHEDULER_OTLP_ENDPOINT", collector.url()},
                           {"TUTTI_SCHEDULER_TRACE_SAMPLE", "0"}};
  Cluster& c = start(options);
  Rest caller = c.rest();
  caller.traceparent = "00-" + kTrace + "-" + kCaller + "-01";
  const auto spec = c.spec("traced", c.rank("--steps 10"), 2, 1);
  const auto id = number_of(caller.post("/v1/jobs", spec).as_object(), "id");
  caller.get("/v1/jobs/" + std::to_string(id));
  const auto untraced = c.submit(c.spec("untraced", c.rank("--steps 1")));
  for (const auto job : {id, untraced}) c.await_state(job, "succeeded");

  for (const auto& [name, count] : {std::pair{"job", 1},
                                    {"attempt 1", 1},
                                    {"worker prepare", 1},
                                    {"worker launch", 1},
                                    {"node prepare", 2},
                                    {"node launch", 2},
                                    {"POST /v1/jobs", 1},
                                    {"decide", 1},
                                    {"commit", 1},
                                    {"GET /v1/jobs/{id}", 1}})
    await_true(std::string("the spans: ") + name, kPatience,
               [&] { return std::ssize(collector.named(name)) >= count; });
  std::set<std::string> ids;
  for (const auto& span : collector.spans()) {
    EXPECT_EQ(span.trace, kTrace) << span.name << ": nothing else is sampled";
    EXPECT_TRUE(ids.insert(span.id).second) << span.name;
  }
  const ReceivedSpan request = collector.one("POST /v1/jobs"), job = collector.one("job"),
                     attempt = collector.one("attempt 1");
  EXPECT_EQ(request.parent, kCaller);
  EXPECT_EQ(collector.one("GET /v1/jobs/{id}").parent, kCaller);
  EXPECT_EQ(collector.one("decide").parent, request.id);
  EXPECT_EQ(collector.one("commit").parent, request.id);
  EXPECT_EQ(job.parent, request.id);
  EXPECT_EQ(attempt.parent, job.id);
  const auto gang = c.gang(id);
  for (const std::string stage : {"prepare", "launch"}) {
    const ReceivedSpan whole = collector.one("worker " + stage);
    EXPECT_EQ(whole.parent, attempt.id);
    std::set<std::string> nodes;
    for (const auto& part : collector.named("node " + stage)) {
      EXPECT_EQ(part.parent, whole.id);
      EXPECT_TRUE(nodes.insert(part.node).second) << part.node << " twice";
    }
    EXPECT_EQ(nodes, std::set<std::string>(gang.begin(), gang.end())) << stage;
  }
  finish();
}

}  // namespace
}  // namespace tutti::e2e
