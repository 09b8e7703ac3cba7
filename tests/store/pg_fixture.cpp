#include "tests/store/pg_fixture.h"

#include <libpq-fe.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "db/migrate/migrate.h"

namespace tutti::test {

TemporaryDirectory::TemporaryDirectory() {
  char path[] = "/tmp/tutti-pg-XXXXXX";
  if (!::mkdtemp(path)) throw std::runtime_error("cannot make a directory in /tmp");
  path_ = path;
}
TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ec;
  std::filesystem::remove_all(path_, ec);
}

TestDatabase::TestDatabase(TestPostgres& server, std::string name)
    : server_(&server), name_(std::move(name)) {}
TestDatabase::TestDatabase(TestDatabase&& other) noexcept
    : server_(other.server_), name_(std::move(other.name_)) {
  other.server_ = nullptr;
}
TestDatabase::~TestDatabase() {
  if (!server_) return;
  try {
    server_->sql("postgres", "DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)");
  } catch (const std::exception&) {  // the server is down: a test wanted it so; the directory goes anyway
  }
}
std::string TestDatabase::connection_string() const { return server_->server().connection_string(name_); }
std::vector<std::string> TestDatabase::sql(const std::string& text) const {
  return server_->sql(name_, text);
}

TestPostgres& TestPostgres::instance() {
  static TestPostgres one;
  return one;
}

TestPostgres::TestPostgres()
    : server_([this] {
        db::EmbeddedOptions options;
        options.directory = directory_.path() + "/pg";
        options.fsync = false;
        return options;
      }()) {
  // The server's user must pass through; what lies inside has its own mode.
  ::chmod(directory_.path().c_str(), 0711);
  server_.start();
  sql("postgres", "CREATE DATABASE base");
  db::migrate(server_.connection_string("base"));
}

std::string TestPostgres::socket_path() const { return directory_.path() + "/pg/.s.PGSQL.5432"; }
std::string TestPostgres::next_name() { return "t" + std::to_string(++created_); }

TestDatabase TestPostgres::create_database() {
  auto name = next_name();
  sql("postgres", "CREATE DATABASE " + name + " TEMPLATE base STRATEGY file_copy");
  return {*this, std::move(name)};
}
TestDatabase TestPostgres::create_empty_database() {
  auto name = next_name();
  sql("postgres", "CREATE DATABASE " + name + " STRATEGY file_copy");
  return {*this, std::move(name)};
}

std::vector<std::string> TestPostgres::sql(const std::string& database, const std::string& text) {
  struct Close {
    void operator()(PGconn* c) const { PQfinish(c); }
    void operator()(PGresult* r) const { PQclear(r); }
  };
  std::unique_ptr<PGconn, Close> c(
      PQconnectdb((server_.connection_string(database) + " connect_timeout=5").c_str()));
  if (PQstatus(c.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(c.get()));
  PQsetNoticeProcessor(c.get(), [](void*, const char*) {}, nullptr);
  std::unique_ptr<PGresult, Close> r(PQexec(c.get(), text.c_str()));
  const auto status = PQresultStatus(r.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    const char* state = PQresultErrorField(r.get(), PG_DIAG_SQLSTATE);
    throw std::runtime_error(std::string(state ? state : "?") + " " + PQresultErrorMessage(r.get()));
  }
  std::vector<std::string> out;
  for (int i = 0; i < PQntuples(r.get()); ++i) out.emplace_back(PQgetvalue(r.get(), i, 0));
  return out;
}

}  // namespace tutti::test
