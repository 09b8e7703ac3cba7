#include "db/migrate/migrate.h"

#include <libpq-fe.h>
#include <openssl/sha.h>

#include <map>
#include <pqxx/pqxx>

namespace tutti::db {
namespace {

constexpr const char* kLock = "7381204461550001";  // advisory lock of schema changes

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

void check_numbering(const std::vector<Migration>& migrations) {
  int expected = 1;
  for (const auto& m : migrations)
    if (m.version != expected++)
      throw MigrateError("migrations must be numbered from 1 without gaps: " + label(m.version, m.name));
}

// Refuses what this binary does not know or knows otherwise.
void check_recorded(const std::map<int, Recorded>& recorded, const std::vector<Migration>& migrations) {
  const int newest = static_cast<int>(migrations.size());
  if (!recorded.empty() && recorded.rbegin()->first > newest)
    throw MigrateError("the database is at schema version " + std::to_string(recorded.rbegin()->first) +
                       ", this binary knows versions up to " + std::to_string(newest) +
                       ": install the newer binary, or restore a backup made before the upgrade");
  int expected = 1;
  for (const auto& [version, row] : recorded) {
    if (version != expected++)
      throw MigrateError("the database has no record of migration " + std::to_string(expected - 1) +
                         " but of later ones: it was changed by hand");
    const Migration& ours = migrations[static_cast<std::size_t>(version - 1)];
    if (migration_checksum(ours) != row.checksum)
      throw MigrateError("migration " + label(version, row.name) +
                         " was applied with another text than this binary has (checksum " +
                         row.checksum.substr(0, 12) + "…, here " + migration_checksum(ours).substr(0, 12) +
                         "…): an applied migration is never edited, add a new one");
  }
}

void apply(pqxx::connection& c, const Migration& m) {
  try {
    pqxx::work tx(c);
    tx.exec(m.sql);
    tx.exec_params("INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)", m.version,
                   m.name, migration_checksum(m));
    tx.commit();
  } catch (const pqxx::in_doubt_error& e) {
    throw MigrateError("migration " + label(m.version, m.name) +
                       ": the connection was lost during COMMIT, run it again: " + e.what());
  } catch (const std::exception& e) {
    throw MigrateError("migration " + label(m.version, m.name) + " failed and was rolled back: " + e.what());
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

MigrateResult migrate(const std::string& connection_string, const std::vector<Migration>& migrations) {
  check_numbering(migrations);
  return reaching_server([&] {
    pqxx::connection c(with_timeout(connection_string));
    prepare_session(c);
    {
      pqxx::nontransaction tx(c);
      // Another scheduler may be migrating: wait for it, but not for ever. The lock goes with the session.
      tx.exec("SET lock_timeout = '60s'");
      tx.exec(std::string("SELECT pg_advisory_lock(") + kLock + ")");
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
      apply(c, m);
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
    const auto recorded = read_recorded(c);
    check_recorded(recorded, migrations);
    std::vector<std::string> out;
    for (const auto& m : migrations)
      if (!recorded.contains(m.version)) out.push_back(label(m.version, m.name));
    return out;
  });
}

}  // namespace tutti::db
