// A scheduler of the version before, as a filter at the seams of its process: what it does not see of the
// store and of what workers say. "Before" is the last one that may run beside this schema, that of schema 21
// (docs/upgrade.md). What this version has added to it, and a scheduler can be told apart by:
//   1. tasks of an array have no rows until something about them is written (schema 22). It knows of none
//      such: nothing is folded while one of it is connected, and one that takes the lead gets them all as
//      rows, in that transaction (sql/migrations/0022_arrays.sql);
//   2. a load says when the newest event was, so that no calendar goes back behind it;
//   3. a load says which nodes there are, so that a worker is welcome before its hello is committed;
//   4. how a part failed is taken of a node also that had been given up.
// No message has another field than one of schema 18 says it: terms are the youngest. That a leader does not
// tell its term is a canary here, for no scheduler may run beside this one that does not.
//
// Rows are those of db/memory, which has every task as a row: `FoldedTasks` knows which of them would have
// none in PostgreSQL, hence are not there for somebody who knows no arrays.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "scheduler/core/control_plane.h"
#include "scheduler/model/protocol.h"
#include "scheduler/model/rows.h"

namespace tutti::sim {

// Table job_array in outline. Belongs to the server: told of each transaction that has been applied.
class FoldedTasks {
 public:
  // By a scheduler that folds. Says how many tasks have come to have no rows.
  std::size_t fold(const Batch& batch);
  // Whatever a transaction writes about a task gives it its rows.
  void unfold(const Batch& batch);
  std::size_t unfold_all();
  // Does any lie here that would be folded?
  static bool foldable(const Batch& batch);
  // What somebody reads who knows no arrays.
  void hide_in(Snapshot& rows) const;

 private:
  std::map<JobId, EventId> tasks_;  // and the only event of each
};

namespace before {

// As it takes rows.
void forget_younger_columns(Snapshot& rows);

// As it takes what the worker of `node` says of an attempt.
protocol::AttemptStatus heard(const ControlPlane& plane, const std::string& node,
                              protocol::AttemptStatus status);

}  // namespace before
}  // namespace tutti::sim
