// The faults a simulation can order from the in-memory store.
#include "db/memory/memory_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/memory/memory_reader.h"
#include "tests/store/row_equality.h"
#include "tests/store/rows.h"

namespace tutti::db {
namespace {

using namespace tutti::test;
using testing::ElementsAre;
using testing::IsEmpty;

class MemoryStoreTest : public testing::Test {
 protected:
  MemoryStoreTest() { store_.acquire_leadership("a"); }
  template <class Call>
  static StoreError::Kind kind_of(Call call) {
    try {
      call();
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "no error";
    return StoreError::corrupt;
  }
  MemoryStore store_;
};

TEST_F(MemoryStoreTest, InDoubtAppliedIsFoundByLoad) {
  store_.fail_next_commit(MemoryStore::Fault::in_doubt_applied);
  EXPECT_EQ(kind_of([&] { store_.commit(submission(1)); }), StoreError::in_doubt);
  EXPECT_EQ(kind_of([&] { store_.commit(submission(2)); }), StoreError::unavailable);
  EXPECT_THAT(store_.load().jobs, ElementsAre(job(1)));
  store_.commit(submission(2));
}

TEST_F(MemoryStoreTest, InDoubtNotAppliedLeavesNothing) {
  store_.fail_next_commit(MemoryStore::Fault::in_doubt_not_applied);
  EXPECT_EQ(kind_of([&] { store_.commit(submission(1)); }), StoreError::in_doubt);
  EXPECT_THAT(store_.load().jobs, IsEmpty());
}

TEST_F(MemoryStoreTest, InDoubtOfABadBatchIsItsOwnError) {
  store_.fail_next_commit(MemoryStore::Fault::in_doubt_applied);
  Batch b;
  b.jobs = {{full_job(1), 1}};
  EXPECT_EQ(kind_of([&] { store_.commit(b); }), StoreError::conflict)
      << "the server answered: there is no doubt";
}

// Time passes for whoever believes in them, by a clock of its own.
TEST_F(MemoryStoreTest, OnlyTheEndOfItsLeaderEndsTheBeliefInATerm) {
  Instant now = at(0);
  const auto of = [&](const std::string& who) {
    auto made = std::make_unique<MemoryStore>(store_.database());
    made->set_time([&] { return now; });
    made->introduce({.url = "http://" + who,
                     .instance = who,
                     .key_print = "print",
                     .renews_for = std::chrono::minutes(10)});
    return made;
  };
  store_.drop_session();
  auto lost = of("lost");
  lost->acquire_leadership("lost");
  lost->drop_session();
  auto next = of("next");
  next->acquire_leadership("next");
  now += std::chrono::hours(1);
  EXPECT_EQ(next->predecessors_renew(), Duration(std::chrono::minutes(10)));
  EXPECT_THAT(next->predecessor_urls(), ElementsAre("http://lost"));
  next->drop_session();
  auto third = of("third");
  third->acquire_leadership("third");
  EXPECT_EQ(third->predecessors_renew(), Duration(std::chrono::minutes(10))) << "of the second alone";
  EXPECT_THAT(third->predecessor_urls(), ElementsAre("http://next"));
}

TEST_F(MemoryStoreTest, UnavailableLeavesNothing) {
  store_.fail_next_commit(MemoryStore::Fault::unavailable);
  EXPECT_EQ(kind_of([&] { store_.commit(submission(1)); }), StoreError::unavailable);
  EXPECT_THAT(store_.load().jobs, IsEmpty());
}

TEST_F(MemoryStoreTest, ServerThatIsDownIsUnavailableUntilItIsUp) {
  store_.set_reachable(false);
  EXPECT_FALSE(store_.healthy());
  EXPECT_EQ(kind_of([&] { store_.load(); }), StoreError::unavailable);
  EXPECT_EQ(kind_of([&] { store_.commit({}); }), StoreError::unavailable);
  store_.set_reachable(true);
  store_.load();
  store_.commit({});
}

TEST_F(MemoryStoreTest, StandbyTakesOverWhenTheLeadersServerIsOutOfReach) {
  MemoryStore second(store_.database());
  EXPECT_EQ(kind_of([&] { second.acquire_leadership("b"); }), StoreError::deposed);
  store_.set_reachable(false);
  EXPECT_EQ(second.acquire_leadership("b"), Term(2));
  store_.set_reachable(true);
  EXPECT_EQ(kind_of([&] { store_.load(); }), StoreError::deposed);
  EXPECT_EQ(kind_of([&] { store_.commit({}); }), StoreError::unavailable);
  EXPECT_EQ(MemoryReader(store_.database()).leader().holder, "b");
}

}  // namespace
}  // namespace tutti::db
