// Bytes of a connection through the request parser, the hooks, the router and the real handlers over a
// control plane and a store in memory: the whole server but for its sockets. Every request gets one answer,
// of ours is no 5xx but "not now", and what claims to be JSON is.
#include <gtest/gtest.h>

#include <boost/beast/http/error.hpp>
#include <boost/json/parse.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "api/handlers/limits.h"
#include "api/http/request_parser.h"
#include "api/http/response_head.h"
#include "api/wire/utf8.h"
#include "tests/api/api_rig.h"

namespace {

using namespace tutti;
using namespace std::chrono_literals;

constexpr int kInputsPerWorld = 200;
constexpr int kMostRequests = 8;

[[noreturn]] void complain(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

struct World {
  Mono now{1h};
  LimitSettings settings = [] {
    LimitSettings s;
    s.submissions_per_minute = 20;
    return s;
  }();
  Limits limits{settings, [this] { return now; }};
  tutti::testing::ApiRig rig{[this](tutti::testing::TestBackend&) { return Services{.limits = &limits}; }};
  Limits::Before arrive = limits.arrive();
  Limits::Before before = limits.around(rig.before);
  int inputs = 0;

  World() {
    rig.backend.add_node("n1");
    rig.backend.run_job(rig.submit(R"({"name":"runs","run":"x","resources":{"gpus":1}})"));
    rig.submit(R"({"name":"waits","run":"x","resources":{"gpus":64}})");
    rig.backend.logs[0] = {"line\nline\n", true};
  }
};

class CheckingSink final : public http::ResponseSink {
 public:
  ~CheckingSink() override {
    if (stream_) stream_->leave();
  }
  void respond(http::Response response) override {
    if (std::exchange(answered_, true)) complain("answered twice");
    check(response);
  }
  std::shared_ptr<http::Stream> stream(int status, http::Headers headers,
                                       http::StreamOptions options) override {
    if (std::exchange(answered_, true)) complain("answered twice");
    check({.status = status, .headers = std::move(headers), .body = {}});
    stream_ = std::make_shared<tutti::testing::TestStream>(std::move(options));
    return stream_;
  }

  static void check(const http::Response& response) {
    std::string head;
    http::write_head(head, response.status, response.headers, {});
    // Health may say that it is not well; nothing else of ours is at fault.
    if (response.status < 200 || response.status == 500 || response.status > 503)
      complain("status " + std::to_string(response.status) + ": " + response.body);
    const auto* type = http::find_header(response.headers, "Content-Type");
    if (type == nullptr || !type->ends_with("json") || response.body.empty()) return;
    boost::json::error_code error;
    boost::json::parse(response.body, error);
    if (error || !wire::is_utf8(response.body)) complain("no JSON: " + response.body);
  }

 private:
  bool answered_ = false;
  std::shared_ptr<tutti::testing::TestStream> stream_;
};

void answer(World& world, http::Request request) {
  request.peer = "10.0.0.1:1000";
  if (!request.header("Authorization")) request.headers.push_back({"Authorization", "Bearer secret"});
  if (auto refused = world.arrive(request)) return CheckingSink::check(*refused);
  if (world.rig.router.match(request) == nullptr)
    return CheckingSink::check(world.rig.router.refusal(request));
  if (auto refused = world.before(request)) return CheckingSink::check(*refused);
  world.rig.router.dispatch(std::move(request), http::Responder(std::make_shared<CheckingSink>()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool strict = [] {
    GTEST_FLAG_SET(throw_on_failure, true);  // what the rig finds wrong is a crash here
    return true;
  }();
  static std::unique_ptr<World> world;
  if (!strict || !world || ++world->inputs > kInputsPerWorld) world = std::make_unique<World>();
  world->now += 10ms;
  const http::ServerConfig config;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  for (int i = 0; i < kMostRequests && !input.empty(); ++i) {
    http::RequestParser parser(config);
    boost::system::error_code error;
    while (!input.empty() && !parser.is_done() && !error) {
      const auto used = parser.feed(input, error);
      input.remove_prefix(used);
      if (used == 0 && !error) break;
    }
    if (error && error != boost::beast::http::error::need_more) {
      const int status = parser.refusal_status(error);
      if (status < 400 || status > 431) complain("refused with " + std::to_string(status));
      return 0;
    }
    if (!parser.is_done()) return 0;
    answer(*world, std::move(parser.request));
  }
  return 0;
}
