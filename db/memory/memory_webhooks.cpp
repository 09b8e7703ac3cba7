#include "db/memory/memory_webhooks.h"

#include <algorithm>

namespace tutti::db {

void MemoryWebhooks::look() const {
  if (broken_) throw StoreError(StoreError::unavailable, "the store is away");
}

bool MemoryWebhooks::is_enabled(const std::string& name) const {
  const auto hook = webhooks_.find(name);
  return hook != webhooks_.end() && hook->second.enabled;
}

std::vector<WebhookRow> MemoryWebhooks::webhooks() {
  std::lock_guard lock(mutex_);
  look();
  std::vector<WebhookRow> out;
  for (const auto& [name, row] : webhooks_) out.push_back(row);
  return out;
}

void MemoryWebhooks::put(const WebhookRow& row) {
  std::lock_guard lock(mutex_);
  look();
  webhooks_[row.name] = row;
}

bool MemoryWebhooks::remove(std::string_view name) {
  std::lock_guard lock(mutex_);
  look();
  std::erase_if(deliveries_, [&](const auto& d) { return d.first.first == name; });
  return webhooks_.erase(std::string(name)) > 0;
}

EventId MemoryWebhooks::cursor() {
  std::lock_guard lock(mutex_);
  look();
  return cursor_;
}

void MemoryWebhooks::enqueue(const std::vector<DeliveryRow>& rows, EventId seen, std::size_t most_waiting,
                             Instant now) {
  std::lock_guard lock(mutex_);
  look();
  for (const auto& row : rows)
    if (webhooks_.contains(row.webhook)) deliveries_.try_emplace({row.webhook, row.event}, row);
  cursor_ = std::max(cursor_, seen);
  for (const auto& [name, hook] : webhooks_) {
    std::size_t waiting = 0;
    for (auto d = deliveries_.rbegin(); d != deliveries_.rend(); ++d) {
      DeliveryRow& row = d->second;
      if (row.webhook != name || row.state != DeliveryState::waiting || ++waiting <= most_waiting) continue;
      row.state = DeliveryState::dead;
      row.ended_at = now;
      row.error = "too many wait for this webhook";
    }
  }
}

std::vector<DeliveryRow> MemoryWebhooks::due(Instant now, int of_each) {
  std::lock_guard lock(mutex_);
  look();
  std::map<std::string, std::vector<DeliveryRow>> by_hook;
  for (const auto& [key, row] : deliveries_)
    if (row.state == DeliveryState::waiting && row.next_at <= now && is_enabled(row.webhook))
      by_hook[row.webhook].push_back(row);
  std::vector<DeliveryRow> out;
  for (auto& [name, rows] : by_hook) {
    std::ranges::sort(rows, {}, [](const DeliveryRow& d) { return std::pair(d.next_at, d.event); });
    if (rows.size() > static_cast<std::size_t>(of_each)) rows.resize(static_cast<std::size_t>(of_each));
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

std::optional<Instant> MemoryWebhooks::next_due() {
  std::lock_guard lock(mutex_);
  look();
  std::optional<Instant> next;
  for (const auto& [key, row] : deliveries_)
    if (row.state == DeliveryState::waiting && is_enabled(row.webhook) && (!next || row.next_at < *next))
      next = row.next_at;
  return next;
}

void MemoryWebhooks::record(const DeliveryRow& row) {
  std::lock_guard lock(mutex_);
  look();
  if (const auto known = deliveries_.find({row.webhook, row.event}); known != deliveries_.end())
    known->second = row;
}

std::vector<DeliveryRow> MemoryWebhooks::deliveries(std::string_view webhook,
                                                    std::optional<DeliveryState> state, EventId before,
                                                    int limit) {
  std::lock_guard lock(mutex_);
  look();
  std::vector<DeliveryRow> out;
  for (auto d = deliveries_.rbegin(); d != deliveries_.rend(); ++d) {
    const DeliveryRow& row = d->second;
    if (row.webhook == webhook && (!state || row.state == *state) && (!before || row.event < before) &&
        out.size() < static_cast<std::size_t>(limit))
      out.push_back(row);
  }
  return out;
}

void MemoryWebhooks::forget(Instant ended_before) {
  std::lock_guard lock(mutex_);
  look();
  std::erase_if(deliveries_, [&](const auto& d) {
    return d.second.state != DeliveryState::waiting && d.second.ended_at < ended_before;
  });
}

}  // namespace tutti::db
