#include "scheduler/core/fault_ledger.h"

#include <algorithm>

namespace tutti {
namespace {

constexpr Duration kKept = std::chrono::days(120);  // several half-lives of the lemon score
constexpr std::size_t kPerNode = 500;

int count(const std::deque<Blame>& all, Instant since, GpuId gpu) {
  return static_cast<int>(std::ranges::count_if(
      all, [&](const Blame& b) { return b.shared_by == 1 && b.at > since && (!gpu || b.gpu == gpu); }));
}

}  // namespace

void FaultLedger::add(const FaultRow& row, Instant now) {
  if (row.shared_by <= 0 || !row.node) return;
  auto& all = by_node_[row.node];
  all.push_back({.fault = row.id,
                 .at = row.at,
                 .node = row.node,
                 .gpu = row.gpu,
                 .job = row.job,
                 .shared_by = row.shared_by});
  ++size_;
  drop_old(all, now);
}

void FaultLedger::drop_old(std::deque<Blame>& all, Instant now) {
  while (!all.empty() && (all.size() > kPerNode || now - all.front().at > kKept)) {
    all.pop_front();
    --size_;
  }
}

void FaultLedger::forgive(JobId job) {
  for (auto& [node, all] : by_node_)
    size_ -= std::erase_if(all, [&](const Blame& b) { return b.job == job && b.shared_by > 1; });
}

int FaultLedger::of_gpu(GpuId gpu, Instant since) const {
  int n = 0;
  for (const auto& [node, all] : by_node_) n += count(all, since, gpu);  // a card may have moved
  return n;
}

int FaultLedger::of_node(NodeId node, Instant since) const {
  const auto found = by_node_.find(node);
  return found == by_node_.end() ? 0 : count(found->second, since, {});
}

std::vector<LemonFailure> FaultLedger::lemon_failures(NodeId node) const {
  std::vector<LemonFailure> out;
  if (const auto found = by_node_.find(node); found != by_node_.end())
    for (const Blame& b : found->second) out.push_back({b.at, b.shared_by});
  return out;
}

}  // namespace tutti
