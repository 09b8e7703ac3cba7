// Webhooks and their outbox in PostgreSQL. One thread: the side thread's.
#pragma once

#include <string>

#include "db/pg/side_session.h"
#include "db/webhooks.h"

namespace tutti::db {

class PgWebhooks final : public WebhookStore {
 public:
  explicit PgWebhooks(std::string connection_string)
      : session_(std::move(connection_string), "tutti-webhooks") {}

  std::vector<WebhookRow> webhooks() override;
  void put(const WebhookRow& row) override;
  bool remove(std::string_view name) override;
  EventId cursor() override;
  void enqueue(const std::vector<DeliveryRow>& rows, EventId seen, std::size_t most_waiting,
               Instant now) override;
  std::vector<DeliveryRow> due(Instant now, int of_each) override;
  std::optional<Instant> next_due() override;
  void record(const DeliveryRow& row) override;
  std::vector<DeliveryRow> deliveries(std::string_view webhook, std::optional<DeliveryState> state,
                                      EventId before, int limit) override;
  void forget(Instant ended_before) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
