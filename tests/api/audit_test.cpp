// Every change leaves a record: who, what, before and after, from where. Secrets leave none.
#include <boost/json/serialize.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

class Audit : public ::testing::Test {
 protected:
  Audit() { rig.backend.add_project("nlp"); }
  json::array entries(const std::string& query = "") {
    return rig.get("/v1/audit" + query).body().at("entries").as_array();
  }
  ApiRig rig;
};

TEST_F(Audit, AChangeOfAJobIsRecordedWithBeforeAndAfter) {
  const auto id = to_string(rig.submit(R"({"name":"a","run":"true","project":"nlp"})"));
  const auto ops = rig.user("olga", {{"nlp", Role::operator_}});
  ASSERT_EQ(rig.call(http::Method::post, "/v1/jobs/" + id + ":hold", R"({"reason":"wait"})", ops).status(),
            200);
  const auto found = entries("?target=" + id);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].at("who"), "olga");
  EXPECT_EQ(found[0].at("action"), "jobs.hold");
  EXPECT_EQ(found[0].at("status"), 200);
  EXPECT_EQ(found[0].at("before").at("state"), "queued");
  EXPECT_EQ(found[0].at("after").at("result").at("state"), "held");
  EXPECT_TRUE(found[0].at("credential").as_string().starts_with("token "));
}

TEST_F(Audit, ARefusalIsRecordedToo) {
  const auto id = to_string(rig.submit(R"({"name":"a","run":"true","project":"nlp"})"));
  const auto viewer = rig.user("vera", {{"nlp", Role::viewer}});
  ASSERT_EQ(rig.call(http::Method::post, "/v1/jobs/" + id + ":cancel", "", viewer).status(), 403);
  const auto found = entries("?who=vera");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].at("status"), 403);
}

TEST_F(Audit, SharesAndNodesAreRecordedAsTheyWere) {
  rig.backend.add_node("n1");
  rig.put("/v1/projects/vision", R"({"weight":1})");
  rig.put("/v1/projects/vision", R"({"weight":3})");
  const auto shares = entries("?action=projects.put");
  ASSERT_EQ(shares.size(), 2U);
  EXPECT_TRUE(shares[1].at("before").is_null());
  EXPECT_EQ(shares[0].at("before").at("weight"), 1.0);
  EXPECT_EQ(shares[0].at("after").at("result").at("weight"), 3.0);
  rig.post("/v1/nodes/n1:cordon", R"({"reason":"smoke"})");
  const auto nodes = entries("?target=n1");
  ASSERT_EQ(nodes.size(), 1U);
  EXPECT_EQ(nodes[0].at("before").at("service"), "schedulable");
}

TEST_F(Audit, NoSecretIsRecorded) {
  rig.post("/v1/users", R"({"name":"ada","password":"correct horse battery"})");
  rig.post("/v1/login", R"({"user":"ada","password":"correct horse battery"})");
  const auto token =
      std::string(rig.post("/v1/tokens", R"({"name":"x","user":"ada"})").body().at("token").as_string());
  const auto text = json::serialize(entries());
  EXPECT_EQ(text.find("correct horse"), std::string::npos);
  EXPECT_EQ(text.find(token.substr(20)), std::string::npos);
  EXPECT_NE(text.find("sessions.login"), std::string::npos);
}

TEST_F(Audit, ReadingLeavesNoRecordAndSubmissionsHaveTheirOwn) {
  rig.submit();
  rig.get("/v1/jobs");
  EXPECT_TRUE(entries().empty());
}

TEST_F(Audit, IsReadInPages) {
  for (int i = 0; i < 5; ++i) rig.put("/v1/queues/q" + std::to_string(i), "{}");
  std::vector<std::string> targets;
  std::string token;
  do {
    const auto page = rig.get("/v1/audit?page_size=2&page_token=" + token).body();
    for (const auto& entry : page.at("entries").as_array())
      targets.emplace_back(entry.at("target").as_string());
    token = page.at("next_page_token").as_string();
  } while (!token.empty());
  EXPECT_EQ(targets, (std::vector<std::string>{"q4", "q3", "q2", "q1", "q0"}));
  rig.backend.tick(1h);
  rig.put("/v1/queues/late", "{}");
  EXPECT_EQ(entries("?since=30m").size(), 1U);
  EXPECT_EQ(rig.get("/v1/audit?since=yesterday").status(), 422);
}

TEST_F(Audit, IsKeptForAYear) {
  rig.put("/v1/queues/old", "{}");
  rig.backend.tick(24h * 364);
  rig.accounts.refresh();
  rig.put("/v1/queues/late", "{}");
  EXPECT_EQ(entries().size(), 2U);
  rig.backend.tick(24h * 2);
  rig.accounts.refresh();
  ASSERT_EQ(entries().size(), 1U);
  EXPECT_EQ(entries()[0].at("target"), "late");
}

// Its own accounts, with a store that says how it is asked.
class AuditLife : public ::testing::Test {
 protected:
  Accounts make(Duration life) {
    AccountSettings settings;
    settings.audit_life = life;
    const auto aside = [](const std::function<void()>& work,
                          const std::function<void(std::exception_ptr)>& done) {
      try {
        work();
      } catch (...) {
        return done(std::current_exception());
      }
      done(nullptr);
    };
    return Accounts(store_, aside, aside, settings, [this] { return now_; });
  }
  void add_rows(int count) {
    AccountBatch batch;
    for (int i = 0; i < count; ++i)
      batch.audit.push_back({.at = now_, .who = "ada", .action = "jobs.hold", .status = 200});
    store_.commit(batch, 0);
  }
  std::size_t rows() { return store_.audit({}, 1'000'000, 0).size(); }

  Instant now_{std::chrono::hours(24 * 365 * 50)};
  db::MemoryAccounts store_;
};

TEST_F(AuditLife, WhatThereWasNoMemoryForIsStoredLater) {
  bool full = false;
  const auto aside = [&full](const std::function<void()>& work,
                             const std::function<void(std::exception_ptr)>& done) {
    if (full) throw std::bad_alloc();
    work();
    done(nullptr);
  };
  Accounts accounts(store_, aside, aside, {}, [this] { return now_; });
  accounts.start();
  full = true;
  std::string told;
  const auto record = [&](const std::string& who) {
    accounts.record({.at = now_, .who = who, .action = "jobs.hold", .status = 200},
                    [&told, who](bool stored) { told += who + (stored ? "+" : "-"); });
  };
  EXPECT_THROW(record("ada"), std::bad_alloc);
  EXPECT_EQ(told, "");
  full = false;
  record("bob");
  EXPECT_EQ(told, "ada+bob+");
  EXPECT_EQ(rows(), 2U);
}

TEST_F(AuditLife, ALongTrailIsDroppedPieceByPiece) {
  add_rows(10'003);
  auto accounts = make(1h);
  accounts.start();
  now_ += 2h;
  accounts.refresh();
  EXPECT_EQ(rows(), 3U);
  accounts.refresh();
  EXPECT_EQ(rows(), 0U);
  add_rows(1);
  now_ += 61min;
  accounts.refresh();
  EXPECT_EQ(rows(), 0U) << "it goes on looking";
}

TEST_F(AuditLife, WhatCouldNotBeDroppedIsDroppedLater) {
  add_rows(1);
  auto accounts = make(1h);
  accounts.start();
  now_ += 2h;
  store_.set_reachable(false);
  accounts.refresh();
  store_.set_reachable(true);
  EXPECT_EQ(rows(), 1U);
  accounts.refresh();
  EXPECT_EQ(rows(), 0U);
}

TEST_F(AuditLife, ZeroKeepsItForEver) {
  add_rows(1);
  auto accounts = make(Duration(0));
  accounts.start();
  now_ += 24h * 365 * 100;
  accounts.refresh();
  EXPECT_EQ(rows(), 1U);
}

TEST_F(Audit, AChangeIsAnsweredEvenIfItsRecordCannotBeStored) {
  rig.account_store.set_reachable(false);
  EXPECT_EQ(rig.put("/v1/queues/q", "{}").status(), 200);
  rig.account_store.set_reachable(true);
  EXPECT_TRUE(entries().empty()) << "it is in the log";
}

}  // namespace
}  // namespace tutti::testing
