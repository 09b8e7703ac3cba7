#include "db/migrate/migrate.h"

namespace tutti::db {

// Nothing else stands here: a test's program that defines it itself must not find it twice.
const std::vector<Migration>& embedded_migrations() { return sql_migrations(); }

}  // namespace tutti::db
