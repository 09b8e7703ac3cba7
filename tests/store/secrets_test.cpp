// One suite, two stores: where sealed secrets are kept.
#include "db/secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "db/memory/memory_secrets.h"
#include "db/pg/pg_secrets.h"
#include "tests/store/pg_fixture.h"

namespace tutti {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const SealedSecret kSealed{std::string("\0\xff sealed", 9), std::string(24, 'n')};
const SealedSecret kOther{"other", std::string(24, '\0')};
Instant at(int seconds) { return Instant(std::chrono::seconds(1'800'000'000 + seconds)); }

class SecretsTest : public testing::TestWithParam<bool> {
 protected:
  SecretsTest() {
    if (GetParam()) {
      database_.emplace(test::TestPostgres::instance().create_database());
      store_ = std::make_unique<db::PgSecrets>(database_->connection_string());
    } else {
      store_ = std::make_unique<db::MemorySecrets>();
    }
  }
  StoreError::Kind refusal(const std::string& project, const std::string& name, const SealedSecret& value) {
    try {
      store_->put(project, name, value, "ada", at(0));
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "taken";
    return StoreError::corrupt;
  }

  std::optional<test::TestDatabase> database_;
  std::unique_ptr<SecretStore> store_;
};
INSTANTIATE_TEST_SUITE_P(Both, SecretsTest, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Postgres" : "Memory"; });

TEST_P(SecretsTest, AValueComesBackAsItWasAndANewOneIsANewVersion) {
  EXPECT_EQ(store_->put("nlp", "HF_TOKEN", kSealed, "ada", at(1)), 1);
  EXPECT_EQ(store_->fetch("nlp", {"HF_TOKEN", "NONE"}),
            (std::map<std::string, SealedSecret>{{"HF_TOKEN", kSealed}}));
  EXPECT_EQ(store_->put("nlp", "HF_TOKEN", kOther, "bob", at(2)), 2);
  EXPECT_EQ(store_->fetch("nlp", {"HF_TOKEN"}).at("HF_TOKEN"), kOther);
  EXPECT_THAT(store_->list("nlp"), ElementsAre(SecretRow{"nlp", "HF_TOKEN", 2, "bob", at(2)}));
}

TEST_P(SecretsTest, ProjectsAreApart) {
  store_->put("nlp", "B", kSealed, "ada", at(1));
  store_->put("nlp", "A", kSealed, "ada", at(1));
  store_->put("vision ü", "A", kOther, "ada", at(1));
  EXPECT_EQ(store_->fetch("vision ü", {"A", "B"}), (std::map<std::string, SealedSecret>{{"A", kOther}}));
  std::vector<std::string> names;
  for (const auto& row : store_->list("")) names.push_back(row.project + "/" + row.name);
  EXPECT_THAT(names, ElementsAre("nlp/A", "nlp/B", "vision ü/A"));
  EXPECT_THAT(store_->list("other"), IsEmpty());
  EXPECT_THAT(store_->fetch("nlp", {}), IsEmpty());
}

TEST_P(SecretsTest, RemovedIsGoneAndBeginsAnew) {
  store_->put("nlp", "A", kSealed, "ada", at(1));
  EXPECT_TRUE(store_->remove("nlp", "A"));
  EXPECT_FALSE(store_->remove("nlp", "A"));
  EXPECT_THAT(store_->fetch("nlp", {"A"}), IsEmpty());
  EXPECT_EQ(store_->put("nlp", "A", kSealed, "ada", at(2)), 1);
}

TEST_P(SecretsTest, WhatIsNoSecretIsRefused) {
  EXPECT_EQ(refusal("nlp", "lower", kSealed), StoreError::conflict);
  EXPECT_EQ(refusal("nlp", "'; DROP TABLE secret", kSealed), StoreError::conflict);
  EXPECT_EQ(refusal("", "A", kSealed), StoreError::conflict);
  EXPECT_EQ(refusal("nlp", "A", {"x", "short"}), StoreError::conflict);
  EXPECT_THAT(store_->list(""), IsEmpty());
}

}  // namespace
}  // namespace tutti
