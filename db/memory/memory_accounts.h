// AccountStore in memory, for tests: the rules of the tables without the server.
#pragma once

#include "db/accounts.h"

namespace tutti::db {

class MemoryAccounts final : public AccountStore {
 public:
  std::int64_t revision() override;
  AccountSnapshot load() override;
  void commit(const AccountBatch& batch, std::int64_t expected) override;
  std::vector<AuditRow> audit(const AuditFilter& filter, int limit, std::int64_t before) override;
  bool forget_audit(Instant before, int most) override;

  void set_reachable(bool reachable) { reachable_ = reachable; }

 private:
  void check() const;

  bool reachable_ = true;
  std::int64_t revision_ = 1;
  std::map<std::string, UserRow> users_;
  std::map<std::string, TokenRow> tokens_;
  std::map<std::string, SessionRow> sessions_;
  std::map<std::string, JoinTokenRow> joins_;
  std::map<std::string, NodeCredentialRow> nodes_;
  std::vector<AuditRow> audit_;  // by id
  std::int64_t last_audit_ = 0;
};

}  // namespace tutti::db
