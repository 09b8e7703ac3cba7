// A store whose rows may have been changed by hand, or by a bug: what cannot be is set right before anybody
// decides on it. One odd row must not keep a cluster from starting.
//
// Wraps the store of the scheduler; used by checked_rows.cpp and tests. On the database thread, like any
// store.
//
// Rules
//  1. What is wrong is mended by a batch like any other, under the leader's term: the history tells it (kind
//     `repair`).
//  2. A job whose rows contradict each other is held, its attempt is over, and its reason says what was
//     wrong. A person looks at it, then releases or cancels it. All others go on. Released, it begins when no
//     rank of that attempt can live any more, 21 minutes later: nothing has proved that they are dead.
//  3. An attempt or an allocation without its job is ended; workers are told to kill what they have of it. An
//     allocation of an attempt that is not on that GPU likewise.
//  4. A spec that cannot be read is covered by one that does nothing (job_spec.changed_json); the submitted
//     text stays.
//  5. A gang (attempt.gang) that cannot be read is like one without nodes: rule 2 if the attempt is not over.
//     Of a failed attempt of before nothing is mended: it is left out of what the leader loads, so no node is
//     avoided for it, and that is said once.
//  6. Rows of a schema newer than ours are not mended: what looks odd may be right. load() throws
//     outdated, so that a scheduler of that version leads.
//  7. A number that no batch may hold (db/rules.h) is set to the nearest legal one, the size of a job to that
//  of
//     its spec, since every later change of that job would be refused. Its job is held, unless it runs and
//     its attempt fits it: then it runs on.
//  8. The epoch of a job that does not run is not below that of any attempt, allocation or checkpoint of it
//  that
//     was loaded, nor below its number of attempts: the next attempt would take the key of one that has
//     ended.
//  9. A job whose id is below 1 cannot be named in a batch: it is left out of what the leader loads, which is
//     said once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "db/store.h"

namespace tutti::db {

// What a store says of a job whose row in job_spec was removed, or the row of spec_text that it refers to.
inline constexpr std::string_view kNoSpec = "(its row is gone)";
inline constexpr std::string_view kNoText = "(its text is gone)";

struct JobSize {
  int nodes = 0, gpus_per_node = -1;  // not known
};
struct SpecCheck {
  std::function<std::string(std::string_view json)> problem;  // "" = it can be read
  std::function<std::string(const JobRow&)> stand_in;         // of the same size, and it fails at once
  std::function<JobSize(std::string_view json)> size{};       // of what it asks for, as far as that is legal
};

struct Repairs {
  Batch batch;
  std::vector<std::string> said;  // one line each, with the id
};
// What is wrong with these rows, and how it is set right. All specs are looked at if there is a `problem`.
Repairs find_repairs(const Snapshot& snapshot, const SpecCheck& specs, Instant now);
// Takes past attempts away whose nodes or GPUs are not known, and says what is wrong with each (rule 5).
std::map<AttemptKey, std::string> leave_out_odd_past(Snapshot& snapshot);
// Takes jobs away that no batch can name (rule 9), and returns their ids.
std::vector<JobId> leave_out_odd_jobs(Snapshot& snapshot);

class CheckedStore final : public Store {
 public:
  CheckedStore(std::unique_ptr<Store> store, SpecCheck specs, std::function<void(const std::string&)> say,
               std::function<Instant()> now)
      : store_(std::move(store)), specs_(std::move(specs)), say_(std::move(say)), now_(std::move(now)) {}

  void introduce(LeaderCard card) override { store_->introduce(std::move(card)); }
  Term acquire_leadership(const std::string& holder) override;
  Duration predecessors_renew() override { return store_->predecessors_renew(); }
  std::vector<std::string> predecessor_urls() override { return store_->predecessor_urls(); }
  void resign() noexcept override { store_->resign(); }
  Snapshot load() override;
  void commit(const Batch& batch) override { store_->commit(batch); }
  void prove_leadership() override { store_->prove_leadership(); }
  bool healthy() noexcept override { return store_->healthy(); }

 private:
  Snapshot load_named();

  std::unique_ptr<Store> store_;
  SpecCheck specs_;
  std::function<void(const std::string&)> say_;
  std::function<Instant()> now_;
  bool leads_ = false;
  bool specs_known_ = false;   // they are looked at once; what comes later is written by us
  std::set<AttemptKey> told_;  // past attempts that were left out
  std::set<JobId> told_jobs_;  // likewise
};

}  // namespace tutti::db
