#include "db/embedded/embedded_postgres.h"

#include <libpq-fe.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "db/embedded/postgres_files.h"
#include "db/embedded/postmaster.h"

namespace tutti::db {
namespace {

constexpr std::size_t kMaxSocketPath = 107;  // sizeof sockaddr_un.sun_path, less the final 0
constexpr const char* kSocketName = "/.s.PGSQL.5432";

struct Machine {
  OsUser user;
  std::optional<int> cluster;
  std::string bin;
};
Machine look_at_machine(const EmbeddedOptions& options) {
  Machine found{server_user(options.run_as), cluster_major(options.directory + "/data"), ""};
  found.bin = find_binaries(options.bin_directory, found.cluster.value_or(0));
  return found;
}

std::vector<std::string> child_environment() {
  // Not ours: PGDATA, PGOPTIONS, LD_PRELOAD and the like must not reach the server.
  const char* path = std::getenv("PATH");
  return {std::string("PATH=") + (path ? path : "/usr/bin:/bin"), "LC_ALL=C", "TZ=UTC"};
}

}  // namespace

EmbeddedPostgres::EmbeddedPostgres(EmbeddedOptions options) : options_(std::move(options)) {
  if (options_.directory.empty()) throw EmbeddedError("the embedded PostgreSQL needs a directory");
  options_.directory = std::filesystem::absolute(options_.directory).lexically_normal().string();
  if (options_.directory.size() > 1 && options_.directory.back() == '/') options_.directory.pop_back();
  if ((options_.directory + kSocketName).size() > kMaxSocketPath)
    throw EmbeddedError("the path " + options_.directory +
                        " is too long for a unix socket in it (at most 93 bytes): choose a shorter one");
}

EmbeddedPostgres::~EmbeddedPostgres() { stop(); }

void EmbeddedPostgres::make_cluster() {
  const OsUser user = server_user(options_.run_as);
  const std::string log = options_.directory + "/log/initdb.log";
  ChildOptions initdb;
  initdb.argv = {
      bin_ + "/initdb", "-D",          options_.directory + "/data", "-A", "trust", "-U", "postgres", "-E",
      "UTF8",           "--no-locale", "--no-instructions"};
  if (!options_.fsync) initdb.argv.emplace_back("--no-sync");
  initdb.environment = child_environment();
  initdb.log = log;
  if (!run_to_end(initdb, user, options_.start_timeout))
    throw EmbeddedError(
        "initdb failed in " + options_.directory +
        (user.change ? " (can user '" + user.name + "' reach that directory?)" : std::string()) + ": " +
        tail(log));
}

void EmbeddedPostgres::look() const { (void)look_at_machine(options_); }

void EmbeddedPostgres::start() {
  if (running()) return;
  postmaster_.reset();
  const std::string data = options_.directory + "/data";
  const auto [user, cluster, bin] = look_at_machine(options_);
  bin_ = bin;
  make_private_directory(options_.directory, user);
  make_private_directory(options_.directory + "/log", user);
  if (!cluster) make_cluster();
  wait_until_unlocked(data, std::chrono::seconds(5));

  ChildOptions server;
  server.argv = {bin_ + "/postgres",
                 "-D",
                 data,
                 "-c",
                 "listen_addresses=",
                 "-c",
                 "unix_socket_directories=" + options_.directory,
                 "-c",
                 "unix_socket_permissions=0700"};
  for (const auto& [key, value] : recommended_settings(data, options_.fsync)) {
    server.argv.emplace_back("-c");
    server.argv.push_back(key + "=" + value);
  }
  for (const auto& [key, value] : options_.settings) {
    server.argv.emplace_back("-c");
    server.argv.push_back(key + "=" + value);
  }
  server.environment = child_environment();
  server.log = options_.directory + "/log/postgres.log";
  server.death_signal = SIGINT;  // fast shutdown
  postmaster_ = std::make_unique<Postmaster>(std::move(server), user, data);
  try {
    postmaster_->wait_ready(options_.start_timeout);
    make_database();
  } catch (...) {
    stop();
    throw;
  }
}

void EmbeddedPostgres::make_database() {
  PGconn* c = PQconnectdb((connection_string("postgres") + " connect_timeout=5").c_str());
  std::string error;
  if (PQstatus(c) != CONNECTION_OK) {
    error = PQerrorMessage(c);
  } else {
    const char* name[] = {options_.database.c_str()};
    PGresult* r = PQexecParams(c, "SELECT 1 FROM pg_database WHERE datname = $1", 1, nullptr, name, nullptr,
                               nullptr, 0);
    const bool exists = PQntuples(r) > 0;
    PQclear(r);
    if (!exists) {
      char* quoted = PQescapeIdentifier(c, options_.database.c_str(), options_.database.size());
      r = PQexec(c, (std::string("CREATE DATABASE ") + (quoted ? quoted : "")).c_str());
      if (PQresultStatus(r) != PGRES_COMMAND_OK) error = PQerrorMessage(c);
      PQclear(r);
      PQfreemem(quoted);
    }
  }
  PQfinish(c);
  if (!error.empty())
    throw EmbeddedError("PostgreSQL is up, but database '" + options_.database +
                        "' cannot be made: " + error);
}

void EmbeddedPostgres::stop() {
  if (!postmaster_) return;
  // Fast: transactions are rolled back, a checkpoint is written. Immediate: recovery at the next start.
  if (!postmaster_->signal_and_wait(SIGINT, options_.stop_timeout) &&
      !postmaster_->signal_and_wait(SIGQUIT, std::chrono::seconds(6)))
    postmaster_->signal_and_wait(SIGKILL, std::chrono::seconds(2));
  postmaster_.reset();
}

bool EmbeddedPostgres::running() const { return postmaster_ && postmaster_->running(); }
int EmbeddedPostgres::pid() const { return postmaster_ ? postmaster_->pid() : 0; }

std::string EmbeddedPostgres::connection_string() const { return connection_string(options_.database); }

std::string EmbeddedPostgres::connection_string(const std::string& database) const {
  const auto quote = [](const std::string& value) {
    std::string out = "'";
    for (char c : value) {
      if (c == '\'' || c == '\\') out += '\\';
      out += c;
    }
    return out + "'";
  };
  return "host=" + quote(options_.directory) + " port=5432 user=postgres dbname=" + quote(database);
}

}  // namespace tutti::db
