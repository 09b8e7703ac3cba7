// What the handlers of webhooks need; scheduler/service/webhooks implements it. Control thread: every
// callback comes there.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/handlers/backend.h"
#include "db/webhooks.h"

namespace tutti {

class WebhookService {
 public:
  virtual ~WebhookService() = default;

  /// nullptr: they are not loaded (yet).
  virtual const std::map<std::string, WebhookRow>* webhooks() const = 0;

  struct Made {
    WebhookRow row;
    std::string secret;  // made now, shown this once; "" = given, or kept
  };
  /// Creates or replaces. Without a secret the one there is stays, or a new webhook gets one. Who made it,
  /// when, and since which event it is told are filled in here.
  virtual void put(WebhookRow row, std::optional<std::string> secret, Reply<Made> reply) = 0;
  /// false: there was none of that name.
  virtual void remove(const std::string& name, Reply<bool> reply) = 0;

  struct Probe {
    int status = 0;  // 0: no answer came
    std::string error;
    Duration took{};
  };
  /// Sends one message that says it is a test, now and once; nothing of it is stored.
  virtual void test(const std::string& name, Reply<Probe> reply) = 0;

  /// Newest first, events below `before` (0: from the newest).
  virtual void deliveries(const std::string& name, std::optional<DeliveryState> state, EventId before,
                          int limit, Reply<std::vector<DeliveryRow>> reply) = 0;
};

}  // namespace tutti
