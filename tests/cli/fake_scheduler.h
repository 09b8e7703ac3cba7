// A scheduler for one test: real HTTP, scripted answers, and a record of what was asked.
#pragma once

#include <algorithm>
#include <atomic>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <mutex>
#include <string>
#include <vector>

#include "api/http/sse.h"
#include "tests/cli/tutti_process.h"
#include "tests/http/test_server.h"

namespace tutti::cli::test {

namespace json = boost::json;
using namespace std::chrono_literals;
using http::Request;
using http::Responder;
using http::Response;
using http::Router;

struct Asked {
  std::string method, target, body, key, content_type, authorization, last_event_id;
  std::chrono::steady_clock::time_point at;
};

class FakeScheduler {
 public:
  // The test fills `routes`, then calls start().
  Router routes;

  void start(http::ServerConfig config = {}) {
    http::Hooks hooks;
    hooks.before = [this](Request& request) -> std::optional<Response> {
      const auto header = [&](const char* name) { return std::string(request.header(name).value_or("")); };
      const std::scoped_lock lock(mutex_);
      asked_.push_back({std::string(http::to_string(request.method)), request.target, request.body,
                        header("Idempotency-Key"), header("Content-Type"), header("Authorization"),
                        header("Last-Event-ID"), std::chrono::steady_clock::now()});
      return std::nullopt;
    };
    server_ = std::make_unique<http::test::TestServer>(std::move(routes), config, hooks);
  }

  int port() const { return server_->port(); }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port()); }
  std::vector<Asked> asked() const {
    const std::scoped_lock lock(mutex_);
    return asked_;
  }
  std::vector<Asked> asked(const std::string& method, const std::string& target) const {
    auto all = asked();
    std::erase_if(all, [&](const Asked& a) { return a.method != method || a.target != target; });
    return all;
  }

  TuttiProcess::Environment environment() const {
    return {{"TUTTI_SERVER", url()}, {"TUTTI_TOKEN", "secret"}};
  }
  Finished run(std::vector<std::string> arguments, std::string input = {}) const {
    return run_tutti(std::move(arguments), std::move(input), environment());
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Asked> asked_;
  std::unique_ptr<http::test::TestServer> server_;
};

// The job `id` as the API shows it, with some fields changed.
inline json::object job(int id, const char* state, json::object changes = {}) {
  json::object all = {{"id", id},
                      {"name", "hello"},
                      {"project", "nlp"},
                      {"queue", "h100"},
                      {"owner", "ann"},
                      {"priority", 50},
                      {"state", state},
                      {"cause", nullptr},
                      {"reason", ""},
                      {"nodes", 1},
                      {"gpus_per_node", 2},
                      {"created_at", "2026-11-25T01:02:03.000001Z"},
                      {"not_before", nullptr},
                      {"ended_at", nullptr},
                      {"exit_code", nullptr},
                      {"attempt", 0}};
  for (const auto& member : changes) all[member.key()] = member.value();
  return all;
}

}  // namespace tutti::cli::test
