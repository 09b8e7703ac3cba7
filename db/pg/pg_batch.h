// A Batch as statements: only those that have rows, in the order store.h promises, for one pipeline flush.
#pragma once

#include "db/pg/connection.h"
#include "db/pg/spec_texts.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

// BEGIN, the check of the term, the rows, COMMIT. Returns the index of COMMIT in the pipeline. What comes of
// it is to be told to `texts`; with `may_refer` false every text of a spec is in its job's own row.
std::size_t add_transaction(Pipeline& pipeline, const Batch& batch, Term term, KnownTexts& texts,
                            bool may_refer);

// Likewise, with nothing but the word that this term leads.
std::size_t add_proof(Pipeline& pipeline, Term term);

}  // namespace tutti::db
