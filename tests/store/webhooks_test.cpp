// One suite, two outboxes: what is stored once, what is due, what is given up and forgotten.
#include "db/webhooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/memory/memory_webhooks.h"
#include "db/pg/pg_webhooks.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/rows.h"

namespace tutti {
namespace {

using namespace tutti::test;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

enum class Where {
  memory,
  postgres
};

class WebhookStoreTest : public testing::TestWithParam<Where> {
 protected:
  static WebhookRow hook(const std::string& name) {
    WebhookRow row;
    row.name = name;
    row.url = "https://example.com/x?y=" + std::string(kNastyText);
    row.kind = "slack";
    row.events = {"failed", "hung"};
    row.projects = {kNastyText, "nlp"};
    row.secret = "1:sealed";
    row.after = EventId(3);
    row.created_at = row.changed_at = at(1);
    row.changed_by = "ann";
    return row;
  }
  static DeliveryRow delivery(std::int64_t event, const std::string& webhook, std::int64_t due = 0) {
    DeliveryRow row;
    row.event = EventId(event);
    row.webhook = webhook;
    row.notice = "failed";
    row.job = JobId(7);
    row.body = kNastyText;
    row.created_at = at(event);
    row.next_at = at(due);
    return row;
  }
  std::vector<std::int64_t> events(const std::vector<DeliveryRow>& rows) {
    std::vector<std::int64_t> out;
    for (const auto& row : rows) out.push_back(row.event.value);
    return out;
  }

  std::optional<TestDatabase> database_ = GetParam() == Where::postgres
                                              ? std::optional(TestPostgres::instance().create_database())
                                              : std::nullopt;
  std::unique_ptr<WebhookStore> store_ =
      database_
          ? std::unique_ptr<WebhookStore>(std::make_unique<db::PgWebhooks>(database_->connection_string()))
          : std::make_unique<db::MemoryWebhooks>();
};

INSTANTIATE_TEST_SUITE_P(Both, WebhookStoreTest, testing::Values(Where::memory, Where::postgres),
                         [](const auto& info) {
                           return info.param == Where::memory ? "Memory" : "Postgres";
                         });

TEST_P(WebhookStoreTest, WebhooksComeBackAsTheyWerePut) {
  EXPECT_THAT(store_->webhooks(), IsEmpty());
  store_->put(hook("b"));
  store_->put(hook("a"));
  EXPECT_THAT(store_->webhooks(), ElementsAre(hook("a"), hook("b")));
  WebhookRow changed = hook("a");
  changed.kind = "json";
  changed.events.clear();
  changed.projects.clear();
  changed.enabled = false;
  changed.changed_at = at(9);
  store_->put(changed);
  EXPECT_THAT(store_->webhooks(), ElementsAre(changed, hook("b")));
  EXPECT_TRUE(store_->remove("a"));
  EXPECT_FALSE(store_->remove("a"));
  EXPECT_THAT(store_->webhooks(), ElementsAre(hook("b")));
}

TEST_P(WebhookStoreTest, TheSameEventsAgainAddNothing) {
  store_->put(hook("a"));
  EXPECT_EQ(store_->cursor(), EventId(0));
  store_->enqueue({delivery(5, "a"), delivery(6, "a")}, EventId(8), 100, at(0));
  EXPECT_EQ(store_->cursor(), EventId(8));
  auto sent = delivery(5, "a");
  sent.state = DeliveryState::delivered;
  sent.attempts = 1;
  sent.ended_at = at(20);
  sent.status = 204;
  store_->record(sent);
  store_->enqueue({delivery(5, "a"), delivery(6, "a"), delivery(7, "a")}, EventId(7), 100, at(0));
  EXPECT_EQ(store_->cursor(), EventId(8)) << "it never goes back";
  EXPECT_THAT(store_->deliveries("a", {}, EventId(0), 10),
              ElementsAre(delivery(7, "a"), delivery(6, "a"), sent));
  EXPECT_EQ(events(store_->due(at(100), 10)), (std::vector<std::int64_t>{6, 7}));
}

TEST_P(WebhookStoreTest, OnlyWhatIsDueOfEnabledWebhooksAndNotTooMuchOfOne) {
  store_->put(hook("a"));
  store_->put(hook("b"));
  WebhookRow off = hook("off");
  off.enabled = false;
  store_->put(off);
  store_->enqueue({delivery(1, "a", 30), delivery(2, "a", 10), delivery(3, "a", 20), delivery(4, "b", 50),
                   delivery(5, "off", 1)},
                  EventId(5), 100, at(0));
  EXPECT_THAT(store_->due(at(9), 10), IsEmpty());
  EXPECT_EQ(events(store_->due(at(20), 10)), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(events(store_->due(at(90), 2)), (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(store_->next_due(), at(10));
  store_->remove("a");
  EXPECT_EQ(store_->next_due(), at(50));
  store_->remove("b");
  EXPECT_EQ(store_->next_due(), std::nullopt);
}

TEST_P(WebhookStoreTest, TheOldestGoWhereTooManyWait) {
  store_->put(hook("a"));
  store_->put(hook("b"));
  store_->enqueue({delivery(1, "a"), delivery(2, "a"), delivery(2, "b"), delivery(3, "a"), delivery(4, "a")},
                  EventId(4), 3, at(40));
  const auto all = store_->deliveries("a", {}, EventId(0), 10);
  ASSERT_THAT(all, SizeIs(4));
  EXPECT_EQ(all.back().state, DeliveryState::dead);
  EXPECT_EQ(all.back().error, "too many wait for this webhook");
  EXPECT_EQ(all.back().ended_at, at(40));
  EXPECT_EQ(all[2].state, DeliveryState::waiting);
  EXPECT_EQ(store_->deliveries("b", {}, EventId(0), 10).front().state, DeliveryState::waiting);
}

TEST_P(WebhookStoreTest, NobodyIsToldWhoIsGone) {
  store_->put(hook("a"));
  store_->enqueue({delivery(1, "a"), delivery(1, "gone")}, EventId(1), 100, at(0));
  EXPECT_THAT(store_->deliveries("gone", {}, EventId(0), 10), IsEmpty());
  store_->remove("a");
  EXPECT_THAT(store_->deliveries("a", {}, EventId(0), 10), IsEmpty());
  store_->record(delivery(1, "a"));  // its answer comes late
  EXPECT_THAT(store_->deliveries("a", {}, EventId(0), 10), IsEmpty());
}

TEST_P(WebhookStoreTest, PagesByStateAndEvent) {
  store_->put(hook("a"));
  std::vector<DeliveryRow> rows;
  for (int i = 1; i <= 6; ++i) rows.push_back(delivery(i, "a"));
  store_->enqueue(rows, EventId(6), 100, at(0));
  for (int i = 1; i <= 6; i += 2) {
    auto row = rows[static_cast<std::size_t>(i - 1)];
    row.state = i == 3 ? DeliveryState::dead : DeliveryState::delivered;
    row.ended_at = at(100 + i);
    row.error = kNastyText;
    store_->record(row);
  }
  EXPECT_EQ(events(store_->deliveries("a", {}, EventId(0), 2)), (std::vector<std::int64_t>{6, 5}));
  EXPECT_EQ(events(store_->deliveries("a", {}, EventId(5), 9)), (std::vector<std::int64_t>{4, 3, 2, 1}));
  EXPECT_EQ(events(store_->deliveries("a", DeliveryState::waiting, EventId(0), 9)),
            (std::vector<std::int64_t>{6, 4, 2}));
  EXPECT_EQ(events(store_->deliveries("a", DeliveryState::dead, EventId(0), 9)),
            (std::vector<std::int64_t>{3}));
  store_->forget(at(104));
  EXPECT_EQ(events(store_->deliveries("a", {}, EventId(0), 9)), (std::vector<std::int64_t>{6, 5, 4, 2}))
      << "what waits is never forgotten";
}

TEST(WebhookSchema, HasOneCursorAndTheNamesOfTheCode) {
  const auto migrated = TestPostgres::instance().create_database();
  EXPECT_EQ(migrated.sql("SELECT count(*)::text FROM webhook_cursor"), std::vector<std::string>{"1"});
  EXPECT_ANY_THROW(migrated.sql("INSERT INTO webhook_cursor (event) VALUES (9)")) << "one row";
  EXPECT_EQ(migrated.sql("SELECT state || ' ' || name FROM delivery_state_name ORDER BY state"),
            (std::vector<std::string>{"1 waiting", "2 delivered", "3 dead"}));
}

}  // namespace
}  // namespace tutti
