// Who leads, on both stores: terms, which of them still renew leases, and sessions that are lost.
#include "db/store.h"

#include "tests/store/store_world.h"

namespace tutti {
namespace {

// ---------------------------------------------------------------- terms: who renews leases still

LeaderCard card(const std::string& instance, Duration renews_for = std::chrono::minutes(10)) {
  return {.url = "http://" + instance + ":7070",
          .instance = instance,
          .key_print = "print",
          .renews_for = renews_for};
}

TEST_P(StoreTest, ALeaderIsPublishedWithItsTerm) {
  store_.reset();
  auto second = world_->store();
  second->introduce(card("a"));
  second->acquire_leadership("host:7");
  const auto leader = reader_->leader();
  EXPECT_EQ(leader.term, Term(2));
  EXPECT_EQ(leader.url, "http://a:7070");
  EXPECT_EQ(leader.key_print, "print");
  EXPECT_FALSE(leader.over);
}

TEST_P(StoreTest, APredecessorThatWasLostMayStillRenewLeases) {
  EXPECT_EQ(store_->predecessors_renew(), Duration::zero()) << "nobody led before";
  store_.reset();
  auto a = world_->store();
  a->introduce(card("a"));
  a->acquire_leadership("a");
  EXPECT_EQ(a->predecessors_renew(), Duration::zero()) << "the first one renews for no time by itself";
  world_->cut_session(*a);
  auto b = world_->store();
  b->introduce(card("b", std::chrono::minutes(1)));
  b->acquire_leadership("b");
  EXPECT_GT(b->predecessors_renew(), std::chrono::minutes(9));
  EXPECT_LE(b->predecessors_renew(), std::chrono::minutes(10));
  world_->cut_session(*b);
  auto c = world_->store();
  c->introduce(card("c"));
  c->acquire_leadership("c");
  EXPECT_GT(c->predecessors_renew(), std::chrono::minutes(9)) << "the longest of all that are not over";
}

TEST_P(StoreTest, APredecessorThatResignedRenewsNothing) {
  store_.reset();
  auto a = world_->store();
  a->introduce(card("a"));
  a->acquire_leadership("a");
  a->resign();
  EXPECT_TRUE(reader_->leader().over);
  auto b = world_->store();
  b->introduce(card("b"));
  b->acquire_leadership("b");
  EXPECT_EQ(b->predecessors_renew(), Duration::zero());
  EXPECT_FALSE(reader_->leader().over);
}

// What asks for the lead a second time has not led the first time.
TEST_P(StoreTest, ATermOfOurOwnThatWasRaisedInVainIsNobodyElses) {
  store_.reset();
  auto a = world_->store();
  a->introduce(card("a"));
  a->acquire_leadership("a");
  EXPECT_EQ(a->acquire_leadership("a"), Term(3));
  EXPECT_EQ(a->predecessors_renew(), Duration::zero());
}

TEST_P(StoreTest, TermsOfAnInstanceThatStartsAgainAreOver) {
  store_.reset();
  auto a = world_->store();
  a->introduce(card("a"));
  a->acquire_leadership("a");
  world_->cut_session(*a);
  auto b = world_->store();
  b->introduce(card("b"));
  b->acquire_leadership("b");
  EXPECT_GT(b->predecessors_renew(), Duration::zero());
  auto a_again = world_->store();
  a_again->introduce(card("a"));
  EXPECT_THROW(a_again->acquire_leadership("a"), StoreError) << "b leads";
  EXPECT_EQ(b->predecessors_renew(), Duration::zero());
  world_->cut_session(*b);
  EXPECT_EQ(a_again->acquire_leadership("a"), Term(4));
  EXPECT_GT(a_again->predecessors_renew(), Duration::zero()) << "b may live";
}

// ---------------------------------------------------------------- leadership and lost sessions

TEST_P(StoreTest, ALeaderIsToldWhereThoseBeforeItAreReachedThatMayRenew) {
  store_.reset();  // of the fixture: it does not say where it is reached
  auto lost = world_->store();
  lost->introduce(card("lost"));
  lost->acquire_leadership("lost");
  lost.reset();
  auto over = world_->store();
  over->introduce(card("over"));
  over->acquire_leadership("over");
  over->resign();
  auto past = world_->store();
  past->introduce(card("past", Duration::zero()));
  past->acquire_leadership("past");
  past.reset();
  auto next = world_->store();
  next->introduce(card("next"));
  next->acquire_leadership("next");
  EXPECT_THAT(next->predecessor_urls(), ElementsAre("http://lost:7070"));
  auto again = world_->store();
  again->introduce(card("lost"));
  EXPECT_THROW(again->acquire_leadership("lost, started again"), StoreError);
  EXPECT_THAT(next->predecessor_urls(), IsEmpty());
}

TEST_P(StoreTest, ALeaderProvesThatItLeads) {
  store_->prove_leadership();
  world_->cut_session(*store_);
  try {
    store_->prove_leadership();
    ADD_FAILURE() << "without a session";
  } catch (const StoreError& e) {
    EXPECT_EQ(e.kind, StoreError::unavailable);
  }
  store_->load();
  store_->prove_leadership();
}

TEST_P(StoreTest, WhoDoesNotLeadAnyMoreProvesNothing) {
  auto second = world_->store();
  world_->cut_session(*store_);
  second->acquire_leadership("second");
  const auto refusal_of = [](Store& store, auto call) {
    try {
      call(store);
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "it did";
    return StoreError::corrupt;
  };
  EXPECT_EQ(refusal_of(*store_, [](Store& s) { s.load(); }), StoreError::deposed);
  second->prove_leadership();
}

TEST_P(StoreTest, TermRisesWithEveryLeader) {
  EXPECT_EQ(reader_->leader().term, Term(1));
  EXPECT_EQ(reader_->leader().holder, "test");
  store_.reset();
  EXPECT_EQ(world_->store()->acquire_leadership(kNastyText), Term(2));
  EXPECT_EQ(reader_->leader().holder, kNastyText);
}

TEST_P(StoreTest, SecondLeaderIsRefusedWhileTheFirstHoldsTheLock) {
  auto second = world_->store();
  EXPECT_THROW(second->acquire_leadership("second"), StoreError);
  store_->commit(submission(1));
  EXPECT_THAT(second->load().jobs, SizeIs(1)) << "a standby may look";
  EXPECT_EQ(refusal(*second, submission(2)), StoreError::deposed);
}

TEST_P(StoreTest, LeaderThatLostItsSessionToAnotherIsDeposed) {
  world_->cut_session(*store_);
  auto second = world_->store();
  EXPECT_EQ(second->acquire_leadership("second"), Term(2));
  EXPECT_EQ(refusal(submission(1)), StoreError::unavailable);
  try {
    store_->load();
    FAIL() << "a deposed leader may not go on";
  } catch (const StoreError& e) {
    EXPECT_EQ(e.kind, StoreError::deposed);
  }
  second->commit(submission(1));
  second.reset();
  EXPECT_EQ(store_->acquire_leadership("test"), Term(3));
  EXPECT_THAT(store_->load().jobs, SizeIs(1));
}

TEST_P(StoreTest, LeaderThatLostItsSessionGoesOnAfterLoad) {
  store_->commit(submission(1));
  EXPECT_TRUE(store_->healthy());
  world_->cut_session(*store_);
  EXPECT_FALSE(store_->healthy());
  EXPECT_EQ(refusal(submission(2)), StoreError::unavailable);
  EXPECT_EQ(refusal(submission(2)), StoreError::unavailable) << "it does not connect by itself";
  EXPECT_THAT(store_->load().jobs, SizeIs(1));
  store_->commit(submission(2));
  EXPECT_EQ(reader_->leader().term, Term(1));
}

TEST_P(StoreTest, EmptyBatchChecksTheSession) {
  store_->commit({});
  world_->cut_session(*store_);
  EXPECT_EQ(refusal({}), StoreError::unavailable);
}

}  // namespace
}  // namespace tutti
