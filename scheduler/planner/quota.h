// What queues and projects may hold at one time, in GPUs, and what they hold. Queues that use the same nodes
// lend to each other: each may use its quota and borrow what others do not use, up to both sides' limits
// (Kueue's cohorts have the same rule). Pure, std only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tutti::planner {

struct QueueShare {
  int pool = 0;     // queues of one pool lend to each other
  int quota = -1;   // guaranteed; -1: none, it may use all and lends nothing
  int borrow = -1;  // at most so many beyond it; -1: what others lend
  int lend = -1;    // at most so many of it to others; -1: all
  bool operator==(const QueueShare&) const = default;
};

// What stands in the way of so many more GPUs.
struct QuotaBlock {
  enum class Kind : std::uint8_t {
    queue,    // beyond its quota and what it may borrow
    lenders,  // the others lend no more
    project   // beyond the project's maximum
  };
  Kind kind;
  int who = 0;  // queue or project
  int used = 0, most = 0;
};

class Quota {
 public:
  void set_queue(int queue, QueueShare share);
  void set_project(int project, int parent, int max_gpus);  // -1: none
  void use(int queue, int project, int gpus);               // negative: gives back

  std::optional<QuotaBlock> blocks(int queue, int project, int gpus) const;
  QueueShare share(int queue) const;
  int max_of_project(int project) const;  // -1: none
  int used_by_queue(int queue) const;
  int used_by_project(int project) const;
  // GPUs beyond its quota; 0 without one.
  int borrowed(int queue) const;
  // So many more GPUs are within its own quota: it may take back what it has lent.
  bool entitled(int queue, int gpus) const;

 private:
  struct Queue {
    QueueShare share;
    int used = 0;
    int kept() const { return share.lend < 0 ? 0 : share.quota - share.lend; }  // never lent
  };
  struct Project {
    int parent = -1, max = -1, used = 0;
  };
  const Queue* find(int queue) const;

  std::vector<Queue> queues_;
  std::vector<Project> projects_;
};

}  // namespace tutti::planner
