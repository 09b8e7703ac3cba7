// WaitingReasonStore for tests.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "db/waiting_reasons.h"

namespace tutti::db {

class MemoryWaitingReasons final : public WaitingReasonStore {
 public:
  void add(const std::vector<WaitingReasonRow>& rows) override {
    for (const auto& row : rows) rows_.emplace(std::pair(row.job, row.at), row.body);
  }
  std::optional<WaitingReasonRow> find(JobId job, Instant at) override {
    auto next = rows_.upper_bound({job, at});
    if (next == rows_.begin() || (--next)->first.first != job) return std::nullopt;
    return WaitingReasonRow{job, next->first.second, next->second};
  }
  bool forget(Instant before, int most) override {
    int dropped = 0;
    std::erase_if(
        rows_, [&](const auto& row) { return row.first.second < before && dropped < most && ++dropped > 0; });
    return dropped == most;
  }
  std::size_t size() const { return rows_.size(); }

 private:
  std::map<std::pair<JobId, Instant>, std::string> rows_;
};

}  // namespace tutti::db
