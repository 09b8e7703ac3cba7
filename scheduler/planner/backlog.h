// Jobs that wait, in order, a million of them if need be.
//
// Jobs of one bucket (same queue, project, user, ask, limit, band, …) differ only in when they came, so the
// policy's key is computed per bucket and never per job; age counts for all alike and moves nobody past
// anybody. Buckets of one ask and limit stand in a cell: a pass looks at the first of each cell, and never
// at the backlog behind it. Pure, std only, one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"
#include "scheduler/planner/ranked_jobs.h"
#include "scheduler/planner/run_history.h"

namespace tutti::planner {

enum class Band : std::uint8_t {
  urgent,    // priority 90 and up: before all others
  normal,    // its priority is a weight among other things
  scavenger  // priority below 10: what nobody else wants; gives way at once
};
constexpr Band band_of(int priority) {
  return priority >= 90 ? Band::urgent : priority < 10 ? Band::scavenger : Band::normal;
}

// Waiting jobs are planned with limits in whole minutes (five beyond two hours, sixty beyond a day), upwards:
// like jobs then share a bucket, and a promised start stays kept.
Duration planned_limit(Duration limit);
inline constexpr Duration kNoLimit = Duration::max();

struct PlanJob {
  JobId id;
  JobClass kind;  // user, queue and GPUs, as history knows them
  int project = 0;
  int shape = 0;       // of Nodes
  int priority = 50;   // 0..100
  bool front = false;  // before others of its band: a restart after a fault
  bool preemptible = true;
  bool saves_when_asked = false;  // a planned stop loses nothing
  bool clairvoyant = false;       // known_run counts: policies for scale
  bool limit_per_run = false;     // a preempted job may run for its whole limit again
  Instant submitted;
  Instant preempts_from{};    // nobody is stopped for it before: it has had its turn lately
  Duration limit = kNoLimit;  // of running time
  Duration known_run{};       // kept while it waits if it counts
};

// What it may run from now on.
constexpr Duration left_of(const PlanJob& job, Duration attained) {
  return job.limit == kNoLimit || job.limit_per_run ? job.limit : job.limit - attained;
}

struct Waiting {
  PlanJob what;
  Duration attained{};  // service so far
  Instant since;        // of this wait
  Instant rank_at;      // first start, or submission: orders equals
};

struct Bucket;

struct Cell {
  std::size_t index = 0;  // in its backlog
  int queue = 0;
  int shape = 0;
  Duration limit{};  // still to run, at most
  // Buckets by their first job, without the time that passes.
  using Head = std::tuple<Band, bool, double, Instant, JobId>;
  std::set<std::pair<Head, Bucket*>> order;
};

struct Bucket {
  Cell* cell = nullptr;
  std::size_t turn = 0;  // in its backlog
  Band band = Band::normal;
  bool front = false;
  int priority = 50;
  int project = 0;
  JobClass kind;
  Duration attained{}, known_run{};
  Duration limit{};  // as planned, of the whole running time
  Duration left{};   // and of the next run
  double base = 0;   // the policy's key without age; lower first
  Instant keyed_at;
  RankedJobs jobs;  // by rank_at
  // Begin of the longest wait among the first few: one that came back goes before those that stayed.
  Instant since;
  Cell::Head head;
};

class Backlog {
 public:
  using KeyOf = std::function<double(const Bucket&, Instant now)>;
  // Points that a second of waiting is worth; who comes to a bucket whose key is older than `key_lasts` has
  // it computed again.
  Backlog(double age_rate, Duration key_lasts, KeyOf key_of)
      : age_rate_(age_rate), key_lasts_(key_lasts), key_of_(std::move(key_of)) {}
  Backlog(const Backlog&) = delete;
  Backlog& operator=(const Backlog&) = delete;

  void push(const Waiting& job, Instant now,
            std::optional<double> base = std::nullopt);  // base: the key, if known
  std::optional<Waiting> erase(JobId id);
  std::optional<Waiting> find(JobId id) const;
  bool contains(JobId id) const { return jobs_.contains(id); }
  std::size_t size() const { return jobs_.size(); }
  bool empty() const { return jobs_.empty(); }

  // Computes the keys of at most `most` buckets again whose keys are older than `lasts`, in turn.
  void refresh(Instant now, Duration lasts, std::size_t most);

  using ByWait = std::set<std::tuple<Instant, JobId, Bucket*>>;
  const std::vector<std::unique_ptr<Cell>>& cells() const { return cells_; }
  const ByWait& oldest() const { return oldest_; }  // the first of each bucket, who waits longest first
  const Bucket& bucket_of(JobId id) const { return *jobs_.at(id).bucket; }
  std::vector<JobId> first(std::size_t most, int queue = -1) const;  // in order; -1: of all queues
  // How many come before it; of its own queue only.
  std::size_t ahead_of(JobId id) const;
  Cell::Head head_of(JobId id) const;
  bool comes_before(JobId a, JobId b) const { return head_of(a) < head_of(b); }
  std::size_t bucket_count() const { return turn_.size(); }

 private:
  // Of a job that waits what its bucket does not say: there may be a million.
  struct Entry {
    Bucket* bucket;
    Instant submitted, since, rank_at, preempts_from;
    Duration limit;  // to the microsecond
    bool preemptible, saves_when_asked, clairvoyant, limit_per_run;
  };
  static Entry entry_of(const Waiting& job, Bucket& bucket);
  static Waiting waiting_of(JobId id, const Entry& entry);
  struct Key {
    int queue, shape, user, project, gpus, priority;
    bool front;
    Duration limit, left, attained, known_run;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };
  static Key key_of(const Waiting& job);
  Bucket& bucket_for(const Waiting& job, Instant now, std::optional<double> base);
  Cell& cell_for(const Key& key);
  Cell::Head turn_of(const Bucket& bucket, const std::pair<Instant, JobId>& place) const;
  std::size_t before(const Cell::Head& turn, const Bucket& bucket) const;
  void unlink(Bucket& bucket);
  void link(Bucket& bucket);
  void drop(Bucket& bucket);
  void rekey(Bucket& bucket, Instant now);
  void drop(Cell& cell);

  double age_rate_;
  Duration key_lasts_;
  KeyOf key_of_;
  std::unordered_map<JobId, Entry> jobs_;
  std::unordered_map<Key, std::unique_ptr<Bucket>, KeyHash> buckets_;
  std::vector<Bucket*> turn_;  // whose key is computed next
  std::size_t next_turn_ = 0;
  std::vector<std::unique_ptr<Cell>> cells_;
  std::map<std::tuple<int, int, Duration>, Cell*> cell_of_;
  ByWait oldest_;
};

}  // namespace tutti::planner
