// What handlers use beside the scheduling Backend; each may be absent (null), then its routes answer 501.
// Wired by scheduler/serving_http.cpp and by tests. All live on the control thread and outlive the router.
#pragma once

namespace tutti {

class Accounts;
class Forwarding;      // forwarding.h
class History;         // history.h
class Limits;          // limits.h
class SecretVault;     // scheduler/secrets
class SeriesHistory;   // series_history.h
class Shells;          // shells.h
class Tracing;         // tracing.h
class WaitingHistory;  // waiting_history.h
class WebhookService;

struct Services {
  Accounts* accounts = nullptr;      // users, tokens, sessions, the audit trail
  Forwarding* forwarding = nullptr;  // to the leader, while this scheduler is a standby
  History* history = nullptr;
  Limits* limits = nullptr;
  WebhookService* webhooks = nullptr;
  SecretVault* secrets = nullptr;
  Shells* shells = nullptr;
  Tracing* tracing = nullptr;         // spans of submissions
  WaitingHistory* waiting = nullptr;  // why jobs waited
  SeriesHistory* series = nullptr;    // what was measured
};

}  // namespace tutti
