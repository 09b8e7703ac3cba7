// Webhooks and their outbox in memory, for tests.
#pragma once

#include <map>
#include <mutex>

#include "db/webhooks.h"

namespace tutti::db {

class MemoryWebhooks final : public WebhookStore {
 public:
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

  /// While set every call throws StoreError unavailable.
  void break_it(bool broken) { broken_ = broken; }

 private:
  void look() const;
  bool is_enabled(const std::string& name) const;

  mutable std::mutex mutex_;
  bool broken_ = false;
  std::map<std::string, WebhookRow> webhooks_;
  std::map<std::pair<std::string, EventId>, DeliveryRow> deliveries_;
  EventId cursor_;
};

}  // namespace tutti::db
