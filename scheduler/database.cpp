#include "scheduler/database.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <exception>

#include "db/migrate/migrate.h"
#include "scheduler/replica_flags.h"

namespace tutti {

namespace asio = boost::asio;

OwnDatabase::OwnDatabase(asio::io_context& io, const db::EmbeddedOptions& options) : io_(io), timer_(io) {
  server_ = std::make_unique<db::EmbeddedPostgres>(options);
  spdlog::info("starting the embedded PostgreSQL in {}", options.directory);
  server_->start();
  watch();
}

void OwnDatabase::stop() {
  timer_.cancel();
  starter_.join();
  server_->stop();
}

void OwnDatabase::watch() {
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    if (server_->running()) return watch();
    spdlog::error("the embedded PostgreSQL has ended; starting it again");
    asio::post(starter_, [this] { start_again(); });
  });
}

// On the thread of its own.
void OwnDatabase::start_again() {
  try {
    server_->start();
  } catch (const std::exception& e) {
    spdlog::error("cannot start it: {}", e.what());
  }
  asio::post(io_, [this] { watch(); });
}

int newest_schema() { return static_cast<int>(db::embedded_migrations().size()); }

void migrate_when_reachable(const std::string& db) {
  for (int attempt = 1;; ++attempt) {
    try {
      const db::MigrateResult result = db::migrate(db);
      for (const auto& m : result.applied) spdlog::info("schema: applied {}", m);
      if (result.to > newest_schema())
        spdlog::warn(
            "schema: version {} is of a newer scheduler; this one serves it, and wants to be upgraded",
            result.to);
      return;
    } catch (const db::SchemaRefused&) {
      throw;
    } catch (const db::MigrateError& e) {
      if (attempt == 60) throw;
      spdlog::warn("schema: {}", e.what());
      ::usleep(500'000);
    }
  }
}

db::PgStoreOptions store_options(const std::string& db, Duration lease) {
  db::PgStoreOptions options;
  options.connection_string = db;
  options.leader_idle_timeout = frozen_after(lease);
  options.schema = newest_schema();
  return options;
}

// An old answer is of no use.
db::PgReaderOptions watcher_options(const std::string& db) {
  db::PgReaderOptions options;
  options.connection_string = db;
  options.application_name = "tutti-watch";
  options.max_connections = 1;
  options.statement_timeout = std::chrono::seconds(2);
  return options;
}

}  // namespace tutti
