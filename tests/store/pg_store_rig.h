// A database of its own for each test of the store on PostgreSQL alone, and a session that holds rows. Shared
// by the pg_store*_test.cpp.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "db/pg/connection.h"
#include "db/pg/pg_store.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/row_equality.h"
#include "tests/store/rows.h"

namespace tutti {

using namespace tutti::test;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PgStoreTest : public testing::Test {
 protected:
  db::PgStoreOptions options() const {
    db::PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = milliseconds(500);
    return o;
  }
  static StoreError::Kind kind_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "no error";
    return StoreError::corrupt;
  }
  // Asks again until the query says so; a signal for "the server has come to …" does not exist.
  void wait_until_sql(const std::string& query) {
    const auto until = steady_clock::now() + std::chrono::seconds(10);
    while (database_.sql(query) != std::vector<std::string>{"t"})
      if (steady_clock::now() > until) FAIL() << "never true: " << query;
  }

  TestDatabase database_ = TestPostgres::instance().create_database();
};

// Another session that holds a row until it is destroyed.
class RowLock {
 public:
  RowLock(const std::string& connection_string, const std::string& statement)
      : connection_({connection_string, "locker", ""}) {
    connection_.run_script("BEGIN; " + statement, steady_clock::now() + std::chrono::seconds(5));
  }
  void release() { connection_.run_script("COMMIT", steady_clock::now() + std::chrono::seconds(5)); }

 private:
  db::Connection connection_;
};

}  // namespace tutti
