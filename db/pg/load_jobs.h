// Unfinished jobs as the leader reads them back: the columns of each, and each text of a spec once.
// Used by PgStore::load(), in its transaction.
#pragma once

#include "db/pg/array_rows.h"
#include "db/pg/connection.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

// Fills `jobs` and `specs` of an empty snapshot; tasks without rows of their own stand among the others, by
// their ids. Throws as Connection::copy_out does.
void load_jobs(Connection& connection, Snapshot& snapshot, StoredArrays& arrays, Connection::Deadline until);

}  // namespace tutti::db
