// Two leaders on one store: who leads, whose leases are renewed, and what is known of the one before
// (docs/design/0016-replicas.md).
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/leader.h"

namespace tutti {
namespace {

struct Silent : WorkerMessages {
  void deliver(Effect) override {}
  void resync(const std::vector<NodeRow>&) override {}
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}
};

// As PostgreSQL does over a network that fails: the test says when.
class SwitchedStore : public Store {
 public:
  explicit SwitchedStore(std::shared_ptr<db::MemoryDatabase> database) : inner(std::move(database)) {}
  void introduce(LeaderCard card) override { inner.introduce(std::move(card)); }
  Term acquire_leadership(const std::string& holder) override {
    const std::scoped_lock lock(mutex);
    if (outdated) throw StoreError(StoreError::outdated, "the schema is too new");
    return inner.acquire_leadership(holder);
  }
  Duration predecessors_renew() override {
    const std::scoped_lock lock(mutex);
    return inner.predecessors_renew();
  }
  void resign() noexcept override {
    const std::scoped_lock lock(mutex);
    inner.resign();
  }
  std::vector<std::string> predecessor_urls() override {
    const std::scoped_lock lock(mutex);
    return inner.predecessor_urls();
  }
  Snapshot load() override {
    const std::scoped_lock lock(mutex);
    must_write();
    return inner.load();
  }
  void commit(const Batch& batch) override {
    const std::scoped_lock lock(mutex);
    must_write();
    inner.commit(batch);
  }
  void prove_leadership() override {
    const std::scoped_lock lock(mutex);
    must_write();
    inner.prove_leadership();
    ++proofs;
  }
  bool healthy() noexcept override {
    const std::scoped_lock lock(mutex);
    return inner.healthy();
  }
  void set_reachable(bool yes) {
    const std::scoped_lock lock(mutex);
    inner.set_reachable(yes);
  }
  /// As a primary that was replaced and goes on alone: it answers, and no write of its ends.
  void set_writes(bool yes) {
    const std::scoped_lock lock(mutex);
    writes = yes;
  }
  int proofs_so_far() {
    const std::scoped_lock lock(mutex);
    return proofs;
  }
  void must_write() const {
    if (!writes) throw StoreError(StoreError::in_doubt, "no standby confirms it");
  }

  std::mutex mutex;
  bool writes = true, outdated = false;
  int proofs = 0;
  db::MemoryStore inner;
};

struct Replica {
  Replica(boost::asio::io_context& io, const std::shared_ptr<db::MemoryDatabase>& database, LeaderCard card,
          Duration stood_still = std::chrono::seconds(10)) {
    auto switched = std::make_unique<SwitchedStore>(database);
    gate = switched.get();
    store = std::make_unique<StoreThread>(io.get_executor(), std::move(switched),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = card.instance;
    settings.card = std::move(card);
    settings.stood_still = stood_still;
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
  }
  void start() {
    leader->start(workers, [this](const std::string& why) { deposed = why; });
  }

  SwitchedStore* gate = nullptr;
  LeaseTable leases{LeaseSettings{}};
  Metrics metrics;
  Silent workers;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::string deposed;
};

LeaderCard card(const std::string& name, Duration renews_for = std::chrono::minutes(10)) {
  return {.url = "http://" + name, .instance = name, .key_print = "print", .renews_for = renews_for};
}

struct Replicas : ::testing::Test {
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  boost::asio::io_context io{1};
  std::vector<std::unique_ptr<Replica>> all;

  Replica& add(LeaderCard who, Duration stood_still = std::chrono::seconds(10)) {
    all.push_back(std::make_unique<Replica>(io, database, std::move(who), stood_still));
    all.back()->start();
    return *all.back();
  }
  template <class F>
  void until(F condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
  void stop(Replica& replica) {
    bool stopped = false;
    replica.leader->stop([&] { stopped = true; });
    io.restart();  // it may have run out of work: one that has stopped before
    until([&] { return stopped; });
  }
  void TearDown() override {
    for (auto& replica : all) {
      replica->gate->set_reachable(true);
      stop(*replica);
      replica->store.reset();
    }
  }
};

TEST_F(Replicas, AStandbySaysWhoLeadsAndRefusesWrites) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  Replica& b = add(card("b"));
  until([&] { return b.leader->status().standby; });
  const ServiceStatus status = b.leader->status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.leader, "a");
  EXPECT_EQ(status.leader_url, "http://a");
  EXPECT_EQ(status.term, 1);
  EXPECT_NE(status.detail.find("a leads"), std::string::npos);
  EXPECT_FALSE(b.leader->may_renew());
  EXPECT_TRUE(a.leader->may_renew());
  EXPECT_FALSE(b.leader->post({.decide = {}, .refuse = {}}));
}

TEST_F(Replicas, WhenTheLeaderStopsTheStandbyLeadsAndWaitsForNobody) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  Replica& b = add(card("b"));
  until([&] { return b.leader->status().standby; });
  Batch batch;
  NodeRow node;
  node.id = NodeId(1);
  node.name = "n1";
  batch.nodes = {node};
  {
    const std::scoped_lock lock(a.gate->mutex);
    a.gate->inner.commit(batch);
  }
  stop(a);
  until([&] { return b.leader->plane() != nullptr; });
  EXPECT_EQ(b.leader->term(), Term(2));
  EXPECT_LE(b.leases.expires_at(NodeId(1)), boot_now() + std::chrono::seconds(8));
}

TEST_F(Replicas, ALeaderBelievesInTheLeasesOfOneThatMayLiveUntilItIsKnownToBeOver) {
  Batch batch;
  NodeRow node;
  node.id = NodeId(1);
  node.name = "n1";
  batch.nodes = {node};
  {
    db::MemoryStore lost(database);
    lost.introduce(card("lost"));
    lost.acquire_leadership("lost");
    lost.commit(batch);
  }  // its session ends without a word
  Replica& b = add(card("b"));
  until([&] { return b.leader->plane() != nullptr; });
  EXPECT_GT(b.leases.expires_at(NodeId(1)), boot_now() + std::chrono::minutes(9));
  database->end_terms_of("lost");  // it has been started again
  until([&] { return b.leases.expires_at(NodeId(1)) < boot_now() + std::chrono::seconds(8); });
}

TEST_F(Replicas, LeasesAreRenewedOnlyWhileItIsKnownThatWeLead) {
  Replica& a = add(card("a", std::chrono::seconds(2)));
  until([&] { return a.leader->plane() != nullptr; });
  EXPECT_TRUE(a.leader->may_renew());
  a.gate->set_reachable(false);
  until([&] { return !a.leader->may_renew(); });
  EXPECT_TRUE(a.leader->leads()) << "nobody says that another one does";
  a.gate->set_reachable(true);
  until([&] { return a.leader->may_renew(); });
}

TEST_F(Replicas, AStoreThatOnlyAnswersReadsConfirmsNothing) {
  Replica& a = add(card("a", std::chrono::seconds(2)));
  until([&] { return a.leader->plane() != nullptr; });
  until([&] { return a.gate->proofs_so_far() > 1; });  // with nothing to commit it proves that it leads
  a.gate->set_writes(false);
  until([&] { return !a.leader->may_renew(); });
  EXPECT_TRUE(a.leader->leads());
  a.gate->set_writes(true);
  until([&] { return a.leader->may_renew(); });
}

void stand_still_for(Duration time) {  // as a process that is stopped: its loop does not run
  const Mono end = boot_now() + time;
  while (boot_now() < end) std::this_thread::yield();
}

TEST_F(Replicas, WhoStoodStillRenewsNothingBeforeItHasProvenThatItLeads) {
  Replica& a = add(card("a"), std::chrono::milliseconds(1500));
  until([&] { return a.leader->plane() != nullptr && a.leader->may_renew(); });
  const int before = a.gate->proofs_so_far();
  stand_still_for(std::chrono::milliseconds(1600));
  EXPECT_FALSE(a.leader->may_renew()) << "the first thing that it does may be a heartbeat";
  until([&] { return a.leader->may_renew(); });
  EXPECT_GT(a.gate->proofs_so_far(), before);
}

TEST_F(Replicas, WhoStoodStillAndWasFollowedRenewsNothingAndEnds) {
  Replica& a = add(card("a"), std::chrono::milliseconds(1500));
  until([&] { return a.leader->plane() != nullptr && a.leader->may_renew(); });
  {
    const std::scoped_lock lock(a.gate->mutex);
    a.gate->inner.drop_session();  // as PostgreSQL does with one that says nothing
  }
  db::MemoryStore next(database);
  next.acquire_leadership("next");
  stand_still_for(std::chrono::milliseconds(1600));
  EXPECT_FALSE(a.leader->may_renew());
  bool renewed = false;
  until([&] {
    renewed = renewed || a.leader->may_renew();
    return !a.deposed.empty();
  });
  EXPECT_FALSE(renewed);
}

TEST_F(Replicas, WhoIsTooOldForTheSchemaEnds) {
  all.push_back(std::make_unique<Replica>(io, database, card("a")));
  Replica& a = *all.back();
  a.gate->outdated = true;
  a.start();
  until([&] { return !a.deposed.empty(); });
  EXPECT_NE(a.deposed.find("schema"), std::string::npos) << a.deposed;
  EXPECT_FALSE(a.leader->leads());
}

TEST_F(Replicas, WhoIsToldOfALaterTermIsDeposed) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  EXPECT_FALSE(a.leader->told_of_term(a.leader->term(), "a")) << "that is ours";
  EXPECT_TRUE(a.leader->may_renew());
  EXPECT_TRUE(a.leader->told_of_term(Term(2), "b"));
  EXPECT_NE(a.deposed.find("b leads with term 2"), std::string::npos) << a.deposed;
  EXPECT_FALSE(a.leader->may_renew());
  EXPECT_FALSE(a.leader->told_of_term(Term(3), "c")) << "once";
}

TEST_F(Replicas, WhoMayStillRenewLeasesIsToldWhoLeads) {
  {
    db::MemoryStore lost(database);
    lost.introduce(card("lost"));
    lost.acquire_leadership("lost");
  }  // its session ends without a word
  std::vector<std::string> told;
  Term says;
  all.push_back(std::make_unique<Replica>(io, database, card("b")));
  Leader& b = *all.back()->leader;
  b.tell_predecessors_by([&](std::vector<std::string> urls, Term ours) {
    told = std::move(urls);
    says = ours;
  });
  all.back()->start();
  until([&] { return !told.empty(); });
  EXPECT_EQ(told, std::vector<std::string>{"http://lost"});
  EXPECT_EQ(says, Term(2));
}

// A question that takes its time holds the reading thread.
TEST_F(Replicas, WhoLeadsIsAskedBesideOtherQuestions) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  all.push_back(std::make_unique<Replica>(io, database, card("b")));
  Replica& b = *all.back();
  std::promise<void> answer;
  bool answered = false;
  b.leader->read(
      [&answered, ready = std::make_shared<std::future<void>>(answer.get_future())](Reader&) {
        ready->wait();
        return [&answered] { answered = true; };
      },
      [](const Error&) {});
  b.start();
  until([&] { return b.leader->status().standby; });
  EXPECT_FALSE(answered);
  answer.set_value();
  until([&] { return answered; });
}

TEST_F(Replicas, ALeaderThatStopsRenewsNothingFromThenOn) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  ASSERT_TRUE(a.leader->may_renew());
  bool stopped = false;
  a.leader->stop([&] { stopped = true; });
  EXPECT_FALSE(a.leader->may_renew()) << "its last word, which says so, is on its way";
  until([&] { return stopped; });
  EXPECT_TRUE(database->leader().over);
}

TEST_F(Replicas, ALeaderThatIsDeposedRenewsNothingFromThenOn) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  a.gate->set_reachable(false);
  Replica& b = add(card("b"));
  until([&] { return b.leader->plane() != nullptr; });
  EXPECT_TRUE(a.leader->may_renew()) << "it does not know yet: that is what b waits for";
  a.gate->set_reachable(true);
  until([&] { return !a.deposed.empty(); });
  EXPECT_FALSE(a.leader->may_renew());
  EXPECT_FALSE(a.leader->leads());
}

TEST_F(Replicas, AStandbyWithOtherSecretsGivesUpWithAWord) {
  Replica& a = add(card("a"));
  until([&] { return a.leader->plane() != nullptr; });
  LeaderCard other = card("b");
  other.key_print = "another";
  Replica& b = add(other);
  until([&] { return !b.deposed.empty(); });
  EXPECT_NE(b.deposed.find("secret"), std::string::npos);
}

TEST_F(Replicas, AFormerSelfIsNotTakenForALeader) {
  db::MemoryStore former(database);
  former.introduce(card("a"));
  former.acquire_leadership("former a");
  Replica& a = add(card("a"));
  until([&] { return a.leader->seen() != nullptr; });
  for (int i = 0; i < 20; ++i) io.run_one_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(a.leader->status().standby) << "whoever is handed over comes back";
  former.drop_session();
  until([&] { return a.leader->plane() != nullptr; });
}

}  // namespace
}  // namespace tutti
