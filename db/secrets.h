// Where the secrets of projects are kept, sealed: neither this store nor its database can open them
// (scheduler/secrets/secret_box.h can). In PostgreSQL (db/pg) and in memory (db/memory, for tests); one suite
// (tests/store/secrets_test) holds both to the same rules.
//
// Called by: the side thread, one call at a time. Every call blocks. Throws StoreError.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "db/store.h"
#include "scheduler/model/time.h"

namespace tutti {

struct SealedSecret {
  std::string ciphertext, nonce;  // bytes
  bool operator==(const SealedSecret&) const = default;
};

struct SecretRow {  // what may be shown of it
  std::string project, name;
  std::int64_t version = 0;  // from 1, one more with each new value
  std::string updated_by;
  Instant updated_at;
  bool operator==(const SecretRow&) const = default;
};

class SecretStore {
 public:
  virtual ~SecretStore() = default;

  /// Makes it, or gives it a new value; its version then. conflict: the name is none.
  virtual std::int64_t put(const std::string& project, const std::string& name, const SealedSecret& value,
                           const std::string& by, Instant at) = 0;
  /// False: there was none.
  virtual bool remove(const std::string& project, const std::string& name) = 0;
  /// In order of project and name; project "": of all.
  virtual std::vector<SecretRow> list(const std::string& project) = 0;
  /// By name; those that there are not are left out.
  virtual std::map<std::string, SealedSecret> fetch(const std::string& project,
                                                    const std::vector<std::string>& names) = 0;
};

}  // namespace tutti
