// What a Batch writes of jobs, as statements: their specs, texts and keys, rows of those that come, change
// and end. Part of pg_batch.cpp's transaction, in its order.
#pragma once

#include <vector>

#include "db/pg/array_rows.h"
#include "db/pg/connection.h"
#include "db/pg/spec_texts.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

// How the jobs of one batch are written.
struct WayOfJobs {
  KnownTexts& texts;
  const Folding& folding;  // of this batch
  const FoldedTasks::Unfolding& unfolding;
};

void add_specs(Pipeline& pipeline, const Batch& batch, const WayOfJobs& way);
void add_new_jobs(Pipeline& pipeline, const Batch& batch, const Folding& folding);
void add_job_updates(Pipeline& pipeline, const std::vector<Batch::JobUpdate>& updates);
void add_done(Pipeline& pipeline, const std::vector<Batch::JobDone>& done);

}  // namespace tutti::db
