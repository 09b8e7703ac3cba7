#include "db/pg/side_session.h"

#include "db/too_much.h"

namespace tutti::db {
namespace {

constexpr std::chrono::seconds kPatience{10};

Connection::Deadline deadline() { return std::chrono::steady_clock::now() + kPatience; }

[[noreturn]] void throw_store_error(const SqlError& e) {
  if (e.sqlstate.starts_with("23") || e.sqlstate == "40001")  // integrity constraint, serialization
    throw StoreError(StoreError::conflict, e.what());
  if (e.sqlstate.starts_with("42") || e.sqlstate.starts_with("22"))
    throw StoreError(StoreError::corrupt, e.what());
  // Its time, or that for a lock, is over; a limit of the program, or of memory.
  if (e.sqlstate == "57014" || e.sqlstate == "55P03" || e.sqlstate.starts_with("54") || e.sqlstate == "53200")
    throw TooMuch(e.what());
  throw StoreError(StoreError::unavailable, e.what());
}

}  // namespace

Connection& SideSession::connection() {
  if (connection_ && (!connection_->alive() || connection_->closed_by_server())) connection_.reset();
  if (!connection_)
    connection_ = std::make_unique<Connection>(
        ConnectOptions{connection_string_, name_,
                       "SET statement_timeout = '8s'; SET idle_in_transaction_session_timeout = '10s'; "
                       "SET lock_timeout = '5s'; SET jit = off; SET client_min_messages = warning",
                       true});
  return *connection_;
}

template <class Work>
auto SideSession::guarded(Work work) {
  try {
    connection();
  } catch (const ConnectionLost& e) {
    throw StoreError(StoreError::unavailable, e.what());
  }
  try {
    return work(*connection_);
  } catch (const SqlError& e) {
    if (connection_->in_transaction()) connection_.reset();
    throw_store_error(e);
  } catch (const ConnectionLost& e) {
    connection_.reset();
    throw StoreError(StoreError::in_doubt, e.what());
  } catch (...) {  // no memory: perhaps in the middle of an answer
    connection_.reset();
    throw;
  }
}

Result SideSession::run(const Statement& statement, Params params) {
  return guarded([&](Connection& c) { return c.run(statement, &params, deadline()); });
}

void SideSession::transact(const std::function<void(Pipeline&)>& fill) {
  guarded([&](Connection& c) {
    Pipeline pipeline(c);
    pipeline.add({"begin", "BEGIN"});
    fill(pipeline);
    pipeline.add({"commit", "COMMIT"});
    pipeline.run(deadline());
    return 0;
  });
}

}  // namespace tutti::db
