// Webhooks and the outbox of what they are still to be told. One implementation talks to PostgreSQL (db/pg),
// one lives in memory (db/memory, for tests); one suite (tests/store) holds both to the same rules.
//
// Called by: scheduler/service/webhooks, on the side thread. Every call blocks, for a bounded time, and is
// one transaction. Throws StoreError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/store.h"

namespace tutti {

struct WebhookRow {
  std::string name;
  std::string url;
  std::string kind = "json";          // "json" | "slack"
  std::vector<std::string> events;    // words of scheduler/model/notice.h
  std::vector<std::string> projects;  // only of their jobs; empty = of all, and of nodes
  std::string secret;                 // sealed: the store does not know it
  bool enabled = true;
  EventId after;  // it is told of later events only
  Instant created_at, changed_at;
  std::string changed_by;
  bool operator==(const WebhookRow&) const = default;
};

enum class DeliveryState : std::uint8_t {
  waiting = 1,    // for its time, or for its next attempt
  delivered = 2,  // answered with 2xx
  dead = 3        // given up: too many attempts, or too many others waited
};
constexpr std::string_view name(DeliveryState s) {
  return s == DeliveryState::waiting ? "waiting" : s == DeliveryState::delivered ? "delivered" : "dead";
}

// One event for one webhook: the pair is its key.
struct DeliveryRow {
  EventId event;
  std::string webhook;
  DeliveryState state = DeliveryState::waiting;
  std::string notice;  // the word that heads it
  JobId job;           // 0 = none
  std::string body;    // the same at every attempt
  int attempts = 0;
  Instant created_at;
  Instant next_at;   // not before
  Instant ended_at;  // delivered or dead; epoch 0 = not yet
  int status = 0;    // of the last answer; 0 = there was none
  std::string error;
  bool operator==(const DeliveryRow&) const = default;
};

class WebhookStore {
 public:
  virtual ~WebhookStore() = default;

  virtual std::vector<WebhookRow> webhooks() = 0;  // by name
  virtual void put(const WebhookRow& row) = 0;     // creates or replaces
  virtual bool remove(std::string_view name) = 0;  // with its deliveries; false: there was none

  /// Events up to this one have their deliveries.
  virtual EventId cursor() = 0;
  /// Adds deliveries and moves the cursor to `seen`, together. What is there already stays as it is, and the
  /// cursor never goes back: after a crash the same events may come again. Of a webhook for which more than
  /// `most_waiting` wait the oldest are dead.
  virtual void enqueue(const std::vector<DeliveryRow>& rows, EventId seen, std::size_t most_waiting,
                       Instant now) = 0;
  /// Those of enabled webhooks whose time has come, in that order, at most so many of each.
  virtual std::vector<DeliveryRow> due(Instant now, int of_each) = 0;
  /// The earliest time at which one of an enabled webhook is due.
  virtual std::optional<Instant> next_due() = 0;
  /// What has become of an attempt; a delivery that is gone with its webhook is ignored.
  virtual void record(const DeliveryRow& row) = 0;

  /// Newest first, events below `before` (0: from the newest).
  virtual std::vector<DeliveryRow> deliveries(std::string_view webhook, std::optional<DeliveryState> state,
                                              EventId before, int limit) = 0;
  /// Of those that have ended before that time; at most a few thousand a call.
  virtual void forget(Instant ended_before) = 0;
};

}  // namespace tutti
