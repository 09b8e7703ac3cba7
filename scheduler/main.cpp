// tutti-scheduler: flags and wiring. The parts are in scheduler/service (leader, workers' connections,
// metrics), api/handlers (REST) and db (store). One control thread runs everything but blocking database
// calls.
#include <sodium.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <new>
#include <optional>

#include "api/accounts/accounts.h"
#include "api/handlers/console.h"
#include "api/handlers/history.h"
#include "api/handlers/limits.h"
#include "api/handlers/routes.h"
#include "api/http/server.h"
#include "daemon/config.h"
#include "daemon/folder.h"
#include "daemon/last_words.h"
#include "daemon/notify.h"
#include "db/embedded/embedded_postgres.h"
#include "db/migrate/migrate.h"
#include "db/pg/pg_accounts.h"
#include "db/pg/pg_history.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_retention.h"
#include "db/pg/pg_secrets.h"
#include "db/pg/pg_series.h"
#include "db/pg/pg_store.h"
#include "db/pg/pg_waiting_reasons.h"
#include "db/pg/pg_webhooks.h"
#include "scheduler/account_flags.h"
#include "scheduler/check_config.h"
#include "scheduler/checked_rows.h"
#include "scheduler/decision_flags.h"
#include "scheduler/http_flags.h"
#include "scheduler/log/log_format.h"
#include "scheduler/metrics_flags.h"
#include "scheduler/replica_flags.h"
#include "scheduler/secrets/secret_vault.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/http_poster.h"
#include "scheduler/service/leader.h"
#include "scheduler/service/leader_proxy.h"
#include "scheduler/service/local_files.h"
#include "scheduler/service/oidc_keys.h"
#include "scheduler/service/replay_process.h"
#include "scheduler/service/report_writer.h"
#include "scheduler/service/sealed.h"
#include "scheduler/service/side_thread.h"
#include "scheduler/service/term_notice.h"
#include "scheduler/service/waiting_record.h"
#include "scheduler/service/webhooks.h"
#include "scheduler/service/worker_hub.h"
#include "scheduler/trace/job_tracer.h"
#include "scheduler/trace/span_exporter.h"
#include "scheduler/watchdog.h"

namespace asio = boost::asio;
using namespace tutti;

namespace {

struct Flags {
  HttpFlags http;
  std::string data = "tutti-data";
  std::string console_dir;
  std::string db, db_file;
  bool embedded = false;
  bool embedded_no_fsync = false;
  std::string log_level = "info";
  double lease_seconds = 6;
  double margin_seconds = 1.5;
  double continue_minutes = 10;
  double evidence_seconds = 2;
  std::string policy = "fair";
  bool inspect_after_failure = true;
  double inspect_idle_hours = 24;
  double shell_idle_hours = 12;
  std::int64_t replay_memory_mb = 4096;
  bool migrate_only = false;
  std::string fault_table;
  BlameLimits blame;
  double probation_hours = 24;
  AccountFlags accounts;
  std::vector<std::string> webhook_allow;
  MetricsFlags metrics;
  ReplicaFlags replicas;
  DecisionFlags decisions;
};

void add_flags(CLI::App& app, Flags& f) {
  add_http_flags(app, f.http);
  app.add_option("--data", f.data, "directory for token, keys and the embedded database")
      ->capture_default_str();
  app.add_option("--console-dir", f.console_dir,
                 "serve the web console at /console/ from this directory (console/dist after npm run build); "
                 "default: "
                 "../share/tutti/console beside the program, where that is installed")
      ->check(CLI::ExistingDirectory);
  auto* db = app.add_option("--db", f.db, "connection string of a PostgreSQL >= 15 (several hosts allowed)");
  auto* db_file = app.add_option("--db-file", f.db_file,
                                 "file whose first line is the connection string: for one with a password")
                      ->excludes(db);
  app.add_flag("--embedded-db", f.embedded,
               "run a private PostgreSQL in the data directory (default without --db)")
      ->excludes(db)
      ->excludes(db_file);
  app.add_flag("--embedded-db-no-fsync", f.embedded_no_fsync, "tests only: a power cut may lose everything");
  app.add_option("--log-level", f.log_level, "how much is written to the log; read again on SIGHUP")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--lease", f.lease_seconds, "seconds a node may run without hearing from us (3 to 60)")
      ->check(CLI::Range(1.0, 60.0))
      ->capture_default_str();
  app.add_option("--kill-margin", f.margin_seconds, "seconds added before its work is placed elsewhere")
      ->check(CLI::Range(0.2, 60.0))
      ->capture_default_str();
  app.add_option(
         "--continue-minutes", f.continue_minutes,
         "so long a job goes on while no scheduler is there, if its nodes hear each other; 0: it ends "
         "with the lease")
      ->check(CLI::Range(0.0, 60.0 * 24))
      ->capture_default_str();
  app.add_option("--policy", f.policy,
                 "fair: shares, short jobs first, backfill; checkpoint: stops long jobs for "
                 "short ones, for clusters where jobs save their work; las, easy, fifo")
      ->check(CLI::IsMember({"fair", "checkpoint", "las", "easy", "fifo"}))
      ->capture_default_str();
  app.add_option("--fault-table", f.fault_table,
                 "what is done about GPU faults, instead of the built-in table (docs/faults.md)")
      ->check(CLI::ExistingFile);
  app.add_option("--evidence-wait", f.evidence_seconds,
                 "seconds for which a failure that would end its job waits for a GPU fault that explains it")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
  app.add_option("--gpu-faults-a-day", f.blame.gpu_faults_a_day,
                 "a GPU at fault so often stays quarantined after its reset; 0 = never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--node-faults-a-week", f.blame.node_faults_a_week,
                 "a node at fault so often is quarantined; 0 = never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--probation-hours", f.probation_hours,
                 "of a node back from repair; doubles with each return")
      ->check(CLI::Range(0.0, 720.0))
      ->capture_default_str();
  app.add_option("--inspect-after-failure", f.inspect_after_failure,
                 "inspect the nodes of attempts that failed by no user's fault")
      ->capture_default_str();
  app.add_option("--inspect-idle-hours", f.inspect_idle_hours,
                 "inspect nodes that have nothing to do so often; 0: never")
      ->check(CLI::Range(0.0, 24.0 * 365))
      ->capture_default_str();
  add_account_flags(app, f.accounts);
  add_metrics_flags(app, f.metrics);
  add_replica_flags(app, f.replicas);
  add_decision_flags(app, f.decisions);
  app.add_option(
         "--webhook-allow", f.webhook_allow,
         "networks (10.0.0.0/8) and hosts (hooks.example.com, .example.com) that webhooks may reach, "
         "several with commas; default: all but this machine, link-local addresses and metadata services")
      ->delimiter(',');
  app.add_option("--shell-idle-hours", f.shell_idle_hours,
                 "a command of tutti exec is ended when nothing is typed or written for so long; 0: never")
      ->check(CLI::Range(0.0, 24.0 * 365))
      ->capture_default_str();
  app.add_option("--replay-memory-mb", f.replay_memory_mb,
                 "MiB that a replay of the past under another policy may take, in its process; 0: no limit")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_flag("--migrate-only", f.migrate_only, "bring the database to this version's schema and exit");
}

struct CommandLine {
  CLI::App app{
      "tutti-scheduler: one or several on one PostgreSQL, of which one leads; one worker per GPU machine"};
  Flags flags;
  daemon::Configuration configuration{(add_flags(app, flags), app), "tutti-scheduler"};
};

std::shared_ptr<const FaultTable> load_fault_table(const std::string& file) {
  if (file.empty()) return nullptr;
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto table = FaultTable::parse(text);
  if (!table)
    throw std::runtime_error(file + ": " + table.error().message +
                             (table.error().hint.empty() ? "" : " (" + table.error().hint + ")"));
  spdlog::info("fault table {} from {}", table->id(), file);
  return std::make_shared<const FaultTable>(*std::move(table));
}

void log_certificate(http::TlsServer::Event event, const std::string& line) {
  if (event == http::TlsServer::Event::renewed)
    spdlog::info(line);
  else
    spdlog::error(line);
}

CurlPoster::Settings poster_settings(const Flags& f) {
  auto destinations = Destinations::parse(f.webhook_allow);
  if (!destinations)
    throw std::runtime_error("--webhook-allow: " + destinations.error().message + " (" +
                             destinations.error().hint + ")");
  CurlPoster::Settings settings;
  settings.destinations = *std::move(destinations);
  return settings;
}

db::EmbeddedOptions embedded_options(const Flags& f) {
  db::EmbeddedOptions options;
  options.directory = (std::filesystem::absolute(f.data) / "postgres").string();
  options.fsync = !f.embedded_no_fsync;
  return options;
}

// --check-config: an exit status. What the parts need at their start is made and thrown away.
int check(const Flags& f, bool full) {
  daemon::Findings found;
  found.look([&] {
    const auto config = server_config(f.http, [](auto, const auto&) {});
    (void)advertised_url(f.replicas, config, config.port);
  });
  found.look([&] { (void)load_fault_table(f.fault_table); });
  found.look([&] { (void)poster_settings(f); });
  found.look([&] { (void)account_settings(f.accounts, ""); });
  found.look([&] { daemon::look_at_secret("--tls-key", f.http.tls.key); });
  found.look([&] { daemon::look_at_secret("--db-file", f.db_file); });
  found.look([&] { check_data(f.data); });
  check_metrics(found, f.metrics);
  found.look([&] { check_console(f.console_dir); });
  found.look(
      [&] { f.embedded ? db::EmbeddedPostgres(embedded_options(f)).look() : check_database(f.db, full); });
  return found.finish("tutti-scheduler");
}

// Keys that a running scheduler takes over on SIGHUP, beside the certificates.
bool reloaded(const std::string& key) {
  return key == "log-level" || key.starts_with("requests-per-second") || key.starts_with("login-") ||
         key == "submissions-per-minute";
}

// Does something again and again, as long as it lives.
class Repeated {
 public:
  /// `pause` is asked before each wait, `work` is done after it.
  Repeated(asio::io_context& io, std::function<Duration()> pause, std::function<void()> work)
      : timer_(io), pause_(std::move(pause)), work_(std::move(work)) {
    wait();
  }
  void stop() { timer_.cancel(); }

 private:
  void wait() {
    timer_.expires_after(pause_());
    timer_.async_wait([this](boost::system::error_code ec) {
      if (ec) return;
      work_();
      wait();
    });
  }
  asio::steady_timer timer_;
  std::function<Duration()> pause_;
  std::function<void()> work_;
};

// SIGHUP: files that OpenSSL reads (the server looks for those itself, too) and the configuration are read
// again.
class ReloadSignal {
 public:
  ReloadSignal(asio::io_context& io, std::function<void()> work)
      : work_(std::move(work)), signals_(io, SIGHUP) {
    wait();
  }
  void stop() { signals_.cancel(); }

 private:
  void wait() {
    signals_.async_wait([this](boost::system::error_code ec, int) {
      if (ec) return;
      work_();
      wait();
    });
  }
  std::function<void()> work_;
  asio::signal_set signals_;
};

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

// Starts the database if it is ours, and keeps it running: it is looked at every second. Starting it again
// may take as long as its crash recovery does, so that happens on a thread of its own: heartbeats are
// answered meanwhile.
class OwnDatabase {
 public:
  OwnDatabase(asio::io_context& io, const Flags& f) : io_(io), timer_(io) {
    const auto options = embedded_options(f);
    server_ = std::make_unique<db::EmbeddedPostgres>(options);
    spdlog::info("starting the embedded PostgreSQL in {}", options.directory);
    server_->start();
    watch();
  }
  void stop() {
    timer_.cancel();
    starter_.join();
    server_->stop();
  }
  std::string connection_string() const { return server_->connection_string(); }

 private:
  void watch() {
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([this](boost::system::error_code ec) {
      if (ec) return;
      if (server_->running()) return watch();
      spdlog::error("the embedded PostgreSQL has ended; starting it again");
      asio::post(starter_, [this] {
        try {
          server_->start();
        } catch (const std::exception& e) {
          spdlog::error("cannot start it: {}", e.what());
        }
        asio::post(io_, [this] { watch(); });
      });
    });
  }
  asio::io_context& io_;
  std::unique_ptr<db::EmbeddedPostgres> server_;
  asio::thread_pool starter_{1};
  asio::steady_timer timer_;
};

// Of who leads: an old answer is of no use.
db::PgReaderOptions watcher_options(const std::string& db) {
  db::PgReaderOptions options;
  options.connection_string = db;
  options.application_name = "tutti-watch";
  options.max_connections = 1;
  options.statement_timeout = std::chrono::seconds(2);
  return options;
}

int newest_schema() { return static_cast<int>(db::embedded_migrations().size()); }

void migrate_when_reachable(const std::string& db) {
  for (int attempt = 1;; ++attempt) {
    try {
      const db::MigrateResult result = db::migrate(db);
      for (const auto& m : result.applied) spdlog::info("schema: applied {}", m);
      if (result.to > newest_schema())
        spdlog::warn(
            "schema: version {} is of a newer scheduler; this one serves it, and wants to be upgraded",
            result.to);
      return;
    } catch (const db::SchemaRefused&) {
      throw;
    } catch (const db::MigrateError& e) {
      if (attempt == 60) throw;
      spdlog::warn("schema: {}", e.what());
      ::usleep(500'000);
    }
  }
}

// `reread`: the command line anew, with the file as it is now; throws what is wrong with it.
int run(const CommandLine& line, const std::function<std::unique_ptr<CommandLine>()>& reread) {
  const Flags& f = line.flags;
  daemon::ServiceManager manager;
  set_log_format(f.metrics.log_format, "tutti-scheduler");
  daemon::make_folder("--data", f.data);
  const std::filesystem::path data = std::filesystem::absolute(f.data);
  std::optional<DataLock> lock;
  if (!f.migrate_only) lock.emplace(data);
  const std::string token = load_or_make_secret((data / "token").string());
  const std::string key = load_or_make_secret((data / "secret").string());

  asio::io_context io(1);
  std::unique_ptr<OwnDatabase> own;
  if (f.embedded) own = std::make_unique<OwnDatabase>(io, f);
  const std::string db = own ? own->connection_string() : f.db;
  migrate_when_reachable(db);
  if (f.migrate_only) {
    if (own) own->stop();
    return 0;
  }

  LeaseSettings lease_settings;
  lease_settings.lease = from_seconds(f.lease_seconds);
  lease_settings.kill_margin = from_seconds(f.margin_seconds);
  lease_settings.heartbeat = std::min<Duration>(lease_settings.heartbeat, lease_settings.lease / 6);
  lease_settings.suspicion = std::min<Duration>(lease_settings.suspicion, lease_settings.lease / 2);
  LeaseTable leases(lease_settings);
  const auto fault_table = load_fault_table(f.fault_table);
  Metrics metrics(fault_table ? *fault_table : FaultTable::built_in());
  db::PgStoreOptions store_options;
  store_options.connection_string = db;
  store_options.leader_idle_timeout = frozen_after(lease_settings.lease);
  store_options.schema = newest_schema();
  StoreThread store(io.get_executor(), with_checked_rows(std::make_unique<db::PgStore>(store_options)),
                    std::make_shared<db::PgReader>(db), 2,
                    std::make_shared<db::PgReader>(watcher_options(db)));
  LeaderSettings leader_settings;
  leader_settings.holder = holder_name();
  leader_settings.control.policy = *planner::find_policy(f.policy);
  leader_settings.control.faults = fault_table;
  leader_settings.control.blame = f.blame;
  leader_settings.control.evidence_wait = from_seconds(f.evidence_seconds);
  leader_settings.control.continue_for = from_seconds(f.continue_minutes * 60);
  leader_settings.control.probation = from_seconds(f.probation_hours * 3600);
  leader_settings.control.inspect_after_failure = f.inspect_after_failure;
  leader_settings.control.inspect_idle_every = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::ratio<3600>>(f.inspect_idle_hours));
  std::optional<decisions::DecisionLog> decision_log;
  if (auto settings = decision_log_settings(f.decisions, data, f.fault_table))
    decision_log.emplace(*std::move(settings));
  Leader leader(io.get_executor(), leader_settings, store, leases, metrics);
  if (decision_log) leader.watched_by(*decision_log);
  WorkerHub hub(io.get_executor(), leader, leases, metrics, key);
  SideThread secret_thread(io.get_executor());
  SecretVault vault(std::make_shared<db::PgSecrets>(db), secret_thread.aside(), key);
  hub.use_secrets(vault);

  db::PgAccounts account_store(db);
  SideThread account_thread(io.get_executor()), hash_thread(io.get_executor());
  Accounts accounts(account_store, account_thread.aside(), hash_thread.aside(),
                    account_settings(f.accounts, token), [&] { return leader.now().wall; });
  accounts.start();
  // What the leader changes is asked of a standby the moment after it has taken over.
  Repeated account_timer(
      io, [&]() -> Duration { return std::chrono::seconds(accounts.loaded() && leader.leads() ? 5 : 1); },
      [&] { accounts.refresh(); });
  SideThread fetch_thread(io.get_executor());
  OidcKeys oidc_keys(io.get_executor(), fetch_thread.aside(), f.accounts.oidc, accounts.oidc());
  accounts.on_unknown_key([&] { oidc_keys.fetch_soon(); });
  SideThread webhook_thread(io.get_executor());
  CurlPoster poster(io.get_executor(), poster_settings(f));
  Webhooks webhooks(io.get_executor(), leader, webhook_thread.aside(), std::make_shared<db::PgWebhooks>(db),
                    poster, Sealer(key, "webhooks"));
  SideThread record_thread(io.get_executor());
  WaitingRecord record(leader, record_thread.aside(), std::make_shared<db::PgWaitingReasons>(db));
  SideThread series_writer(io.get_executor()), series_reader(io.get_executor(), 200);
  SeriesRecord series(leader, {series_writer.aside(), std::make_shared<db::PgSeries>(db)},
                      {series_reader.aside(), std::make_shared<db::PgSeries>(db)},
                      series_settings(f.metrics, metrics));
  hub.use_samples(series);
  SideThread retention_thread(io.get_executor());
  const auto retention = std::make_shared<db::PgRetention>(db);
  HistoryKeeper keeper(retention_thread.aside(), retention, history_settings(f.metrics, metrics),
                       history_archive(f.metrics, retention));
  SideThread trace_thread(io.get_executor(), 4);
  std::optional<trace::SpanExporter> spans;
  std::optional<trace::JobTracer> tracer;
  if (!f.metrics.otlp_endpoint.empty()) {
    spans.emplace(trace_thread.aside(), trace::http_sender(f.metrics.otlp_endpoint, std::chrono::seconds(5)),
                  trace::SpanExporter::Settings{.version = TUTTI_VERSION});
    tracer.emplace(trace::JobTracer::Settings{.sample = f.metrics.trace_sample}, random_bits,
                   [&](trace::Span span) { spans->add(std::move(span)); });
    leader.observe([&](const Batch& batch, Duration deciding, Duration committing) {
      tracer->committed(batch, deciding, committing, leader.now().wall);
    });
  }
  const auto step_records = [&] {
    if (spans) spans->step(), metrics.spans(spans->counts().sent, spans->counts().dropped);
    record.step(), series.step(), keeper.step(leader.leads(), now_of_machine());
    metrics.step(leader.leads() ? leader.plane() : nullptr, leader.now().mono);
  };
  Repeated record_timer(io, []() -> Duration { return std::chrono::seconds(1); }, step_records);
  constexpr std::size_t kQuestions = 32;  // of the past, that wait for the one before
  SideThread history_thread(io.get_executor(), kQuestions), replay_thread(io.get_executor(), 1);
  const ReplayProcess replays(ReplayProcess::this_program(f.replay_memory_mb));
  History history(std::make_shared<db::PgHistory>(db), history_thread.aside(), replay_thread.aside(),
                  [replays](const replay::Comparison& question) { return replays.compare(question); });
  ReportWriter reports(leader, &history, record_thread.aside(), f.metrics.report_dir);
  Repeated report_timer(io, []() -> Duration { return std::chrono::seconds(1); }, [&] { reports.step(); });
  Services services;
  services.history = &history;
  services.tracing = tracer ? &*tracer : nullptr;
  services.waiting = &record;
  services.series = &series;
  services.accounts = &accounts;
  services.webhooks = &webhooks;
  std::string own_url;
  LeaderProxy proxy([&] { return leading(leader, own_url); }, ForwardMark(key),
                    {.ca_file = f.replicas.ca_file});
  services.forwarding = &proxy;
  Repeated proxy_timer(io, []() -> Duration { return std::chrono::seconds(1); }, [&] { proxy.look(); });
  SideThread notice_thread(io.get_executor(), 1);  // one round at a time, the others are left out
  TermNotice notice(TermMark(key), {.ca_file = f.replicas.ca_file});
  leader.tell_predecessors_by([&](std::vector<std::string> urls, Term ours) {
    notice_thread.run([&notice, urls = std::move(urls),
                       says = TermMark::Says{ours.value, holder_name()}] { notice.tell(urls, says); },
                      [](std::exception_ptr) {});
  });

  const auto config = server_config(f.http, log_certificate);
  http::Router router;
  HandlerSettings handlers;
  handlers.leases = lease_settings;
  handlers.tls = config.tls != nullptr;
  const auto clock = [&leader] { return leader.now().mono; };
  std::optional<Limits> limits(std::in_place, limit_settings(f.http), clock);
  services.limits = &*limits;
  services.secrets = &vault;
  services.shells = &hub.shells();
  hub.shells().set_idle(from_seconds(f.shell_idle_hours * 3600));
  add_routes(router, leader, handlers, services);
  if (!f.console_dir.empty()) add_console(router, f.console_dir);
  router.websocket(
      std::string(kWorkerRoute),
      [&](http::Request request, std::shared_ptr<http::Link> link) {
        const auto* who = std::any_cast<Identity>(&request.identity);
        const bool is_node = who != nullptr && who->kind == Identity::Kind::node;
        if (who != nullptr) keep_judging_worker(accounts, *who, link);
        hub.accept(std::move(link), is_node ? who->name : "");
      },
      "worker");
  add_term_route(router, TermMark(key), [&](const TermMark::Says& says) {
    const bool ends = leader.leads() && Term(says.term) > leader.term();
    if (ends) asio::post(io, [&leader, says] { leader.told_of_term(Term(says.term), says.holder); });
    return ends;  // said before it does
  });
  limits->weigh(router);
  http::Hooks hooks;
  hooks.arrive = seen_from_client(limits->arrive(), ForwardMark(key));
  hooks.before = limits->around(judged_by_leader(authenticate(accounts), proxy));
  hooks.after = [&](const http::AccessRecord& r) {
    metrics.request_done(http::to_string(r.method), r.route, r.status,
                         r.stream ? -1 : std::chrono::duration<double>(r.duration).count());
    if (!tracer || r.stream || r.traceparent.empty()) return;
    const Instant now = leader.now().wall;
    tracer->answered(r.traceparent, std::string(http::to_string(r.method)).append(" ").append(r.route),
                     r.status, now - std::chrono::duration_cast<Duration>(r.duration), now);
  };
  hooks.on_error = [](std::string_view what) { spdlog::error("http: {}", what); };
  if (const auto files = raise_file_limit(); files < config.max_connections + 256)
    spdlog::warn("only {} files may be open, too few for --max-connections {}", files,
                 config.max_connections);
  if (config.tls) spdlog::info("TLS certificate: {}", config.tls->description());
  http::HttpServer server(io.get_executor(), config, router, hooks);
  server.start();
  auto running = line.configuration.values();
  ReloadSignal reload_signal(io, [&] {
    manager.reloading();
    if (config.tls) config.tls->reload();
    try {
      const auto fresh = reread();
      limits.emplace(limit_settings(fresh->flags.http), clock);  // in its place: the hooks point there
      limits->weigh(router);
      spdlog::set_level(spdlog::level::from_str(fresh->flags.log_level));
      for (const auto& [key, value] : fresh->configuration.values())
        if (std::exchange(running[key], value) != value && !reloaded(key))
          spdlog::warn("--{} has changed: that needs a new start", key);
      spdlog::info("configuration read again");
    } catch (const std::exception& e) {
      spdlog::error("the configuration stays as it was: {}", e.what());
    }
    manager.ready(leader.status().detail);
  });
  const std::string url = local_url(config, server.port());
  write_file((data / "endpoint").string(), url + "\n", 0644);
  spdlog::info("listening on {}", url);
  LeaderCard card = leader_card(f.replicas, config, server.port(), data, {key, token});
  own_url = card.url;
  leader.introduce(std::move(card));

  Watchdog watchdog(io, manager, leader);
  int status = 0;
  bool stopping = false;
  auto stop = [&] {
    if (std::exchange(stopping, true)) return;
    server.stop();
    manager.stopping();
    reload_signal.stop();
    watchdog.stop();
    webhooks.stop();
    hub.close_all();
    account_timer.stop();
    record_timer.stop();
    report_timer.stop();
    proxy_timer.stop();
    series.finish();
    oidc_keys.stop();
    leader.stop([&] { io.stop(); });
  };
  leader.start(hub, [&](const std::string& why) {
    spdlog::error("deposed: {}; this process has nothing left to do", why);
    status = 3;
    stop();
  });
  webhooks.start();
  manager.ready("listening on " + url);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code ec, int) {
    if (!ec) spdlog::info("stopping");
    if (!ec) stop();
  });
  try {
    io.run();
  } catch (const std::bad_alloc&) {  // not torn down: whoever leads next begins with the rows
    daemon::end_without_memory("tutti-scheduler");
  }
  notice.let_go();  // --data is ours until it has ended
  for (SideThread* questions :
       {&series_reader, &history_thread, &replay_thread, &notice_thread, &trace_thread})
    questions->let_go();
  for (SideThread* side : {&secret_thread, &account_thread, &hash_thread, &fetch_thread, &webhook_thread,
                           &record_thread, &retention_thread, &series_writer, &series_reader, &history_thread,
                           &replay_thread, &notice_thread, &trace_thread})
    side->join();
  if (own) own->stop();
  spdlog::info("stopped");
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && argv[1] == kReplayVerb) return answer_one_replay(argv[2]);
  daemon::end_threads_without_memory("tutti-scheduler");
  // On SIGHUP made anew: CLI11 keeps what it has read.
  const auto complete = [](Flags& f) {
    if (!f.db_file.empty()) f.db = daemon::first_line_of("--db-file", f.db_file);
    f.embedded = f.db.empty();
    const auto own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const auto installed = (own / "../share/tutti/console").lexically_normal();
    if (f.console_dir.empty() && std::filesystem::exists(installed / "index.html")) f.console_dir = installed;
  };
  CommandLine line;
  if (const auto done = line.configuration.parse(argc, argv)) return *done;
  Flags& flags = line.flags;
  spdlog::set_level(spdlog::level::from_str(flags.log_level));
  spdlog::flush_on(spdlog::level::info);
  if (sodium_init() < 0) {
    std::cerr << "tutti-scheduler: libsodium cannot start\n";
    return 1;
  }
  try {
    complete(flags);
    using Check = daemon::Configuration::Check;
    if (const auto how = line.configuration.check(); how != Check::none)
      return check(flags, how == Check::full);
    return run(line, [&] {
      auto fresh = std::make_unique<CommandLine>();
      fresh->configuration.parse_again(argc, argv);
      return fresh;
    });
  } catch (const std::exception& e) {
    std::cerr << "tutti-scheduler: " << e.what() << '\n';
    return 1;
  }
}
