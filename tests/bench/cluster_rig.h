// The real hub, writer and API over real sockets, with a store in memory: all on the thread of the test,
// which runs the loop in until().
#pragma once

#include <gtest/gtest.h>
#include <sodium.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/access/identity.h"
#include "api/handlers/routes.h"
#include "api/handlers/services.h"
#include "api/http/server.h"
#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"
#include "scheduler/service/worker_hub.h"

namespace tutti::bench {

struct ClusterRig : ::testing::Test {
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  boost::asio::io_context io{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{io.get_executor()};
  LeaseTable leases{LeaseSettings{}};
  Metrics metrics;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::unique_ptr<WorkerHub> hub;
  http::Router router;
  std::unique_ptr<http::HttpServer> server;
  std::function<void(const Batch&)> on_commit;  // may be empty

  void SetUp() override {
    ASSERT_GE(sodium_init(), 0);
    store = std::make_unique<StoreThread>(io.get_executor(), std::make_unique<db::MemoryStore>(database),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
    leader->observe([this](const Batch& batch, Duration, Duration) {
      if (on_commit) on_commit(batch);
    });
    hub = std::make_unique<WorkerHub>(io.get_executor(), *leader, leases, metrics, std::string(32, 'k'));
    leader->start(*hub, [](const std::string&) {});
    until([&] { return leader->plane() != nullptr; });
    add_routes(router, *leader, {});
    router.websocket(
        std::string(kWorkerRoute),
        [this](const http::Request&, std::shared_ptr<http::Link> link) { hub->accept(std::move(link)); });
    http::ServerConfig config;
    config.serial_executor = true;
    server = std::make_unique<http::HttpServer>(io.get_executor(), config, router, everybody_is_admin());
    server->start();
  }

  void TearDown() override {
    bool closed = false, stopped = false;
    server->stop([&] { closed = true; });
    hub->close_all();
    leader->stop([&] { stopped = true; });
    until([&] { return closed && stopped; });
    server.reset();
    store.reset();
  }

  // "ann", or who the header X-User names.
  static http::Hooks everybody_is_admin() {
    http::Hooks hooks;
    hooks.before = [](http::Request& request) -> std::optional<http::Response> {
      Identity who;
      who.kind = Identity::Kind::user;
      who.owner = who.name = request.header("X-User").value_or("ann");
      who.roles = {{std::string(kEverywhere), Role::admin}};
      who.scopes = kAllScopes;
      request.identity = who;
      return std::nullopt;
    };
    return hooks;
  }

  template <class F>
  void until(F condition, std::chrono::seconds patience = std::chrono::seconds(60)) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
};

}  // namespace tutti::bench
