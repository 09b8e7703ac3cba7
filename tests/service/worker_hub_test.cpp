// Connections of workers: what is said over them reaches the control plane, in order, also in awkward
// moments.
#include "scheduler/service/worker_hub.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <future>

#include "api/wire/messages.h"
#include "db/memory/memory_reader.h"
#include "db/memory/memory_secrets.h"
#include "db/memory/memory_store.h"
#include "scheduler/secrets/secret_vault.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/side_thread.h"

namespace tutti {
namespace {

using protocol::Phase;

class ScriptedLink : public http::Link {
 public:
  void start(std::function<void(std::string)> on_message, std::function<void(std::string)>) override {
    on_message_ = std::move(on_message);
  }
  bool send(std::string message) override {
    sent_.push_back(wire::decode_to_worker(message).value());
    return true;
  }
  void abort() override { aborted_ = true; }
  const std::string& peer() const override { return peer_; }

  void say(const protocol::FromWorker& message) { say_text(wire::encode(message)); }
  void say_text(const std::string& text) { on_message_(text); }
  template <class T>
  const T* heard() const {  // the newest
    for (auto it = sent_.rbegin(); it != sent_.rend(); ++it)
      if (const T* found = std::get_if<T>(&*it)) return found;
    return nullptr;
  }
  bool aborted() const { return aborted_; }

 private:
  std::function<void(std::string)> on_message_;
  std::vector<protocol::ToWorker> sent_;
  std::string peer_ = "test";
  bool aborted_ = false;
};

struct WorkerHubTest : ::testing::Test {
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  boost::asio::io_context io{1};
  // What the store thread will still say is work, too.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{io.get_executor()};
  LeaseTable leases{LeaseSettings{}};
  Metrics metrics;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::unique_ptr<WorkerHub> hub;

  void SetUp() override {
    ASSERT_GE(sodium_init(), 0);
    store = std::make_unique<StoreThread>(io.get_executor(), std::make_unique<db::MemoryStore>(database),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
    hub = std::make_unique<WorkerHub>(io.get_executor(), *leader, leases, metrics, std::string(32, 'k'));
    leader->start(*hub, [](const std::string&) {});
    until([&] { return leader->plane() != nullptr; });
  }
  void TearDown() override {
    hub->close_all();
    bool stopped = false;
    leader->stop([&] { stopped = true; });
    until([&] { return stopped; });
    store.reset();
  }
  template <class F>
  void until(F condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
  std::shared_ptr<ScriptedLink> connect(const std::string& only = "") {
    auto link = std::make_shared<ScriptedLink>();
    hub->accept(link, only);
    return link;
  }
  static protocol::Hello hello() {
    protocol::Hello h;
    h.worker_version = "test";
    h.node = "n1";
    h.address = "127.0.0.1";
    h.boot_id = "boot";
    h.cpus = 8;
    h.memory_bytes = 1LL << 36;
    h.kill_mode = "cgroup2";
    return h;
  }
  static protocol::AttemptStatus status(AttemptKey key, Phase phase) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = phase;
    if (phase == Phase::ended) s.end = protocol::End{true, true, "cgroup", 1};
    return s;
  }
  void submit_without_waiting() {
    auto spec = std::make_shared<JobSpec>();
    spec->name = "j";
    spec->run = "true";
    leader->submit({{.spec = spec,
                     .spec_json = R"({"name":"j","run":"true"})",
                     .owner = "ada",
                     .idempotency_key = {},
                     .body_hash = 7}},
                   [](const std::vector<Result<Submitted>>&) {});
  }
  JobId submit(std::vector<std::string> secrets = {}) {
    auto spec = std::make_shared<JobSpec>();
    spec->name = "j";
    spec->run = "true";
    spec->secrets = std::move(secrets);
    JobId id;
    leader->submit({{.spec = spec,
                     .spec_json = R"({"name":"j","run":"true"})",
                     .owner = "ada",
                     .idempotency_key = {},
                     .body_hash = 7}},
                   [&id](const std::vector<Result<Submitted>>& r) { id = r.at(0).value().id; });
    until([&] { return static_cast<bool>(id); });
    return id;
  }
};

struct WorkerHubSecrets : WorkerHubTest {
  std::shared_ptr<db::MemorySecrets> rows = std::make_shared<db::MemorySecrets>();
  SideThread side{io.get_executor()};
  SecretVault vault{rows, side.aside(), "master"};

  void SetUp() override {
    WorkerHubTest::SetUp();
    hub->use_secrets(vault);
  }
  void set(const std::string& name, const std::string& value) {
    bool done = false;
    vault.put("default", name, value, "ada", Instant{},
              [&done](const Result<SecretRow>& r) { done = r.has_value(); });
    until([&] { return done; });
  }
};

TEST_F(WorkerHubSecrets, ValuesTravelWithThePrepareAndNowhereElse) {
  set("HF_TOKEN", "hf_0123456789");
  set("OTHER", "not for this job");
  const auto link = connect();
  link->say(hello());
  until([&] { return link->heard<protocol::Welcome>() != nullptr; });
  submit({"HF_TOKEN"});
  until([&] { return link->heard<protocol::Prepare>() != nullptr; });
  const auto* prepare = link->heard<protocol::Prepare>();
  EXPECT_EQ(prepare->secrets, (std::map<std::string, std::string>{{"HF_TOKEN", "hf_0123456789"}}));
  EXPECT_EQ(prepare->spec_json.find("hf_"), std::string::npos);
}

TEST_F(WorkerHubSecrets, WithoutASecretThereIsNoLaunchAndTheUserIsNotCharged) {
  const auto link = connect();
  link->say(hello());
  until([&] { return link->heard<protocol::Welcome>() != nullptr; });
  const JobId job = submit({"GONE"});
  until([&] { return link->heard<protocol::Stop>() != nullptr; });
  EXPECT_EQ(link->heard<protocol::Prepare>(), nullptr);
  auto never = status(link->heard<protocol::Stop>()->key, Phase::ended);
  never.end = protocol::End{.ok = false, .proven = true, .how = "never started", .boot_us = 1};
  link->say(never);
  until([&] { return leader->plane()->find_job(job)->row.state == JobState::delayed; });
  const Job& after = *leader->plane()->find_job(job);
  EXPECT_EQ(after.row.cause, Cause::launch);
  EXPECT_TRUE(after.trouble().avoid.empty()) << "it is no node's fault";
  bool said = false;
  db::MemoryReader reader(database);
  for (const auto& e : reader.attempt_events({job, Epoch(1)}, 100))
    said =
        said || e.detail.find("secret GONE of project default does not exist any more") != std::string::npos;
  EXPECT_TRUE(said);
}

// Found by killing schedulers: the end of a job fell between the worker's Hello and its commit, was taken for
// the word of nobody, and the job ran for ever.
TEST_F(WorkerHubTest, WhatAWorkerSaysRightBehindItsHelloIsNotLost) {
  const auto first = connect();
  first->say(hello());
  until([&] { return first->heard<protocol::Welcome>() != nullptr; });
  const JobId job = submit();
  until([&] { return first->heard<protocol::Prepare>() != nullptr; });
  const AttemptKey key = first->heard<protocol::Prepare>()->key;
  first->say(status(key, Phase::ready));
  until([&] { return first->heard<protocol::Launch>() != nullptr; });

  const auto second = connect();
  auto again = hello();
  again.attempts = {status(key, Phase::running)};
  second->say(again);
  second->say(status(key, Phase::ended));  // before the Hello can have been committed
  until([&] { return second->heard<protocol::Forget>() != nullptr; });
  EXPECT_EQ(second->heard<protocol::Forget>()->key, key);
  EXPECT_EQ(leader->plane()->find_job(job), nullptr) << "it has ended";
  EXPECT_TRUE(first->aborted()) << "a newer connection has replaced it";
}

// Found by the simulation: a commit that hung for longer than a lease killed the gangs of every worker that
// had to connect anew meanwhile, and after a recovery that is all of them.
TEST_F(WorkerHubTest, WorkerWithALeaseNeedNotWaitForASlowCommit) {
  const auto first = connect();
  first->say(hello());
  until([&] { return first->heard<protocol::Welcome>() != nullptr; });

  std::promise<void> let_go;
  store->write([gate = let_go.get_future().share()](Store&) { gate.wait(); }, [](std::exception_ptr) {});
  const auto second = connect();
  auto again = hello();
  const AttemptKey key{JobId(7), Epoch(1)};  // long over, as the Welcome after the commit will say
  again.attempts = {status(key, Phase::running)};
  second->say(again);
  second->say(protocol::Heartbeat{5});
  until([&] { return second->heard<protocol::HeartbeatAck>() != nullptr; });
  EXPECT_EQ(second->heard<protocol::HeartbeatAck>()->seq, 5);
  ASSERT_NE(second->heard<protocol::Welcome>(), nullptr);
  EXPECT_EQ(second->heard<protocol::Welcome>()->keep, std::vector{key});

  let_go.set_value();
  until([&] { return second->heard<protocol::Welcome>()->keep.empty(); });

  // Whose lease is not held has to wait: it may have been given up.
  leases.revoke(NodeId(1));
  const auto third = connect();
  third->say(hello());
  EXPECT_EQ(third->heard<protocol::Welcome>(), nullptr);
  until([&] { return third->heard<protocol::Welcome>() != nullptr; });
}

// A leader that has read the rows knows them, though nobody has said hello to it: its store may be gone again
// by then.
TEST_F(WorkerHubTest, ANewLeaderGoesOnWithTheNodesThatItHasReadWhileTheStoreIsAway) {
  NodeRow node;
  node.id = NodeId(7);
  node.name = "n1";
  node.boot_id = "boot";
  hub->resync({node});
  leases.grant(NodeId(7), boot_now());
  std::promise<void> let_go;
  store->write([gate = let_go.get_future().share()](Store&) { gate.wait(); }, [](std::exception_ptr) {});
  const auto link = connect();
  link->say(hello());
  link->say(protocol::Heartbeat{5});
  until([&] { return link->heard<protocol::HeartbeatAck>() != nullptr; });
  EXPECT_EQ(link->heard<protocol::Welcome>()->node_id, 7);
  auto rebooted = hello();
  rebooted.boot_id = "another";
  const auto other = connect();
  other->say(rebooted);
  EXPECT_EQ(other->heard<protocol::Welcome>(), nullptr) << "what it had is gone";
  let_go.set_value();
}

// While a commit takes long, one worker's words wait up to a bound, and no other one's place is taken.
TEST_F(WorkerHubTest, AWorkerThatSaysTooMuchIsCutAndNobodyElse) {
  const auto loud = connect(), calm = connect();
  loud->say(hello());
  auto other = hello();
  other.node = "n2";
  calm->say(other);
  until([&] { return loud->heard<protocol::Welcome>() && calm->heard<protocol::Welcome>(); });
  std::promise<void> let_go;
  store->write([gate = let_go.get_future().share()](Store&) { gate.wait(); }, [](std::exception_ptr) {});
  submit_without_waiting();
  io.poll();
  const auto word = status({JobId(7), Epoch(1)}, Phase::running);
  int said = 0;
  while (!loud->aborted() && said < 100'000) {
    loud->say(word);
    ++said;
  }
  EXPECT_TRUE(loud->aborted());
  EXPECT_GT(said, 1'000);
  EXPECT_LT(said, 10'000);
  calm->say(word);
  EXPECT_FALSE(calm->aborted());
  let_go.set_value();
  calm->say(protocol::Heartbeat{6});
  until([&] { return calm->heard<protocol::HeartbeatAck>() != nullptr; });
  EXPECT_FALSE(calm->aborted());
}

TEST_F(WorkerHubTest, TwoMachinesOfOneNameAreNotTakenForOne) {
  const auto first = connect();
  auto mine = hello();
  mine.instance = "one";
  first->say(mine);
  until([&] { return first->heard<protocol::Welcome>() != nullptr; });

  const auto other = connect();
  auto theirs = hello();
  theirs.instance = "two";
  theirs.boot_id = "another machine";
  other->say(theirs);
  ASSERT_NE(other->heard<protocol::Refused>(), nullptr);
  EXPECT_NE(other->heard<protocol::Refused>()->why.find("node name n1 is taken"), std::string::npos);
  EXPECT_FALSE(first->aborted());
  other->say(protocol::Heartbeat{1});
  EXPECT_EQ(other->heard<protocol::HeartbeatAck>(), nullptr) << "it renews nobody's lease";

  // After a reboot it is itself, and once its lease is over its successor may have its name.
  const auto rebooted = connect();
  mine.boot_id = "next";
  rebooted->say(mine);
  until([&] { return rebooted->heard<protocol::Welcome>() != nullptr; });
  EXPECT_TRUE(first->aborted());
  leases.revoke(NodeId(1));
  const auto successor = connect();
  successor->say(theirs);
  until([&] { return successor->heard<protocol::Welcome>() != nullptr; });
}

TEST_F(WorkerHubTest, ANodesCredentialSpeaksForThatNodeAlone) {
  const auto other = connect("n2");
  other->say(hello());
  until([&] { return other->heard<protocol::Refused>() != nullptr; });
  EXPECT_NE(other->heard<protocol::Refused>()->why.find("credential is that of node n2"), std::string::npos);
  const auto own = connect("n1");
  own->say(hello());
  until([&] { return own->heard<protocol::Welcome>() != nullptr; });
}

// ---------------------------------------------------------------- other versions

TEST_F(WorkerHubTest, AWorkerOneVersionApartIsTaken) {
  for (const int apart : {-1, +1}) {
    const auto link = connect();
    auto other = hello();
    other.protocol = protocol::version() + apart;
    link->say(other);
    until([&] { return link->heard<protocol::Welcome>() != nullptr; });
    link->say_text(R"({"type":"of the next version","what":"we do not know"})");
    EXPECT_EQ(link->aborted(), apart < 0) << "a newer one may say more than we know";
  }
}

TEST_F(WorkerHubTest, AWorkerTwoVersionsApartIsToldBothVersionsAndTheWayOut) {
  for (const int apart : {-2, +2}) {
    const auto link = connect();
    auto other = hello();
    other.protocol = protocol::version() + apart;
    link->say(other);
    const auto* refused = link->heard<protocol::Refused>();
    ASSERT_NE(refused, nullptr);
    for (const std::string& part :
         {"speaks protocol " + std::to_string(other.protocol),
          "protocol " + std::to_string(protocol::version()) + ", and they may be one apart",
          std::string("install tutti-worker ")})
      EXPECT_NE(refused->why.find(part), std::string::npos) << refused->why;
    EXPECT_EQ(refused->why.ends_with("upgrade the schedulers first"), apart > 0);
    EXPECT_FALSE(refused->leader) << "it is not sent elsewhere";
    EXPECT_FALSE(link->aborted()) << "it has to read why";
  }
  const auto link = connect();  // one whose hello has become another
  link->say_text(R"({"type":"hello","protocol":9,"name":"n1"})");
  ASSERT_NE(link->heard<protocol::Refused>(), nullptr);
  EXPECT_NE(link->heard<protocol::Refused>()->why.find("speaks protocol 9"), std::string::npos);
  EXPECT_EQ(link->heard<protocol::Welcome>(), nullptr);
}

struct HeardSamples : SampleSink {
  std::vector<std::string> heard;
  void on_loads(NodeId node, const std::vector<protocol::GpuLoad>& loads) override {
    for (const auto& load : loads) heard.push_back(to_string(node) + " " + load.uuid);
  }
  void on_progress(NodeId node, const protocol::Progress& progress) override {
    heard.push_back(to_string(node) + " step " + std::to_string(progress.step));
  }
  void on_ranks(NodeId node, const protocol::RankReport& report) override {
    heard.push_back(to_string(node) + " ranks " + std::to_string(report.ranks.size()));
  }
};

TEST_F(WorkerHubTest, WhatARegisteredWorkerMeasuresIsPassedOn) {
  HeardSamples samples;
  hub->use_samples(samples);
  const auto link = connect();
  link->say(hello());
  protocol::Heartbeat beat{1};
  beat.loads = {{.uuid = "GPU-0"}, {.uuid = "GPU-1"}};
  link->say(beat);
  EXPECT_TRUE(samples.heard.empty()) << "it is not registered yet";
  until([&] { return link->heard<protocol::Welcome>() != nullptr; });
  link->say(beat);
  link->say(protocol::Heartbeat{2});
  protocol::Progress progress;
  progress.key = {JobId(7), Epoch(1)};
  progress.step = 12;
  link->say(progress);
  protocol::RankReport report;
  report.key = progress.key;
  report.ranks.resize(3);
  link->say(report);
  EXPECT_EQ(samples.heard, (std::vector<std::string>{"1 GPU-0", "1 GPU-1", "1 step 12", "1 ranks 3"}));
}

// ---------------------------------------------------------------- several schedulers

TEST_F(WorkerHubTest, AHeartbeatUnderOurTermEndsTheWaitForALeaderOfBefore) {
  leases.others_renew_until(boot_now() + std::chrono::hours(1));
  const auto link = connect();
  link->say(hello());
  until([&] { return link->heard<protocol::Welcome>() != nullptr; });
  EXPECT_EQ(link->heard<protocol::Welcome>()->term, leader->term().value);
  link->say(protocol::Heartbeat{1});
  ASSERT_NE(link->heard<protocol::HeartbeatAck>(), nullptr);
  const auto soon = [] { return boot_now() + std::chrono::minutes(1); };
  EXPECT_GT(leases.expires_at(NodeId(1)), soon()) << "an older worker may go back to the one before";
  protocol::Heartbeat beat{2};
  beat.term = leader->term().value;
  link->say(beat);
  EXPECT_LT(leases.expires_at(NodeId(1)), soon());
}

struct StandbyHub : WorkerHubTest {
  std::unique_ptr<db::MemoryStore> other = std::make_unique<db::MemoryStore>(database);

  void SetUp() override {
    ASSERT_GE(sodium_init(), 0);
    LeaderCard card;
    card.url = "http://b:7070";
    card.instance = "b";
    other->introduce(card);
    other->acquire_leadership("b:1");
    store = std::make_unique<StoreThread>(io.get_executor(), std::make_unique<db::MemoryStore>(database),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
    hub = std::make_unique<WorkerHub>(io.get_executor(), *leader, leases, metrics, std::string(32, 'k'));
    leader->start(*hub, [](const std::string&) {});
    until([&] { return leader->status().standby; });
  }
};

TEST_F(StandbyHub, SendsWorkersToTheLeaderAndGrantsNothing) {
  const auto link = connect();
  link->say(hello());
  const auto* refused = link->heard<protocol::Refused>();
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->leader, "http://b:7070");
  EXPECT_EQ(link->heard<protocol::Welcome>(), nullptr);
  EXPECT_FALSE(leases.held(NodeId(1)));
}

TEST_F(StandbyHub, LeavesItToTheLeaderWhichVersionsItTakes) {
  const auto link = connect();
  auto other = hello();
  other.protocol = protocol::version() + 2;  // the leader may be newer than we are
  link->say(other);
  ASSERT_NE(link->heard<protocol::Refused>(), nullptr);
  EXPECT_EQ(link->heard<protocol::Refused>()->leader, "http://b:7070");
}

TEST_F(StandbyHub, TakesWorkersAsSoonAsItLeads) {
  other.reset();  // its session ends
  until([&] { return leader->plane() != nullptr; });
  const auto link = connect();
  link->say(hello());
  until([&] { return link->heard<protocol::Welcome>() != nullptr; });
  EXPECT_EQ(link->heard<protocol::Welcome>()->term, 2);
}

}  // namespace
}  // namespace tutti
