// AccountStore in PostgreSQL. Text and rules of the tables: sql/migrations/0011_accounts.sql.
#pragma once

#include <string>

#include "db/accounts.h"
#include "db/pg/side_session.h"

namespace tutti::db {

class PgAccounts final : public AccountStore {
 public:
  explicit PgAccounts(std::string connection_string)
      : session_(std::move(connection_string), "tutti-accounts") {}

  std::int64_t revision() override;
  AccountSnapshot load() override;
  void commit(const AccountBatch& batch, std::int64_t expected) override;
  std::vector<AuditRow> audit(const AuditFilter& filter, int limit, std::int64_t before) override;
  bool forget_audit(Instant before, int most) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
