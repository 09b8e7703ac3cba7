#include "worker/node/kernel_ring.h"

#include <cstdio>
#include <utility>

namespace tutti::node {

void KernelRing::add(const KernelRecord& record) { push({record.boot_us, record.text}); }

void KernelRing::add_loss(std::uint64_t records, std::int64_t boot_us) {
  push({boot_us, "-- " + (records == 0 ? "some" : std::to_string(records)) +
                     " records were overwritten before they could be read --"});
}

void KernelRing::push(Line line) {
  bytes_ += line.text.size();
  lines_.push_back(std::move(line));
  while (lines_.size() > max_lines_ || bytes_ > max_bytes_) {
    bytes_ -= lines_.front().text.size();
    lines_.pop_front();
  }
}

std::string KernelRing::slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const {
  std::string out;
  for (const auto& line : lines_) {
    if (line.boot_us < from_boot_us || line.boot_us > until_boot_us) continue;
    char stamp[40];
    std::snprintf(stamp, sizeof stamp, "[%5lld.%06lld] ", static_cast<long long>(line.boot_us / 1'000'000),
                  static_cast<long long>(line.boot_us % 1'000'000));
    out.append(stamp).append(line.text).push_back('\n');
  }
  return out;
}

}  // namespace tutti::node
