#pragma once

#include <string>

#include "db/pg/side_session.h"
#include "db/retention.h"

namespace tutti::db {

class PgRetention final : public RetentionStore {
 public:
  explicit PgRetention(std::string connection_string)
      : session_(std::move(connection_string), "tutti-retention") {}

  Instant clock() override;
  Forgotten forget(Instant before, int most) override;
  std::int64_t forget_keys(int most) override;
  std::optional<Instant> oldest() override;
  /// Of jobs fewer than asked for, by their number and size: an empty page is the end, a small one is not.
  HistoryPage read(HistoryPart part, HistoryPlace after, Instant until, int most) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
