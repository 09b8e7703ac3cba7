// A leader over a store in memory whose commits a test holds back and breaks. Shared by the leader*_test.cpp.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"
#include "scheduler/service/leader.h"

namespace tutti {

// Holds every commit until the test lets it go; its faults are the memory store's.
class GatedStore : public Store {
 public:
  explicit GatedStore(std::shared_ptr<db::MemoryDatabase> database) : inner(std::move(database)) {}
  void introduce(LeaderCard card) override { inner.introduce(std::move(card)); }
  Term acquire_leadership(const std::string& holder) override { return inner.acquire_leadership(holder); }
  Duration predecessors_renew() override { return inner.predecessors_renew(); }
  std::vector<std::string> predecessor_urls() override { return inner.predecessor_urls(); }
  void resign() noexcept override { inner.resign(); }
  void prove_leadership() override { commit({}); }
  Snapshot load() override {
    std::unique_lock lock(mutex);
    ++loads;
    if (!reachable) throw StoreError(StoreError::unavailable, reason);
    if (no_memory) throw std::bad_alloc();
    return inner.load();
  }
  void commit(const Batch& batch) override {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [&] { return open; });
    --waiting;
    sizes.push_back(batch.new_specs.size());
    for (const auto& spec : batch.new_specs)
      if (spec.spec_json.find("poison") != std::string::npos)
        throw StoreError(StoreError::corrupt, "a rule is broken");
    for (const auto& attempt : batch.attempts)
      if (attempt.job == never_starts && attempt.state == AttemptState::placed)
        throw StoreError(StoreError::conflict, "a GPU has two owners");
    inner.commit(batch);
    if (std::exchange(breaks, false)) throw std::bad_alloc();
  }
  bool healthy() noexcept override { return true; }

  void set_open(bool value) {
    std::unique_lock lock(mutex);
    open = value;
    changed.notify_all();
  }
  void wait_for_commit() {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return waiting > 0; }));
  }

  db::MemoryStore inner;
  std::mutex mutex;
  std::condition_variable changed;
  bool open = true;
  bool reachable = true;
  std::string reason = "down";
  bool breaks = false;     // the next commit, after it was applied
  bool no_memory = false;  // for the rows
  JobId never_starts;
  int waiting = 0;
  int loads = 0;
  std::vector<std::size_t> sizes;  // submissions per commit
};

struct NoWorkers : WorkerMessages {
  std::vector<Effect> delivered;
  int resyncs = 0;
  void deliver(Effect e) override { delivered.push_back(std::move(e)); }
  void resync(const std::vector<NodeRow>&) override { ++resyncs; }
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}
};

struct LeaderTest : ::testing::Test {
  using Fault = db::MemoryStore::Fault;

  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  GatedStore* gate = nullptr;
  boost::asio::io_context io{1};
  LeaseTable leases{LeaseSettings{.suspicion = std::chrono::milliseconds(500)}};
  Metrics metrics;
  NoWorkers workers;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::string deposed;

  void SetUp() override {
    auto gated = std::make_unique<GatedStore>(database);
    gate = gated.get();
    store = std::make_unique<StoreThread>(io.get_executor(), std::move(gated),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    settings.max_inbox = 50;
    settings.max_batch_jobs = 25;
    settings.slow_commit = std::chrono::milliseconds(20);
    settings.say_why_away = Duration::zero();
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
    leader->start(workers, [this](const std::string& why) { deposed = why; });
    until([&] { return leader->plane() != nullptr; });
  }
  void TearDown() override {
    gate->set_open(true);
    bool stopped = false;
    leader->stop([&] { stopped = true; });
    until([&] { return stopped; });
    store.reset();
  }
  // Runs the control thread until `condition`; fails after ten seconds.
  template <class F>
  void until(F condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
  void turn() {  // everything that can happen without the store
    io.poll();
  }
  SubmitRequest request(const std::string& key = "") {
    auto spec = std::make_shared<JobSpec>();
    spec->name = "j";
    spec->run = "true";
    return {.spec = spec,
            .spec_json = R"({"name":"j","run":"true"})",
            .owner = "ada",
            .idempotency_key = key,
            .body_hash = 7};
  }
  struct Answers {
    std::vector<Result<Submitted>> all;
  };
  std::optional<NodeId> register_node() {
    protocol::Hello hello;
    hello.node = "n1";
    hello.boot_id = hello.instance = "1";
    hello.cpus = 64;
    hello.memory_bytes = std::int64_t{1} << 40;
    std::optional<NodeId> node;
    leader->change_nodes([&](ControlPlane& p, Now now) -> Result<NodeId> { return p.on_hello(now, hello); },
                         [&](Result<NodeId> r) { node = r ? *r : NodeId(); });
    until([&] { return node.has_value(); });
    return node;
  }
  void submit(Answers& to, const std::string& key = "") {
    leader->submit({request(key)}, [&to](std::vector<Result<Submitted>> r) { to.all.push_back(r.at(0)); });
  }
};

}  // namespace tutti
