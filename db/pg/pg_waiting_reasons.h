#pragma once

#include <string>

#include "db/pg/side_session.h"
#include "db/waiting_reasons.h"

namespace tutti::db {

class PgWaitingReasons final : public WaitingReasonStore {
 public:
  explicit PgWaitingReasons(std::string connection_string)
      : session_(std::move(connection_string), "tutti-waiting") {}

  void add(const std::vector<WaitingReasonRow>& rows) override;
  std::optional<WaitingReasonRow> find(JobId job, Instant at) override;
  bool forget(Instant before, int most) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
