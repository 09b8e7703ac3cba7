#pragma once

#include <string>

#include "db/pg/side_session.h"
#include "db/series.h"

namespace tutti::db {

class PgSeries final : public SeriesStore {
 public:
  explicit PgSeries(std::string connection_string) : session_(std::move(connection_string), "tutti-series") {}

  void add(const std::vector<SeriesRow>& rows) override;
  std::vector<SeriesRow> find(const SeriesRange& range, int most) override;
  std::int64_t bytes(const SeriesRange& range) override;
  bool forget(Duration step, Instant before, int most) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
