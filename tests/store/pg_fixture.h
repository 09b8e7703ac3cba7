// One PostgreSQL per test binary (fsync off), and databases in it: each a copy of a migrated template.
//
//   auto db = tutti::test::TestPostgres::instance().create_database();
//   PgStore store(db.connection_string());
//
// Started at the first call, stopped and removed when the binary ends (or by itself when it is killed).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "db/embedded/embedded_postgres.h"

namespace tutti::test {

// A directory below /tmp, short enough for sockets, removed with its contents.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TestPostgres;

// Dropped with its connections when it goes.
class TestDatabase {
 public:
  TestDatabase(TestPostgres& server, std::string name);
  ~TestDatabase();
  TestDatabase(TestDatabase&&) noexcept;
  TestDatabase& operator=(TestDatabase&&) = delete;

  std::string connection_string() const;
  const std::string& name() const { return name_; }
  // Runs SQL as superuser; the first column of the rows, as text. Throws std::runtime_error with the SQLSTATE
  // first.
  std::vector<std::string> sql(const std::string& text) const;

 private:
  TestPostgres* server_;
  std::string name_;
};

class TestPostgres {
 public:
  static TestPostgres& instance();

  TestDatabase create_database();  // with the schema
  TestDatabase create_empty_database();
  db::EmbeddedPostgres& server() { return server_; }
  std::string socket_path() const;
  std::vector<std::string> sql(const std::string& database, const std::string& text);

 private:
  TestPostgres();
  std::string next_name();

  TemporaryDirectory directory_;
  db::EmbeddedPostgres server_;
  int created_ = 0;
};

}  // namespace tutti::test
