// A Batch as statements: only those that have rows, in the order store.h promises, for one pipeline flush.
#pragma once

#include "db/pg/connection.h"
#include "db/pg/job_batch.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

// BEGIN, the check of the term, the rows, COMMIT. Returns the index of COMMIT in the pipeline. What comes of
// it is to be told to `way.texts`.
std::size_t add_transaction(Pipeline& pipeline, const Batch& batch, Term term, const WayOfJobs& way);

// Likewise, with nothing but the word that this term leads.
std::size_t add_proof(Pipeline& pipeline, Term term);

}  // namespace tutti::db
