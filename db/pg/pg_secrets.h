#pragma once

#include <string>

#include "db/pg/side_session.h"
#include "db/secrets.h"

namespace tutti::db {

class PgSecrets final : public SecretStore {
 public:
  explicit PgSecrets(std::string connection_string)
      : session_(std::move(connection_string), "tutti-secrets") {}

  std::int64_t put(const std::string& project, const std::string& name, const SealedSecret& value,
                   const std::string& by, Instant at) override;
  bool remove(const std::string& project, const std::string& name) override;
  std::vector<SecretRow> list(const std::string& project) override;
  std::map<std::string, SealedSecret> fetch(const std::string& project,
                                            const std::vector<std::string>& names) override;

 private:
  SideSession session_;
};

}  // namespace tutti::db
