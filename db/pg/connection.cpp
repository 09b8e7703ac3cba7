#include "db/pg/connection.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "db/pg/server_order.h"

namespace tutti::db {

namespace {

std::string trimmed(const char* message) {
  std::string s = message ? message : "";
  while (!s.empty() && (s.back() == '\n' || s.back() == ' ')) s.pop_back();
  return s;
}

bool is_error(const PGresult* r) {
  switch (PQresultStatus(r)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_PIPELINE_SYNC: return false;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
    case PGRES_PIPELINE_ABORTED:
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_COPY_BOTH:
    case PGRES_NONFATAL_ERROR:
    case PGRES_SINGLE_TUPLE: return true;
  }
  return true;
}

SqlError error_of(const PGresult* r) {
  const char* state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
  std::string text = trimmed(PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
  if (const char* detail = PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL))
    text += " (" + trimmed(detail) + ")";
  if (text.empty()) text = trimmed(PQresultErrorMessage(r));
  return {state ? state : "", text};
}

constexpr auto kConnectScriptTime = std::chrono::seconds(5);
constexpr auto kLookAround = std::chrono::milliseconds(500);

}  // namespace

Connection::Connection(const ConnectOptions& options)
    : connection_(nullptr, PQfinish), follows_(options.follows) {
  const HostLists hosts = silent_last(options.connection_string, SilentServers::of_process());
  // Of one server there is no other to go to: one slow answer there would end every session.
  if (hosts.host.empty() && hosts.hostaddr.empty()) follows_ = false;
  // Later values win: ours in front are defaults, what the string says comes after them. Empty hosts behind
  // it say nothing.
  std::vector<const char*> keys = {"connect_timeout",           "keepalives_idle",  "keepalives_interval",
                                   "keepalives_count",          "tcp_user_timeout", "dbname",
                                   "fallback_application_name", "client_encoding"};
  std::vector<const char*> values = {
      "2",   "5", "2", "3", "10000", options.connection_string.c_str(), options.application_name.c_str(),
      "UTF8"};
  const auto reorder = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    keys.push_back(key);
    values.push_back(value.c_str());
  };
  reorder("host", hosts.host);
  reorder("hostaddr", hosts.hostaddr);
  reorder("port", hosts.port);
  keys.push_back(nullptr);
  values.push_back(nullptr);
  connection_.reset(PQconnectdbParams(keys.data(), values.data(), 1));
  if (!connection_ || PQstatus(connection_.get()) != CONNECTION_OK)
    throw ConnectionLost("cannot connect to PostgreSQL: " + trimmed(PQerrorMessage(connection_.get())));
  PQsetNoticeProcessor(connection_.get(), [](void*, const char*) {}, nullptr);
  server_ = server_name(PQhost(connection_.get()), PQport(connection_.get()));
  silent_before_ = SilentServers::of_process().last(server_);
  if (PQsetnonblocking(connection_.get(), 1) != 0) lost("set non-blocking");
  if (!options.session_sql.empty()) {
    try {
      run_script(options.session_sql, std::chrono::steady_clock::now() + kConnectScriptTime);
    } catch (const SqlError& e) {
      throw ConnectionLost(std::string("cannot set up the session: ") + e.what());
    }
  }
}

void Connection::close() { connection_.reset(); }

void Connection::lost(const std::string& what) {
  const std::string message =
      "connection to PostgreSQL lost (" + what + "): " + trimmed(PQerrorMessage(connection_.get()));
  close();
  throw ConnectionLost(message);
}

bool Connection::is_left_alone() const {
  return follows_ && SilentServers::of_process().last(server_) != silent_before_;
}

bool Connection::closed_by_server() {
  if (!alive()) return true;
  if (is_left_alone()) {
    close();
    return true;
  }
  pollfd p{PQsocket(connection_.get()), POLLIN, 0};
  if (::poll(&p, 1, 0) <= 0) return false;
  if (PQconsumeInput(connection_.get()) == 1 && alive()) {
    // A notice, or a changed parameter: the session lives. Its farewell would be followed by the end of file.
    if (::poll(&p, 1, 0) <= 0) return false;
    if (PQconsumeInput(connection_.get()) == 1 && alive()) return false;
  }
  close();
  return true;
}

void Connection::wait(short events, Deadline deadline) {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const auto slice = follows_ ? std::min(left, kLookAround) : left;
    pollfd p{PQsocket(connection_.get()), events, 0};
    if (::poll(&p, 1, static_cast<int>(std::clamp<std::int64_t>(slice.count(), 0, 3600'000))) != 0) return;
    if (is_left_alone()) lost("this server has not answered others in time");
    if (slice < left) continue;
    SilentServers::of_process().add(server_);
    lost("no answer in time");
  }
}

void Connection::flush(Deadline deadline) {
  while (true) {
    const int state = PQflush(connection_.get());
    if (state == 0) return;
    if (state < 0) lost("send");
    // Reads too: a server that waits for us to take its answers would never take our statements.
    wait(POLLIN | POLLOUT, deadline);
    if (PQconsumeInput(connection_.get()) != 1) lost("receive");
  }
}

PGresult* Connection::next_result(Deadline deadline) {
  while (PQisBusy(connection_.get())) {
    wait(POLLIN, deadline);
    if (PQconsumeInput(connection_.get()) != 1) {
      // What came before the end, such as the server's reason, is still to be read.
      if (PQisBusy(connection_.get())) lost("receive");
    }
  }
  return PQgetResult(connection_.get());
}

bool Connection::is_prepared(const char* name) const {
  return std::find(prepared_.begin(), prepared_.end(), name) != prepared_.end();
}

void Connection::send(const Statement& s, Params* params) {
  const int n = params ? params->size() : 0;
  const char* const* values = n ? params->pointers().data() : nullptr;
  const int* lengths = n ? params->lengths().data() : nullptr;
  const int* formats = n ? params->formats().data() : nullptr;
  const int sent = *s.name
                       ? PQsendQueryPrepared(connection_.get(), s.name, n, values, lengths, formats, 1)
                       : PQsendQueryParams(connection_.get(), s.sql, n, nullptr, values, lengths, formats, 1);
  if (sent != 1) lost("send");
}

Result Connection::run(const Statement& statement, Params* params, Deadline deadline) {
  if (!alive()) throw ConnectionLost("not connected to PostgreSQL");
  const auto collect = [&] {
    flush(deadline);
    Result last(nullptr);
    while (PGresult* r = next_result(deadline)) last = Result(r);
    if (!alive() && (!last.get() || is_error(last.get()))) lost("receive");
    if (!last.get()) lost("receive");
    if (is_error(last.get())) throw error_of(last.get());
    return last;
  };
  if (*statement.name && !is_prepared(statement.name)) {
    if (PQsendPrepare(connection_.get(), statement.name, statement.sql, 0, nullptr) != 1) lost("send");
    collect();
    prepared_.emplace_back(statement.name);
  }
  send(statement, params);
  return collect();
}

Result Connection::run_script(const std::string& sql, Deadline deadline) {
  if (!alive()) throw ConnectionLost("not connected to PostgreSQL");
  if (PQsendQuery(connection_.get(), sql.c_str()) != 1) lost("send");
  flush(deadline);
  Result last(nullptr);
  while (PGresult* r = next_result(deadline)) {
    last = Result(r);
    if (is_error(r)) {
      const SqlError error = error_of(r);
      while (PGresult* rest = next_result(deadline)) PQclear(rest);
      if (!alive()) lost("receive");
      throw error;
    }
  }
  if (!last.get()) lost("receive");
  return last;
}

std::string_view Connection::next_copied(Deadline deadline) {
  char* bytes = nullptr;
  int size = 0;
  while ((size = PQgetCopyData(connection_.get(), &bytes, 1)) == 0) {
    wait(POLLIN, deadline);
    if (PQconsumeInput(connection_.get()) != 1) lost("receive");
  }
  copied_.reset(bytes);
  if (size == -2) lost("receive");
  return size < 0 ? std::string_view() : std::string_view(bytes, static_cast<std::size_t>(size));
}

// The first piece begins with a header, the last one is the number of fields -1 alone (PostgreSQL manual,
// COPY, "Binary Format").
void Connection::copy_out(const std::string& sql, const std::function<void(RowReader&)>& row,
                          Deadline deadline) {
  constexpr std::string_view kSignature("PGCOPY\n\377\r\n\0", 11);
  constexpr std::size_t kHeader = kSignature.size() + 4 + 4, kFields = 2;
  if (!alive()) throw ConnectionLost("not connected to PostgreSQL");
  if (PQsendQuery(connection_.get(), sql.c_str()) != 1) lost("send");
  flush(deadline);
  const auto finish = [&] {
    std::unique_ptr<SqlError> error;
    while (PGresult* r = next_result(deadline)) {
      const Result owned(r);
      if (is_error(r) && !error) error = std::make_unique<SqlError>(error_of(r));
    }
    if (error) throw SqlError(*error);
  };
  const Result began(next_result(deadline));
  if (!began.get()) lost("receive");
  if (PQresultStatus(began.get()) != PGRES_COPY_OUT) {
    if (!is_error(began.get())) lost("no rows to copy");
    const SqlError error = error_of(began.get());
    finish();
    throw error;
  }
  try {
    bool headed = false;
    for (std::string_view piece = next_copied(deadline); !piece.empty(); piece = next_copied(deadline)) {
      if (!std::exchange(headed, true)) {
        if (!piece.starts_with(kSignature) || piece.size() < kHeader) lost("rows in an unknown format");
        piece.remove_prefix(kHeader);
      }
      if (piece.size() <= kFields) continue;  // the end
      RowReader reader(piece.substr(kFields));
      row(reader);
    }
  } catch (...) {
    close();
    throw;
  }
  finish();
}

Pipeline::Pipeline(Connection& connection) : connection_(connection) {
  if (!connection.alive()) throw ConnectionLost("not connected to PostgreSQL");
  if (PQenterPipelineMode(connection.connection_.get()) != 1) connection.lost("pipeline");
}

Pipeline::~Pipeline() {
  // Fails when answers are still under way, that is, after an exception nobody expected: then the session is
  // of no more use.
  if (connection_.alive() && PQexitPipelineMode(connection_.connection_.get()) != 1) connection_.close();
}

void Pipeline::add(const Statement& statement, Params params) {
  items_.push_back({statement, std::move(params)});
}

void Pipeline::run(Connection::Deadline deadline) {
  PGconn* c = connection_.connection_.get();
  failed_at_ = 0;
  // Which statement each answer belongs to: preparing one gives an answer of its own.
  std::vector<std::pair<std::size_t, const char*>> expected;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    auto& item = items_[i];
    const char* name = item.statement.name;
    if (*name && !connection_.is_prepared(name)) {
      if (PQsendPrepare(c, name, item.statement.sql, 0, nullptr) != 1) connection_.lost("send");
      connection_.prepared_.emplace_back(name);
      expected.emplace_back(i, name);
    }
    connection_.send(item.statement, &item.params);
    expected.emplace_back(i, nullptr);
  }
  if (PQpipelineSync(c) != 1) connection_.lost("send");
  connection_.flush(deadline);

  std::unique_ptr<SqlError> error;
  try {
    for (const auto& [index, preparing] : expected) {
      if (!error) failed_at_ = index;
      bool any = false;
      while (PGresult* r = connection_.next_result(deadline)) {
        const Result owned(r);
        any = true;
        if (!is_error(r)) continue;
        if (!error) error = std::make_unique<SqlError>(error_of(r));
        if (preparing) std::erase(connection_.prepared_, preparing);
      }
      if (!any) connection_.lost("receive");
    }
    const Result sync(connection_.next_result(deadline));
    if (!sync.get() || PQresultStatus(sync.get()) != PGRES_PIPELINE_SYNC) connection_.lost("receive");
  } catch (const ConnectionLost&) {
    // The server said why before it closed: that is the better answer, and it says how far it came.
    if (error && !error->sqlstate.empty()) throw SqlError(*error);
    throw;
  }
  if (error) throw SqlError(*error);
  failed_at_ = items_.size();
}

}  // namespace tutti::db
