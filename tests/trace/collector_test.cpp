// The exporter against a collector over HTTP.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <mutex>

#include "scheduler/trace/span_exporter.h"
#include "tests/http/test_server.h"

namespace tutti::trace {
namespace {

using namespace std::chrono_literals;

TEST(HttpSender, PostsJsonAndHearsTheAnswer) {
  std::mutex mutex;
  std::vector<std::pair<std::string, std::string>> got;  // content type, body
  http::Router router;
  router.post("/v1/traces", [&](const http::Request& request) {
    const std::scoped_lock lock(mutex);
    got.emplace_back(request.header("Content-Type").value_or(""), request.body);
    return http::text(got.size() == 1 ? 200 : 503, "{}", "application/json");
  });
  const http::test::TestServer server(std::move(router), {}, {});
  const auto send = http_sender("http://127.0.0.1:" + std::to_string(server.port()) + "/", 10s);
  Span span;
  span.trace_id = std::string(32, 'a');
  span.span_id = std::string(16, 'b');
  span.name = "x";
  send(otlp_json({span}, "test", "1"));
  EXPECT_THROW(send("{}"), std::runtime_error) << "503";
  const std::scoped_lock lock(mutex);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].first, "application/json");
  EXPECT_EQ(boost::json::parse(got[0].second)
                .at("resourceSpans")
                .at(0)
                .at("scopeSpans")
                .at(0)
                .at("spans")
                .at(0)
                .at("name"),
            "x");
}

}  // namespace
}  // namespace tutti::trace
