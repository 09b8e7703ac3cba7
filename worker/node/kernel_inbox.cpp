#include "worker/node/kernel_inbox.h"

#include <algorithm>
#include <utility>

namespace tutti::node {

bool KernelInbox::add(const KernelRecord& record, bool live) {
  const std::lock_guard lock(mutex_);
  ring_.add(record);
  const auto found = parser_.take(record);
  const bool old = told_up_to_ ? record.number <= *told_up_to_ : record.boot_us < started_us_;
  const bool news = live || !old;
  // Only what stands in for the kernel's log begins its numbers anew.
  told_up_to_ = live ? record.number : std::max(told_up_to_.value_or(0), record.number);
  if (!found || !news) return false;
  if (news_.findings.size() >= max_findings_)
    ++news_.dropped;
  else
    news_.findings.push_back(*found);
  return ring_bell();
}

bool KernelInbox::add_loss(std::uint64_t records, std::int64_t boot_us) {
  const std::lock_guard lock(mutex_);
  ring_.add_loss(records, boot_us);
  news_.lost_records += records;
  news_.some_lost = news_.some_lost || records == 0;
  return ring_bell();
}

KernelInbox::News KernelInbox::take() {
  const std::lock_guard lock(mutex_);
  rung_ = false;
  auto out = std::exchange(news_, {});
  out.told_up_to = told_up_to_;
  return out;
}

std::string KernelInbox::slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const {
  const std::lock_guard lock(mutex_);
  return ring_.slice(from_boot_us, until_boot_us);
}

}  // namespace tutti::node
