#include "scheduler/parts.h"

#include <sodium.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "db/pg/pg_history.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_secrets.h"
#include "db/pg/pg_series.h"
#include "db/pg/pg_store.h"
#include "db/pg/pg_waiting_reasons.h"
#include "db/pg/pg_webhooks.h"
#include "scheduler/checked_rows.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/sealed.h"

namespace tutti {
namespace {

constexpr std::size_t kQuestions = 32;  // of the past, that wait for the one before

Duration every_second() { return std::chrono::seconds(1); }

std::uint64_t random_bits() {
  std::uint64_t bits = 0;
  randombytes_buf(&bits, sizeof bits);
  return bits;
}

std::string holder_name() {
  char host[256] = "?";
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + ":" + std::to_string(::getpid());
}

}  // namespace

LeaderParts::LeaderParts(Home& home, const Flags& f)
    : leases(lease_settings(f)),
      fault_table(load_fault_table(f.fault_table)),
      metrics(fault_table ? *fault_table : FaultTable::built_in()),
      store(home.io.get_executor(),
            with_checked_rows(std::make_unique<db::PgStore>(store_options(home.db, leases.settings().lease))),
            std::make_shared<db::PgReader>(home.db), 2,
            std::make_shared<db::PgReader>(watcher_options(home.db))),
      leader(home.io.get_executor(), leader_settings(f, fault_table, holder_name()), store, leases, metrics),
      hub(home.io.get_executor(), leader, leases, metrics, home.key),
      secret_thread(home.io.get_executor()),
      vault(std::make_shared<db::PgSecrets>(home.db), secret_thread.aside(), home.key) {
  if (auto settings = decision_log_settings(f.decisions, home.data, f.fault_table))
    leader.watched_by(decision_log.emplace(*std::move(settings)));
  hub.use_secrets(vault);
}

AccountParts::AccountParts(Home& home, const Flags& f, LeaderParts& lead)
    : store(home.db),
      thread(home.io.get_executor()),
      hash_thread(home.io.get_executor()),
      accounts(store, thread.aside(), hash_thread.aside(), account_settings(f.accounts, home.token),
               [&leader = lead.leader] { return leader.now().wall; }),
      timer(
          home.io,
          // What the leader changes is asked of a standby the moment after it has taken over.
          [this, &leader = lead.leader]() -> Duration {
            return std::chrono::seconds(accounts.loaded() && leader.leads() ? 5 : 1);
          },
          [this] { accounts.refresh(); }),
      fetch_thread(home.io.get_executor()),
      oidc_keys(home.io.get_executor(), fetch_thread.aside(), f.accounts.oidc, accounts.oidc()) {
  accounts.start();
  accounts.on_unknown_key([this] { oidc_keys.fetch_soon(); });
}

WebhookParts::WebhookParts(Home& home, const Flags& f, LeaderParts& lead)
    : thread(home.io.get_executor()),
      poster(home.io.get_executor(), poster_settings(f)),
      webhooks(home.io.get_executor(), lead.leader, thread.aside(), std::make_shared<db::PgWebhooks>(home.db),
               poster, Sealer(home.key, "webhooks")) {}

RecordParts::RecordParts(Home& home, const Flags& f, LeaderParts& lead)
    : thread(home.io.get_executor()),
      waiting(lead.leader, thread.aside(), std::make_shared<db::PgWaitingReasons>(home.db)),
      series_writer(home.io.get_executor()),
      series_reader(home.io.get_executor(), 200),
      series(lead.leader, {series_writer.aside(), std::make_shared<db::PgSeries>(home.db)},
             {series_reader.aside(), std::make_shared<db::PgSeries>(home.db)},
             series_settings(f.metrics, lead.metrics)),
      retention_thread(home.io.get_executor()),
      retention(std::make_shared<db::PgRetention>(home.db)),
      keeper(retention_thread.aside(), retention, history_settings(f.metrics, lead.metrics),
             history_archive(f.metrics, retention)),
      trace_thread(home.io.get_executor(), 4),
      timer(home.io, every_second, [this] { step(); }),
      lead_(lead) {
  lead.hub.use_samples(series);
  if (!f.metrics.otlp_endpoint.empty()) begin_tracing(f.metrics);
}

void RecordParts::begin_tracing(const MetricsFlags& f) {
  spans.emplace(trace_thread.aside(), trace::http_sender(f.otlp_endpoint, std::chrono::seconds(5)),
                trace::SpanExporter::Settings{.version = TUTTI_VERSION});
  tracer.emplace(trace::JobTracer::Settings{.sample = f.trace_sample}, random_bits,
                 [this](trace::Span span) { spans->add(std::move(span)); });
  lead_.leader.observe([this](const Batch& batch, Duration deciding, Duration committing) {
    tracer->committed(batch, deciding, committing, lead_.leader.now().wall);
  });
}

void RecordParts::step() {
  Leader& leader = lead_.leader;
  if (spans) spans->step(), lead_.metrics.spans(spans->counts().sent, spans->counts().dropped);
  waiting.step(), series.step(), keeper.step(leader.leads(), now_of_machine());
  lead_.metrics.step(leader.leads() ? leader.plane() : nullptr, leader.now().mono);
}

HistoryParts::HistoryParts(Home& home, const Flags& f, LeaderParts& lead, RecordParts& records)
    : thread(home.io.get_executor(), kQuestions),
      replay_thread(home.io.get_executor(), 1),
      replays(ReplayProcess::this_program(f.replay_memory_mb)),
      history(std::make_shared<db::PgHistory>(home.db), thread.aside(), replay_thread.aside(),
              [replays = replays](const replay::Comparison& question) { return replays.compare(question); }),
      reports(lead.leader, &history, records.thread.aside(), f.metrics.report_dir),
      report_timer(home.io, every_second, [this] { reports.step(); }) {}

ReplicaParts::ReplicaParts(Home& home, const Flags& f, LeaderParts& lead)
    : proxy([this, &leader = lead.leader] { return leading(leader, own_url); }, ForwardMark(home.key),
            {.ca_file = f.replicas.ca_file}),
      proxy_timer(home.io, every_second, [this] { proxy.look(); }),
      notice_thread(home.io.get_executor(), 1),  // one round at a time, the others are left out
      notice(TermMark(home.key), {.ca_file = f.replicas.ca_file}) {
  lead.leader.tell_predecessors_by([this](std::vector<std::string> urls, Term ours) {
    notice_thread.run([this, urls = std::move(urls),
                       says = TermMark::Says{ours.value, holder_name()}] { notice.tell(urls, says); },
                      [](std::exception_ptr) {});
  });
}

}  // namespace tutti
