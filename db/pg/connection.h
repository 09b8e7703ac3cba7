// A thin layer over libpq: connect, run, run many in one flush. libpq and not libpqxx, because the writer
// needs what libpqxx 6 lacks: pipeline mode (a transaction of ten statements costs one round trip), binary
// parameters (no quoting), a deadline on every wait, and no re-opening of a lost session behind our back.
//
// Called by: PgStore (its database thread), PgReader (one connection per reading thread). Not thread-safe.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "db/pg/params.h"
#include "db/pg/result.h"

namespace tutti::db {

// The server refused a statement. The session goes on.
class SqlError : public std::runtime_error {
 public:
  SqlError(std::string state, const std::string& message)
      : std::runtime_error(message), sqlstate(std::move(state)) {}
  std::string sqlstate;
};

// The session is gone, or a deadline has passed and it was closed: nobody knows what the server did last.
class ConnectionLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ConnectOptions {
  std::string connection_string;  // unchanged to libpq
  std::string application_name;   // unless the string names one
  std::string session_sql;        // run once after connecting: SET …
  // It leaves a server that has not answered another session of this process in time (server_order.h).
  bool follows = false;
};

struct Statement {
  const char* name = "";  // prepared at first use in a session; "" = `sql` is sent as it is
  const char* sql;
};

class Connection {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // Throws ConnectionLost. Waits 2 s per host, unless the string has a connect_timeout. Of several hosts
  // those that have been silent are asked last.
  explicit Connection(const ConnectOptions& options);

  // One statement, one round trip. `params` may be null.
  Result run(const Statement& statement, Params* params, Deadline deadline);
  // COPY (…) TO STDOUT (FORMAT binary): `row` is given each tuple as it comes, while the server goes on, so
  // that no answer is held as a whole. What `row` throws closes the session.
  void copy_out(const std::string& sql, const std::function<void(RowReader&)>& row, Deadline deadline);
  // Text that may hold several statements, without parameters.
  Result run_script(const std::string& sql, Deadline deadline);

  bool alive() const { return PQstatus(connection_.get()) == CONNECTION_OK; }
  // Looks whether the server has closed an idle session, without asking it. Also true if it is to be left.
  bool closed_by_server();
  void close();                                          // at once; alive() is false from then on
  const std::string& server() const { return server_; }  // "host:port"
  int backend_pid() const { return PQbackendPID(connection_.get()); }
  bool in_transaction() const {
    const auto s = PQtransactionStatus(connection_.get());
    return s == PQTRANS_INTRANS || s == PQTRANS_INERROR;
  }

 private:
  friend class Pipeline;
  bool is_left_alone() const;
  void send(const Statement& statement, Params* params);
  bool is_prepared(const char* name) const;
  void flush(Deadline deadline);
  void wait(short events, Deadline deadline);
  PGresult* next_result(Deadline deadline);         // may be null: the end of a statement's results
  std::string_view next_copied(Deadline deadline);  // empty: there are no more; valid until the next call
  [[noreturn]] void lost(const std::string& what);

  std::unique_ptr<PGconn, void (*)(PGconn*)> connection_;
  std::unique_ptr<char, void (*)(void*)> copied_{nullptr, PQfreemem};
  std::vector<std::string> prepared_;
  bool follows_;
  std::string server_;
  std::uint64_t silent_before_ = 0;  // of the server, when the session began
};

// Several statements in one flush, answered in order. The first error skips the rest.
class Pipeline {
 public:
  explicit Pipeline(Connection& connection);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  void add(const Statement& statement, Params params = {});
  std::size_t size() const { return items_.size(); }

  // Sends all, waits for all. Throws SqlError, also when the server closes the session but says why, or
  // ConnectionLost. failed_at() is then the statement that was refused, or the first one without an answer;
  // all before it were carried out, none behind it if it was refused.
  void run(Connection::Deadline deadline);
  std::size_t failed_at() const { return failed_at_; }

 private:
  Connection& connection_;
  struct Item {
    Statement statement;
    Params params;
  };
  std::vector<Item> items_;
  std::size_t failed_at_ = 0;
};

}  // namespace tutti::db
