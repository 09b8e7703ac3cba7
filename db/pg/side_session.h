// One session for what is stored beside the scheduling rows: accounts, measurements, the past. It belongs to
// one thread, connects at the first statement, and again after a loss.
//
// Called by: the Pg… classes beside PgStore and PgReader, one each. Blocks; every statement has a deadline.
// Throws StoreError: unavailable (nothing happened, or the session was lost before an answer: in_doubt),
// conflict (a unique or other constraint refused the rows), corrupt (the statement is wrong: a bug).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "db/pg/connection.h"
#include "db/store.h"

namespace tutti::db {

class SideSession {
 public:
  /// `name`: by which it is known in pg_stat_activity.
  SideSession(std::string connection_string, std::string name)
      : connection_string_(std::move(connection_string)), name_(std::move(name)) {}

  Result run(const Statement& statement, Params params = {});
  /// All or nothing, in one transaction.
  void transact(const std::function<void(Pipeline&)>& fill);

 private:
  Connection& connection();
  template <class Work>
  auto guarded(Work work);

  std::string connection_string_, name_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace tutti::db
