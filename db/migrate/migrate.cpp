#include "db/migrate/migrate.h"

#include <libpq-fe.h>
#include <openssl/sha.h>

#include <algorithm>
#include <map>
#include <pqxx/pqxx>
#include <thread>

#include "db/migrate/connection_text.h"

namespace tutti::db {
namespace {

constexpr const char* kLock = "7381204461550001";  // advisory lock of schema changes

constexpr std::chrono::milliseconds kFirstPause(250), kLongestPause(4000);

struct Recorded {
  std::string name;
  std::string checksum;
};

std::string label(int version, const std::string& name) {
  std::string number = std::to_string(version);
  return std::string(number.size() < 4 ? 4 - number.size() : 0, '0') + number + " " + name;
}

// The session must not be re-opened behind our back: it holds the lock.
void prepare_session(pqxx::connection& c) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // libpqxx 7 never re-opens and has no such call
  c.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  pqxx::nontransaction tx(c);
  tx.exec("SET application_name = 'tutti-migrate'; SET client_min_messages = warning");
}

std::string with_timeout(const std::string& connection_string) {
  if (const auto problem = connection_problem(connection_string); !problem.empty())
    throw MigrateError("cannot migrate the database: " + problem);
  // A later setting wins, so ours stands first; a URI takes no prefix and is left as it is.
  const bool uri = connection_string.compare(0, 11, "postgresql:") == 0 ||
                   connection_string.compare(0, 9, "postgres:") == 0;
  return uri ? connection_string : "connect_timeout=5 " + connection_string;
}

std::map<int, Recorded> read_recorded(pqxx::connection& c) {
  pqxx::nontransaction tx(c);
  std::map<int, Recorded> out;
  if (tx.exec1("SELECT to_regclass('schema_migration') IS NULL")[0].as<bool>()) return out;
  for (const auto& row : tx.exec("SELECT version, name, checksum FROM schema_migration ORDER BY version"))
    out[row[0].as<int>()] = {row[1].as<std::string>(), row[2].as<std::string>()};
  return out;
}

// `tutti restore --replace` was cut off: the schema is empty because the cluster stands aside. Tables of our
// own there, and a scheduler would lead a cluster without jobs, nodes and people.
void check_restored(pqxx::connection& c) {
  pqxx::nontransaction tx(c);
  if (!tx.exec1("SELECT to_regclass('schema_migration') IS NULL AND to_regnamespace('tutti_replaced') IS NOT"
                " NULL")[0]
           .as<bool>())
    return;
  throw MigrateError(
      "a restore was cut off: run it again (tutti restore BACKUP --replace, as before), unless it still "
      "runs; "
      "or, to have back what was there: DROP SCHEMA public; ALTER SCHEMA tutti_replaced RENAME TO public");
}

void check_numbering(const std::vector<Migration>& migrations) {
  int expected = 1;
  for (const auto& m : migrations)
    if (m.version != expected++)
      throw MigrateError("migrations must be numbered from 1 without gaps: " + label(m.version, m.name));
}

// Refuses what this binary does not know or knows otherwise.
void check_recorded(const std::map<int, Recorded>& recorded, const std::vector<Migration>& migrations) {
  const int newest = static_cast<int>(migrations.size());
  if (!recorded.empty() && recorded.rbegin()->first > newest + 1)
    throw SchemaRefused("the database is at schema version " + std::to_string(recorded.rbegin()->first) +
                        ", this binary knows " + std::to_string(newest) + " and serves " +
                        std::to_string(newest + 1) +
                        " at most: install the newer binary, or restore a backup made before the upgrade");
  int expected = 1;
  for (const auto& [version, row] : recorded) {
    if (version != expected++)
      throw SchemaRefused("the database has no record of migration " + std::to_string(expected - 1) +
                          " but of later ones: it was changed by hand");
    if (version > newest) return;  // a newer binary's
    const Migration& ours = migrations[static_cast<std::size_t>(version - 1)];
    if (migration_checksum(ours) != row.checksum)
      throw SchemaRefused("migration " + label(version, row.name) +
                          " was applied with another text than this binary has (checksum " +
                          row.checksum.substr(0, 12) + "…, here " + migration_checksum(ours).substr(0, 12) +
                          "…): an applied migration is never edited, add a new one");
  }
}

// A scheduler's session says which schema it knows by a lock that it shares (db/pg/pg_store.cpp).
void check_connected(pqxx::connection& c, int to) {
  pqxx::nontransaction tx(c);
  const auto row = tx.exec1(
      "SELECT min(objid::bigint) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
      " AND classid = 73812044"
      " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())");
  if (row[0].is_null() || to <= row[0].as<int>() + 1) return;
  const int knows = row[0].as<int>();
  throw SchemaRefused("a scheduler that knows schema version " + std::to_string(knows) +
                      " is connected, and serves " + std::to_string(knows + 1) +
                      " at most; this binary would make it version " + std::to_string(to) +
                      ": upgrade by one version at a time, or stop that scheduler first");
}

void apply_once(pqxx::connection& c, const Migration& m, MigratePatience patience) {
  pqxx::work tx(c);
  tx.exec("SET LOCAL lock_timeout = " + std::to_string(patience.lock.count()));
  tx.exec(m.sql);
  tx.exec_params("INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)", m.version,
                 m.name, migration_checksum(m));
  tx.commit();
}

// Who is most likely in the way, for the person who reads the error.
std::string longest_transaction(pqxx::connection& c) {
  pqxx::nontransaction tx(c);
  const auto rows = tx.exec(
      "SELECT pid, application_name, date_trunc('second', now() - xact_start) FROM pg_stat_activity"
      " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
      " ORDER BY xact_start LIMIT 1");
  if (rows.empty()) return "";
  return "; the longest transaction is that of process " + rows[0][0].as<std::string>() + " (" +
         rows[0][1].as<std::string>("") + "), for " + rows[0][2].as<std::string>() +
         ": wait for its end, or SELECT pg_terminate_backend(" + rows[0][0].as<std::string>() + ")";
}

// 55P03 and 40P01: others hold the table, or we and they hold what the other one wants.
bool is_locked_out(const std::exception& e) {
  const auto* error = dynamic_cast<const pqxx::sql_error*>(&e);
  return error != nullptr && (error->sqlstate() == "55P03" || error->sqlstate() == "40P01");
}

void apply(pqxx::connection& c, const Migration& m, MigratePatience patience) {
  const auto until = std::chrono::steady_clock::now() + patience.all;
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    try {
      return apply_once(c, m, patience);
    } catch (const pqxx::in_doubt_error& e) {
      throw MigrateError("migration " + label(m.version, m.name) +
                         ": the connection was lost during COMMIT, run it again: " + e.what());
    } catch (const std::exception& e) {
      const std::string failed = "migration " + label(m.version, m.name) + " failed and was rolled back";
      if (!is_locked_out(e)) throw MigrateError(failed + ": " + e.what());
      if (std::chrono::steady_clock::now() + pause > until)
        throw MigrateError(failed + ": a table is in use" + longest_transaction(c));
    }
    std::this_thread::sleep_for(pause);  // those who waited behind us go first
  }
}

template <class F>
auto reaching_server(F&& f) {
  try {
    return f();
  } catch (const MigrateError&) {
    throw;
  } catch (const std::exception& e) {
    throw MigrateError(std::string("cannot migrate the database: ") + e.what());
  }
}

}  // namespace

std::string migration_checksum(const Migration& m) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(m.sql.data()), m.sql.size(), digest);
  std::string hex;
  for (unsigned char byte : digest) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

MigrateResult migrate(const std::string& connection_string, const std::vector<Migration>& migrations,
                      MigratePatience patience) {
  check_numbering(migrations);
  return reaching_server([&] {
    pqxx::connection c(with_timeout(connection_string));
    prepare_session(c);
    {
      pqxx::nontransaction tx(c);
      // Another scheduler may be migrating: wait for it, but not for ever. The lock goes with the session.
      tx.exec("SET lock_timeout = '60s'");
      tx.exec(std::string("SELECT pg_advisory_lock(") + kLock + ")");
    }
    check_restored(c);
    {
      pqxx::nontransaction tx(c);
      tx.exec(
          "CREATE TABLE IF NOT EXISTS schema_migration (version integer PRIMARY KEY, name text NOT NULL, "
          "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())");
    }
    const auto recorded = read_recorded(c);
    check_recorded(recorded, migrations);
    MigrateResult result;
    result.from = result.to = recorded.empty() ? 0 : recorded.rbegin()->first;
    for (const auto& m : migrations) {
      if (m.version <= result.from) continue;
      check_connected(c, static_cast<int>(migrations.size()));  // one may have come meanwhile
      apply(c, m, patience);
      result.to = m.version;
      result.applied.push_back(label(m.version, m.name));
    }
    return result;
  });
}

std::vector<std::string> pending_migrations(const std::string& connection_string,
                                            const std::vector<Migration>& migrations) {
  check_numbering(migrations);
  return reaching_server([&] {
    pqxx::connection c(with_timeout(connection_string));
    prepare_session(c);
    check_restored(c);
    const auto recorded = read_recorded(c);
    check_recorded(recorded, migrations);
    std::vector<std::string> out;
    for (const auto& m : migrations)
      if (!recorded.contains(m.version)) out.push_back(label(m.version, m.name));
    return out;
  });
}

}  // namespace tutti::db
