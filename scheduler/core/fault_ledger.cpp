#include "scheduler/core/fault_ledger.h"

#include <algorithm>

namespace tutti {
namespace {

constexpr Duration kKept = std::chrono::days(120);  // several half-lives of the lemon score
constexpr std::size_t kPerNode = 500;
constexpr std::size_t kPerGpu = 100;  // limits count a day

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
  if (!row.gpu || row.shared_by != 1) return;
  auto& alone = by_gpu_[row.gpu];
  alone.push_back({row.id, row.at});
  if (alone.size() > kPerGpu) alone.pop_front();
}

void FaultLedger::drop_old(std::deque<Blame>& all, Instant now) {
  while (!all.empty() && (all.size() > kPerNode || now - all.front().at > kKept)) {
    all.pop_front();
    --size_;
  }
}

std::vector<FaultId> FaultLedger::forgive(JobId job) {
  std::vector<FaultId> out;
  for (auto& [node, all] : by_node_)
    size_ -= std::erase_if(all, [&](const Blame& b) {
      const bool speaks = b.job == job && b.shared_by > 1;
      if (speaks) out.push_back(b.fault);
      return speaks;
    });
  return out;
}

void FaultLedger::withdraw(FaultId id) {
  for (auto& [node, all] : by_node_)
    size_ -= std::erase_if(all, [&](const Blame& b) { return b.fault == id; });
  for (auto& [gpu, all] : by_gpu_) std::erase_if(all, [&](const Alone& a) { return a.fault == id; });
}

int FaultLedger::of_gpu(GpuId gpu, Instant since) const {
  const auto found = by_gpu_.find(gpu);
  if (found == by_gpu_.end()) return 0;
  return static_cast<int>(std::ranges::count_if(found->second, [&](const Alone& a) { return a.at > since; }));
}

int FaultLedger::of_node(NodeId node, Instant since) const {
  const auto found = by_node_.find(node);
  if (found == by_node_.end()) return 0;
  return static_cast<int>(
      std::ranges::count_if(found->second, [&](const Blame& b) { return b.shared_by == 1 && b.at > since; }));
}

std::vector<LemonFailure> FaultLedger::lemon_failures(NodeId node) const {
  std::vector<LemonFailure> out;
  if (const auto found = by_node_.find(node); found != by_node_.end())
    for (const Blame& b : found->second) out.push_back({b.at, b.shared_by});
  return out;
}

}  // namespace tutti
