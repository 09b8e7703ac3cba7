// SeriesStore for tests.
#pragma once

#include <algorithm>
#include <climits>
#include <map>
#include <tuple>

#include "db/series.h"

namespace tutti::db {

class MemorySeries : public SeriesStore {
 public:
  void add(const std::vector<SeriesRow>& rows) override {
    for (const auto& row : rows) rows_[{row.owner, row.step, row.at}] += row.body;
  }
  std::vector<SeriesRow> find(const SeriesRange& range, int most) override {
    std::vector<SeriesRow> out;
    for (const auto& [key, body] : rows_) {
      const auto& [owner, step, at] = key;
      const bool wanted = step == range.step && at >= range.from && at < range.until;
      if (!wanted || std::ranges::find(range.owners, owner) == range.owners.end()) continue;
      if (static_cast<int>(out.size()) == most) break;
      out.push_back({owner, step, at, body});
    }
    return out;
  }
  std::int64_t bytes(const SeriesRange& range) override {
    std::int64_t sum = 0;
    for (const auto& row : find(range, INT_MAX)) sum += static_cast<std::int64_t>(row.body.size());
    return sum;
  }
  bool forget(Duration step, Instant before, int most) override {
    int dropped = 0;
    std::erase_if(rows_, [&](const auto& row) {
      return std::get<1>(row.first) == step && std::get<2>(row.first) < before && dropped < most &&
             ++dropped > 0;
    });
    return dropped == most;
  }
  std::size_t size() const { return rows_.size(); }

 private:
  std::map<std::tuple<series::Owner, Duration, Instant>, std::string> rows_;
};

}  // namespace tutti::db
