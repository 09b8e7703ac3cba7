// One suite, two stores of accounts: what is written is read again, and one transaction is one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/memory/memory_accounts.h"
#include "db/pg/pg_accounts.h"
#include "tests/store/pg_fixture.h"

namespace tutti {
namespace {

Instant at(int seconds) { return Instant(std::chrono::hours(24 * 365 * 50) + std::chrono::seconds(seconds)); }
const std::string kHash(64, 'a');

class AccountStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  AccountStoreTest() {
    if (!GetParam()) {
      store_ = std::make_unique<db::MemoryAccounts>();
      return;
    }
    database_.emplace(test::TestPostgres::instance().create_database());
    store_ = std::make_unique<db::PgAccounts>(database_->connection_string());
  }
  UserRow user(const std::string& name) {
    return {.name = name,
            .password_hash = "$argon2id$x",
            .created_at = at(1),
            .created_by = "admin",
            .roles = {{"*", Role::viewer}, {"nlp", Role::operator_}}};
  }
  /// The revision after it.
  std::int64_t commit(const AccountBatch& batch) {
    store_->commit(batch, store_->revision());
    return store_->revision();
  }
  TokenRow token(const std::string& id) {
    return {
        .id = id, .user = "ada", .name = "laptop", .secret_hash = kHash, .scopes = 3, .created_at = at(2)};
  }

  std::optional<test::TestDatabase> database_;
  std::unique_ptr<AccountStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Both, AccountStoreTest, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Postgres" : "Memory"; });

TEST_P(AccountStoreTest, WhatIsWrittenIsRead) {
  AccountBatch batch;
  batch.users = {user("ada"), user("b\"ob; DROP TABLE account --")};
  batch.users[1].roles.clear();
  batch.tokens = {token("t1")};
  batch.tokens[0].expires_at = at(100);
  batch.sessions = {{.id = "s1",
                     .user = "ada",
                     .secret_hash = kHash,
                     .created_at = at(3),
                     .seen_at = at(3),
                     .expires_at = Instant(std::chrono::hours(24 * 365 * 200)),
                     .opened_from = "10.0.0.1"}};
  batch.join_tokens = {{.id = "j1",
                        .secret_hash = kHash,
                        .node = "n1",
                        .uses_left = 3,
                        .created_at = at(4),
                        .created_by = "admin",
                        .expires_at = at(50)}};
  batch.nodes = {
      {.id = "c1", .node = "n1", .secret_hash = kHash, .created_at = at(5), .joined_from = "10.0.0.2"}};
  commit(batch);

  const auto rows = store_->load();
  ASSERT_EQ(rows.users.size(), 2U);
  EXPECT_EQ(rows.users[0].name, "ada");
  EXPECT_EQ(rows.users[0].roles, user("ada").roles);
  EXPECT_EQ(rows.users[1].name, batch.users[1].name);
  ASSERT_EQ(rows.tokens.size(), 1U);
  EXPECT_EQ(rows.tokens[0].expires_at, at(100));
  EXPECT_EQ(rows.tokens[0].scopes, 3);
  EXPECT_FALSE(rows.tokens[0].last_used_at);
  ASSERT_EQ(rows.sessions.size(), 1U);
  EXPECT_EQ(rows.sessions[0].opened_from, "10.0.0.1");
  ASSERT_EQ(rows.join_tokens.size(), 1U);
  EXPECT_EQ(rows.join_tokens[0].uses_left, 3);
  ASSERT_EQ(rows.nodes.size(), 1U);
  EXPECT_EQ(rows.nodes[0].joined_from, "10.0.0.2");
}

TEST_P(AccountStoreTest, RolesAreReplacedAndRevocationsStay) {
  AccountBatch batch;
  batch.users = {user("ada")};
  batch.tokens = {token("t1")};
  commit(batch);
  batch.users[0].roles = {{"vision", Role::member}};
  batch.tokens[0].revoked_at = at(9);
  commit(batch);
  const auto rows = store_->load();
  EXPECT_EQ(rows.users[0].roles, (std::map<std::string, Role, std::less<>>{{"vision", Role::member}}));
  EXPECT_EQ(rows.tokens[0].revoked_at, at(9));
}

TEST_P(AccountStoreTest, AUserGoesWithTheirSessions) {
  AccountBatch batch;
  batch.users = {user("ada")};
  batch.sessions = {{.id = "s1",
                     .user = "ada",
                     .secret_hash = kHash,
                     .created_at = at(3),
                     .seen_at = at(3),
                     .expires_at = Instant(std::chrono::hours(24 * 365 * 200))}};
  commit(batch);
  AccountBatch removal;
  removal.removed_users = {"ada"};
  commit(removal);
  EXPECT_TRUE(store_->load().users.empty());
  EXPECT_TRUE(store_->load().sessions.empty());
}

TEST_P(AccountStoreTest, ASessionOfNobodyIsRefusedAndNothingOfItsBatchIsApplied) {
  AccountBatch batch;
  batch.users = {user("ada")};
  batch.sessions = {{.id = "s1",
                     .user = "eve",
                     .secret_hash = kHash,
                     .created_at = at(3),
                     .seen_at = at(3),
                     .expires_at = at(4)}};
  EXPECT_THROW(commit(batch), StoreError);
  EXPECT_TRUE(store_->load().users.empty());
}

TEST_P(AccountStoreTest, OnlyChangesRaiseTheRevision) {
  const auto before = store_->revision();
  AccountBatch batch;
  batch.users = {user("ada")};
  batch.tokens = {token("t1")};
  const auto after = commit(batch);
  EXPECT_EQ(after, before + 1);
  AccountBatch use;
  use.used_tokens = {token("t1")};
  use.used_tokens[0].last_used_at = at(20);
  use.used_tokens[0].last_used_from = "10.0.0.9";
  use.audit = {{.at = at(20), .who = "ada", .action = "x", .status = 200}};
  EXPECT_EQ(commit(use), after);
  use.used_tokens[0].last_used_at = at(10);
  commit(use);
  const auto rows = store_->load();
  EXPECT_EQ(rows.tokens[0].last_used_at, at(20)) << "an earlier use does not count back";
  EXPECT_EQ(rows.tokens[0].last_used_from, "10.0.0.9");
  EXPECT_EQ(store_->revision(), after);
}

TEST_P(AccountStoreTest, AChangeDecidedOnAnOldRevisionIsRefused) {
  const auto old = store_->revision();
  AccountBatch batch;
  batch.users = {user("ada")};
  store_->commit(batch, old);
  batch.users = {user("bob")};
  try {
    store_->commit(batch, old);
    FAIL();
  } catch (const StoreError& e) {
    EXPECT_EQ(e.kind, StoreError::conflict);
  }
  EXPECT_EQ(store_->load().users.size(), 1U);
  AccountBatch record;
  record.audit = {{.at = at(20), .who = "ada", .action = "x", .status = 200}};
  EXPECT_NO_THROW(store_->commit(record, old)) << "a record is no change";
}

TEST_P(AccountStoreTest, TheAuditTrailIsFilteredAndPaged) {
  AccountBatch batch;
  for (int i = 1; i <= 6; ++i)
    batch.audit.push_back({.at = at(i),
                           .who = i % 2 ? "ada" : "bob",
                           .credential = "token t1",
                           .from = "10.0.0.1",
                           .action = i > 3 ? "jobs.cancel" : "jobs.hold",
                           .target = std::to_string(i),
                           .status = 200,
                           .before = R"({"state":"queued"})",
                           .after = ""});
  commit(batch);
  const auto targets = [&](const AuditFilter& filter, int limit = 100, std::int64_t before = 0) {
    std::vector<std::string> out;
    for (const auto& row : store_->audit(filter, limit, before)) out.push_back(row.target);
    return out;
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(targets({}), ElementsAre("6", "5", "4", "3", "2", "1"));
  EXPECT_THAT(targets({.who = "ada"}), ElementsAre("5", "3", "1"));
  EXPECT_THAT(targets({.who = "ada", .action = "jobs.cancel"}), ElementsAre("5"));
  EXPECT_THAT(targets({.since = at(5)}), ElementsAre("6", "5"));
  EXPECT_THAT(targets({.target = "2"}), ElementsAre("2"));
  const auto first = store_->audit({}, 2, 0);
  EXPECT_THAT(targets({}, 2, first.back().id), ElementsAre("4", "3"));
  EXPECT_EQ(first[0].before, R"({"state":"queued"})");
}

TEST_P(AccountStoreTest, OldAuditRowsAreForgottenInPiecesTheOldestFirst) {
  AccountBatch batch;
  for (const int when : {5, 1, 4, 2, 3})
    batch.audit.push_back(
        {.at = at(when), .who = "ada", .action = "jobs.hold", .target = std::to_string(when), .status = 200});
  const auto revision = commit(batch);
  const auto targets = [&] {
    std::vector<std::string> out;
    for (const auto& row : store_->audit({}, 100, 0)) out.push_back(row.target);
    return out;
  };
  using ::testing::ElementsAre;
  EXPECT_TRUE(store_->forget_audit(at(4), 2));
  EXPECT_THAT(targets(), ElementsAre("3", "4", "5"));
  EXPECT_FALSE(store_->forget_audit(at(4), 2));
  EXPECT_THAT(targets(), ElementsAre("4", "5")) << "what is as old as the limit stays";
  EXPECT_FALSE(store_->forget_audit(at(4), 2));
  EXPECT_EQ(store_->revision(), revision) << "no change of the accounts";

  const auto newest = store_->audit({}, 100, 0).back().id;
  AccountBatch later;
  later.audit = {{.at = at(9), .who = "ada", .action = "jobs.hold", .target = "9", .status = 200}};
  commit(later);
  EXPECT_THAT(targets(), ElementsAre("9", "4", "5"));
  EXPECT_GT(store_->audit({}, 1, 0).front().id, newest) << "a number is not given twice";
}

}  // namespace
}  // namespace tutti
