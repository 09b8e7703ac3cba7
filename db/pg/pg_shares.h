// Queues, projects and reservations of a batch, as statements of its transaction.
#pragma once

#include "db/pg/connection.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

void add_shares(Pipeline& p, const Batch& batch);

}  // namespace tutti::db
