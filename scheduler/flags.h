// The flags of tutti-scheduler, and what its parts are told because of them. Groups that stand for themselves
// have files of their own (account_flags.h, http_flags.h, …) and are added from here.
//
// Called by main.cpp and the wiring (home.h, parts.h, serving.h). Main thread, before anything is served, and
// the control thread when the configuration is read again. Nothing here starts anything.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config.h"
#include "db/embedded/embedded_postgres.h"
#include "scheduler/account_flags.h"
#include "scheduler/core/control_plane.h"
#include "scheduler/decision_flags.h"
#include "scheduler/http_flags.h"
#include "scheduler/metrics_flags.h"
#include "scheduler/replica_flags.h"
#include "scheduler/service/http_poster.h"
#include "scheduler/service/leader.h"

namespace tutti {

struct Flags {
  HttpFlags http;
  std::string data = "tutti-data";
  std::string console_dir;  // "" = no console is served
  std::string db, db_file;  // a connection string, or where it stands; neither = `embedded`
  bool embedded = false;    // main() sets it when no database is named
  bool embedded_no_fsync = false;
  std::string log_level = "info";
  double lease_seconds = 6;
  double margin_seconds = 1.5;
  double continue_minutes = 10;
  double evidence_seconds = 2;
  std::string policy = "fair";
  bool inspect_after_failure = true;
  double inspect_idle_hours = 24;        // 0 = never
  double shell_idle_hours = 12;          // likewise
  std::int64_t replay_memory_mb = 4096;  // MiB; 0 = no limit
  bool migrate_only = false;
  std::string fault_table;  // a file; "" = the built-in table
  BlameLimits blame;
  double probation_hours = 24;
  AccountFlags accounts;
  std::vector<std::string> webhook_allow;  // networks and hosts; none = all that is public
  MetricsFlags metrics;
  ReplicaFlags replicas;
  DecisionFlags decisions;
};

/// In the order of --help.
void add_flags(CLI::App& app, Flags& f);

/// What was said on the command line, in the environment and in the file (daemon/config.h). To read all that
/// again one is made anew: CLI11 keeps what it has read.
struct CommandLine {
  CLI::App app{
      "tutti-scheduler: one or several on one PostgreSQL, of which one leads; one worker per GPU machine"};
  Flags flags;
  daemon::Configuration configuration{(add_flags(app, flags), app), "tutti-scheduler"};
};

/// Null: no file is named, the built-in table holds. Throws std::runtime_error that names file and line.
std::shared_ptr<const FaultTable> load_fault_table(const std::string& file);

/// Where webhooks may go. Throws std::runtime_error naming the flag.
CurlPoster::Settings poster_settings(const Flags& f);

/// Of the PostgreSQL in the data directory.
db::EmbeddedOptions embedded_options(const Flags& f);

LeaseSettings lease_settings(const Flags& f);

/// `faults`: of load_fault_table(). `holder`: who we are, for people.
LeaderSettings leader_settings(const Flags& f, std::shared_ptr<const FaultTable> faults, std::string holder);

}  // namespace tutti
