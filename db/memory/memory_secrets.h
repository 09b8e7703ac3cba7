// SecretStore for tests.
#pragma once

#include <utility>

#include "db/secrets.h"

namespace tutti::db {

class MemorySecrets final : public SecretStore {
 public:
  std::int64_t put(const std::string& project, const std::string& name, const SealedSecret& value,
                   const std::string& by, Instant at) override;
  bool remove(const std::string& project, const std::string& name) override;
  std::vector<SecretRow> list(const std::string& project) override;
  std::map<std::string, SealedSecret> fetch(const std::string& project,
                                            const std::vector<std::string>& names) override;

 private:
  std::map<std::pair<std::string, std::string>, std::pair<SecretRow, SealedSecret>> rows_;
};

}  // namespace tutti::db
