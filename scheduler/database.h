// The PostgreSQL of a scheduler: its own, if nobody named another one, its schema, and how the store speaks
// to it. Called by home.cpp and parts.cpp.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>

#include "db/embedded/embedded_postgres.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "scheduler/model/time.h"

namespace tutti {

/// Starts a PostgreSQL and keeps it running: it is looked at every second. Starting it again may take as long
/// as its crash recovery does, so that happens on a thread of its own: heartbeats are answered meanwhile.
/// Control thread.
class OwnDatabase {
 public:
  /// Returns when it accepts connections; throws db::EmbeddedError.
  OwnDatabase(boost::asio::io_context& io, const db::EmbeddedOptions& options);
  /// Blocks until it has ended. After the loop has.
  void stop();
  std::string connection_string() const { return server_->connection_string(); }

 private:
  void watch();
  void start_again();

  boost::asio::io_context& io_;
  std::unique_ptr<db::EmbeddedPostgres> server_;
  boost::asio::thread_pool starter_{1};
  boost::asio::steady_timer timer_;
};

/// The version of the schema that this program knows.
int newest_schema();

/// Brings the schema up to that. Blocks; a database that cannot be reached is tried again for half a minute.
/// Throws db::SchemaRefused, and db::MigrateError of the last try.
void migrate_when_reachable(const std::string& db);

/// Of the leader's session. `lease`: how long a node may run without hearing from us.
db::PgStoreOptions store_options(const std::string& db, Duration lease);

/// Of the reader that looks who leads.
db::PgReaderOptions watcher_options(const std::string& db);

}  // namespace tutti
