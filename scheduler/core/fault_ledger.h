// Who has been blamed for what: the faults and failures that speak against nodes and GPUs, newest last.
// Filled from the rows at boot and by every verdict since. Answers how often one GPU or node was at fault
// lately, and what the lemon score is made of. Control thread; bounded in age and number.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "scheduler/core/lemon_score.h"
#include "scheduler/model/rows.h"

namespace tutti {

struct Blame {
  FaultId fault;
  Instant at;
  NodeId node;
  GpuId gpu;  // 0 = the node as a whole
  JobId job;  // 0 = none was hit
  std::int32_t shared_by = 1;
};

class FaultLedger {
 public:
  void add(const FaultRow& row, Instant now);  // ignored unless it blames somebody
  // It was the program: what its failures had said is taken back. Which rows those were.
  std::vector<FaultId> forgive(JobId job);
  void withdraw(FaultId);  // it speaks against nobody any more

  // Faults that name it alone (shared_by 1) after that instant.
  int of_gpu(GpuId gpu, Instant since) const;
  int of_node(NodeId node, Instant since) const;
  std::vector<LemonFailure> lemon_failures(NodeId node) const;
  std::size_t size() const { return size_; }

 private:
  void drop_old(std::deque<Blame>& all, Instant now);

  std::map<NodeId, std::deque<Blame>> by_node_;
  struct Alone {
    FaultId fault;
    Instant at;
  };
  std::map<GpuId, std::deque<Alone>> by_gpu_;  // faults that name it alone; a card may move between nodes
  std::size_t size_ = 0;
};

}  // namespace tutti
