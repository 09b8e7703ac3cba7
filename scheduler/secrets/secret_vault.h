// The secrets of projects, for those who may ask: handlers (names, dates; new values go in and never out
// again) and the connections of workers (values, at a launch). All on the control thread; the database is
// asked on the side thread, and replies come back on the control thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "db/secrets.h"
#include "scheduler/model/error.h"
#include "scheduler/secrets/secret_box.h"
#include "scheduler/service/side_thread.h"

namespace tutti {

inline constexpr std::size_t kMaxSecretValue = 64 << 10;    // bytes
inline constexpr std::size_t kMaxSecretsOfJob = 512 << 10;  // bytes of all values together
inline constexpr std::size_t kMaxSecretsOfProject = 1000;

class SecretVault {
 public:
  template <class T>
  using Reply = std::function<void(Result<T>)>;
  using Values = std::map<std::string, std::string>;

  /// `master`: as SecretBox.
  SecretVault(std::shared_ptr<SecretStore> store, Aside aside, const std::string& master);

  void list(std::string project, Reply<std::vector<SecretRow>> reply);  // "" = of all projects
  void put(std::string project, std::string name, std::string value, std::string by, Instant at,
           Reply<SecretRow> reply);
  void remove(std::string project, std::string name, Reply<bool> reply);  // false: there was none
  /// Both: in_doubt if nobody knows whether it has happened.
  /// All of these. not_found names those that there are not; unavailable: the database cannot be asked now.
  void values(std::string project, std::vector<std::string> names, Reply<Values> reply);

 private:
  template <class T>
  void ask(std::function<Result<T>(SecretStore&, const SecretBox&)> work, Reply<T> reply,
           bool writes = false);

  std::shared_ptr<SecretStore> store_;  // side thread
  Aside aside_;
  std::shared_ptr<const SecretBox> box_;
};

}  // namespace tutti
