// Tasks of an array that wait are one row of table job_array until something about one of them is written
// (docs/design/0021-arrays.md). Here: which tasks of a batch can be one row, how it gives each its text back,
// and which tasks have to get their own rows before a batch can change them.
//
// Used by PgStore on its database thread. Invariants: (1) a row gives back every column, text and event of
// its tasks as they came, byte for byte, else they are not folded; (2) a task that may have no row of its own
// is in FoldedTasks; one that is there and has its rows costs a question and no harm.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/rows.h"

namespace tutti::db {

class Connection;
class Pipeline;

struct TaskNumbers {
  std::int64_t index = 0, position = 0;
};

// The spec of a task as a text with places for its index and its position.
class TaskText {
 public:
  /// From the spec of one task as api/wire/job_spec_encode.cpp writes it; nullopt: of no task.
  static std::optional<TaskText> of(std::string_view spec_json);
  /// As the table has it: for PostgreSQL's format(), %1$s the index and %2$s the position.
  static TaskText from_format(std::string_view format);
  std::string format() const;
  std::string text(TaskNumbers task) const;

 private:
  enum class Place : std::uint8_t {
    index,
    position
  };
  struct Piece {
    std::string before;
    std::optional<Place> place;  // nullopt: the end
  };
  std::vector<Piece> pieces_;
};

// What the spec of a task says of its place in the array; nullopt: it is of no task.
std::optional<TaskNumbers> task_numbers(std::string_view spec_json);

// Tasks of a batch that become one row: the first of each list, and how many follow it.
struct ArrayRun {
  const SpecRow* spec = nullptr;
  const JobRow* job = nullptr;
  const EventRow* event = nullptr;
  TaskText text{};
  TaskNumbers numbers{};
  std::int64_t index_step = 0;
  std::int64_t size = 0;

  JobId last() const { return JobId(job->id.value + size - 1); }
  EventId last_event() const { return EventId(event->id.value + size - 1); }
  TaskNumbers numbers_of(std::int64_t task) const;  // of the task-th, from 0
};

// What a batch folds. Points into the batch.
class Folding {
 public:
  static constexpr std::int64_t kFewest = 8;  // tasks; fewer are not worth a row

  Folding() = default;
  static Folding of(const Batch& batch);

  bool empty() const { return runs_.empty(); }
  const std::vector<ArrayRun>& runs() const& { return runs_; }
  bool has(JobId id) const;  // a task that is in a run, or the job of an event that is
 private:
  std::vector<ArrayRun> runs_;  // by id
};

// Tasks that may have no rows of their own, in ranges of ids.
class FoldedTasks {
 public:
  struct Unfolding {
    std::vector<JobId> arrays, tasks;
    bool empty() const { return tasks.empty(); }
  };

  void forget() { ranges_.clear(); }
  void add(JobId array, JobId first, JobId last);
  void add(const Folding& folding);
  /// Of those that a batch changes or ends.
  Unfolding touched_by(const Batch& batch) const;
  /// They have their rows now. Out of memory: then some stay, which does no harm.
  void remove(const std::vector<JobId>& tasks) noexcept;
  std::size_t ranges() const { return ranges_.size(); }

 private:
  struct Range {
    JobId last, array;
  };
  std::map<JobId, Range> ranges_;  // by the first of each, apart
};

// One statement each, if there is something to do.
void add_arrays(Pipeline& pipeline, const Folding& folding);
void add_unfolding(Pipeline& pipeline, const FoldedTasks::Unfolding& unfolding);

// The tasks of a database without rows of their own.
class StoredArrays {
 public:
  /// Within the caller's transaction, if there is one. Throws as Connection::run does.
  static StoredArrays load(Connection& connection, std::chrono::steady_clock::time_point until);

  /// Those below `id` that have not been taken yet, in order of their ids: `take(row, text)` for each.
  template <class Take>
  void below(JobId id, Take take);
  void put_into(FoldedTasks& tasks) const;

 private:
  struct Array {
    JobRow job;  // of its first task
    TaskText text;
    TaskNumbers numbers;
    std::int64_t index_step = 0;
  };
  struct Range {
    std::size_t array;
    std::int64_t first, last;
  };
  JobRow row_of(const Range& range, std::int64_t task) const;
  std::string text_of(const Range& range, std::int64_t task) const;

  std::vector<Array> arrays_;
  std::vector<Range> ranges_;  // by id, apart
  std::size_t next_ = 0;       // of ranges_
  std::int64_t next_task_ = 0;
};

template <class Take>
void StoredArrays::below(JobId id, Take take) {
  for (; next_ < ranges_.size(); ++next_) {
    const Range& range = ranges_[next_];
    for (next_task_ = std::max(next_task_, range.first); next_task_ <= range.last; ++next_task_) {
      if (next_task_ >= id.value) return;
      take(row_of(range, next_task_), text_of(range, next_task_));
    }
  }
}

}  // namespace tutti::db
