// What a scheduler that serves is made of, in groups: the leader with its workers, accounts, webhooks, what
// is recorded, questions about the past, other schedulers. Serving (serving.h) has one of each.
//
// Control thread; each SideThread and the StoreThread bring a thread for what blocks. Throw std::exception
// when a flag asks for what cannot be.
//
// Invariants
//  1. Members are made in their order and go in the reverse, so what is used stands before its user, in a
//     group and from group to group; a thread stands before those who give it work.
//  2. Nothing is decided before Leader::start(); timers go off, and answers of threads come, once the loop
//     runs.
//  3. Serving joins the side threads when the loop has ended, before any of this goes: no work of theirs
//     finds its object gone.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api/accounts/accounts.h"
#include "api/handlers/history.h"
#include "db/pg/pg_accounts.h"
#include "db/pg/pg_retention.h"
#include "scheduler/flags.h"
#include "scheduler/home.h"
#include "scheduler/repeated.h"
#include "scheduler/secrets/secret_vault.h"
#include "scheduler/service/leader.h"
#include "scheduler/service/leader_proxy.h"
#include "scheduler/service/oidc_keys.h"
#include "scheduler/service/replay_process.h"
#include "scheduler/service/report_writer.h"
#include "scheduler/service/side_thread.h"
#include "scheduler/service/term_notice.h"
#include "scheduler/service/waiting_record.h"
#include "scheduler/service/webhooks.h"
#include "scheduler/service/worker_hub.h"
#include "scheduler/trace/job_tracer.h"
#include "scheduler/trace/span_exporter.h"

namespace tutti {

/// The one writer, its store, and the connections of workers.
struct LeaderParts {
  LeaderParts(Home& home, const Flags& f);

  LeaseTable leases;
  std::shared_ptr<const FaultTable> fault_table;  // null: the built-in one
  Metrics metrics;
  StoreThread store;
  std::optional<decisions::DecisionLog> decision_log;
  Leader leader;
  WorkerHub hub;
  SideThread secret_thread;
  SecretVault vault;
};

/// Who may sign in.
struct AccountParts {
  AccountParts(Home& home, const Flags& f, LeaderParts& lead);

  db::PgAccounts store;
  SideThread thread, hash_thread;
  Accounts accounts;
  Repeated timer;
  SideThread fetch_thread;  // of the identity provider's keys
  OidcKeys oidc_keys;
};

/// Messages to other people's servers.
struct WebhookParts {
  WebhookParts(Home& home, const Flags& f, LeaderParts& lead);

  SideThread thread;
  CurlPoster poster;
  Webhooks webhooks;
};

/// What is written beside the scheduling rows: why jobs waited, what was measured, spans; and how what is old
/// goes.
struct RecordParts {
  RecordParts(Home& home, const Flags& f, LeaderParts& lead);

  SideThread thread;
  WaitingRecord waiting;
  SideThread series_writer, series_reader;
  SeriesRecord series;
  SideThread retention_thread;
  std::shared_ptr<db::PgRetention> retention;
  HistoryKeeper keeper;
  SideThread trace_thread;
  std::optional<trace::SpanExporter> spans;  // neither of the two: nothing is traced
  std::optional<trace::JobTracer> tracer;
  Repeated timer;

 private:
  void begin_tracing(const MetricsFlags& f);
  void step();  // every second

  LeaderParts& lead_;
};

/// Questions about the past, replays among them, and the reports of days that are made of their answers.
struct HistoryParts {
  HistoryParts(Home& home, const Flags& f, LeaderParts& lead, RecordParts& records);

  SideThread thread, replay_thread;
  ReplayProcess replays;
  History history;
  ReportWriter reports;
  Repeated report_timer;
};

/// Other schedulers on the same database: requests handed to the leader, and what leaders of before are told.
struct ReplicaParts {
  ReplicaParts(Home& home, const Flags& f, LeaderParts& lead);

  std::string own_url;  // where others reach us; "" until we listen
  LeaderProxy proxy;
  Repeated proxy_timer;
  SideThread notice_thread;
  TermNotice notice;
};

}  // namespace tutti
