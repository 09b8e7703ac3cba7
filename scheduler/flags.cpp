#include "scheduler/flags.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ratio>
#include <stdexcept>
#include <utility>

#include "scheduler/planner/policy.h"

namespace tutti {
namespace {

void add_place_flags(CLI::App& app, Flags& f) {
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
}

void add_lease_flags(CLI::App& app, Flags& f) {
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
}

void add_fault_flags(CLI::App& app, Flags& f) {
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
}

void add_use_flags(CLI::App& app, Flags& f) {
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

}  // namespace

void add_flags(CLI::App& app, Flags& f) {
  add_http_flags(app, f.http);
  add_place_flags(app, f);
  add_lease_flags(app, f);
  add_fault_flags(app, f);
  add_account_flags(app, f.accounts);
  add_metrics_flags(app, f.metrics);
  add_replica_flags(app, f.replicas);
  add_decision_flags(app, f.decisions);
  add_use_flags(app, f);
}

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

LeaseSettings lease_settings(const Flags& f) {
  LeaseSettings settings;
  settings.lease = from_seconds(f.lease_seconds);
  settings.kill_margin = from_seconds(f.margin_seconds);
  settings.heartbeat = std::min<Duration>(settings.heartbeat, settings.lease / 6);
  settings.suspicion = std::min<Duration>(settings.suspicion, settings.lease / 2);
  return settings;
}

LeaderSettings leader_settings(const Flags& f, std::shared_ptr<const FaultTable> faults, std::string holder) {
  LeaderSettings settings;
  settings.holder = std::move(holder);
  ControlSettings& control = settings.control;
  control.policy = *planner::find_policy(f.policy);
  control.faults = std::move(faults);
  control.blame = f.blame;
  control.evidence_wait = from_seconds(f.evidence_seconds);
  control.continue_for = from_seconds(f.continue_minutes * 60);
  control.probation = from_seconds(f.probation_hours * 3600);
  control.inspect_after_failure = f.inspect_after_failure;
  control.inspect_idle_every = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::ratio<3600>>(f.inspect_idle_hours));
  return settings;
}

}  // namespace tutti
