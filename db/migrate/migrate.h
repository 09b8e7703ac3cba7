// Brings a database to the schema this binary was built with. Forward only, one transaction per migration,
// each recorded with the checksum of its text, all under one advisory lock: any number of schedulers may
// start at once.
//
// A migration may be applied while an older scheduler leads: it waits for a lock on a table for a moment
// only, because everybody who comes after it waits as well, gives up, and tries again.
//
// Schedulers of two versions run beside each other during an upgrade (docs/upgrade.md), so
//  1. a schema one version newer than this binary is served as it is, and one that is newer still is refused;
//  2. the schema is taken at most one version past what each connected scheduler knows.
//
// Called by: scheduler/database.cpp at start, `tutti migrate`, tests. Blocks; own short-lived connection.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

namespace tutti::db {

class MigrateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Trying again is of no use: this binary and that schema do not go together.
class SchemaRefused : public MigrateError {
 public:
  using MigrateError::MigrateError;
};

struct Migration {
  int version = 0;   // from 1, without gaps
  std::string name;  // NNNN_<name>.sql
  std::string sql;   // no BEGIN or COMMIT in it
};

const std::vector<Migration>& sql_migrations();  // the files of sql/migrations
// What this binary knows: those. In a file of its own, for a test links a scheduler of the version after it.
const std::vector<Migration>& embedded_migrations();

struct MigrateResult {
  int from = 0;                      // version found, 0 = an empty database
  int to = 0;                        // one more than this binary knows: a newer one has been here
  std::vector<std::string> applied;  // "0003 job"
};

struct MigratePatience {
  std::chrono::milliseconds lock{3000};  // that others are kept waiting for
  std::chrono::milliseconds all{60000};  // of one migration, with all its tries
};

// Throws SchemaRefused: the database is more than one version newer than the binary, a recorded checksum
// differs, or a connected scheduler is too old for what this would make of it. Throws MigrateError: a
// migration failed (it was rolled back; earlier ones stay), a restore was cut off, or the server cannot be
// reached.
MigrateResult migrate(const std::string& connection_string,
                      const std::vector<Migration>& migrations = embedded_migrations(),
                      MigratePatience patience = {});

// What migrate() would do, without doing it.
std::vector<std::string> pending_migrations(const std::string& connection_string,
                                            const std::vector<Migration>& migrations = embedded_migrations());

std::string migration_checksum(const Migration& migration);  // SHA-256 of its text, hex

}  // namespace tutti::db
