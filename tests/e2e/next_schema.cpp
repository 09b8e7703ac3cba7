// What tutti-scheduler-next knows (next_protocol.cpp): one migration more per version. As every migration is
// to do, it adds to what there is, and takes its locks in the order in which a commit does (db/store.h).
#include "db/migrate/migrate.h"
#include "scheduler/model/protocol.h"

namespace tutti::db {
namespace {

Migration next_migration(int version) {
  const std::string name = "next_" + std::to_string(version);
  std::string sql;
  for (const std::string table :
       {"job_spec", "job", "node", "gpu", "attempt", "allocation", "job_done", "job_event", "job_array"})
    sql += "ALTER TABLE " + table + " ADD COLUMN " + name + " integer NOT NULL DEFAULT 7;\n";
  return {version, name, sql + "CREATE TABLE " + name + " (job bigint PRIMARY KEY, note text);\n"};
}

}  // namespace

const std::vector<Migration>& embedded_migrations() {
  static const std::vector<Migration> all = [] {
    auto made = sql_migrations();
    for (int ahead = protocol::version() - protocol::kVersion; ahead > 0; --ahead)
      made.push_back(next_migration(static_cast<int>(made.size()) + 1));
    return made;
  }();
  return all;
}

}  // namespace tutti::db
