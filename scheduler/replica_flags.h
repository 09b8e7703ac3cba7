// The flags of tutti-scheduler about other schedulers on the same database, and what it tells them of itself
// (docs/design/0016-replicas.md). Used by flags.h and the wiring (home.h, parts.h, serving.h).
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "api/http/server_config.h"
#include "db/store.h"
#include "scheduler/service/leader_proxy.h"

namespace tutti {

class Leader;

struct ReplicaFlags {
  std::string advertise;
  std::string ca_file;
  double renew_minutes = 10;
};

void add_replica_flags(CLI::App& app, ReplicaFlags& flags);

/// --data is one process's: while this lives, no other scheduler starts there, so whoever starts there later
/// knows that we are dead. Waits a few seconds for one that is about to end; throws std::runtime_error.
class DataLock {
 public:
  explicit DataLock(const std::filesystem::path& data);
  ~DataLock();
  DataLock(const DataLock&) = delete;
  DataLock& operator=(const DataLock&) = delete;

 private:
  int fd_ = -1;
};

struct ReplicaSecrets {
  std::string key, token;  // the files that replicas share
};
/// Where others reach us while we lead. Throws std::runtime_error naming the flag.
std::string advertised_url(const ReplicaFlags& flags, const http::ServerConfig& config, std::uint16_t port);

/// `port`: where the server listens. Throws std::runtime_error naming the flag.
LeaderCard leader_card(const ReplicaFlags& flags, const http::ServerConfig& config, std::uint16_t port,
                       const std::filesystem::path& data, const ReplicaSecrets& secrets);

/// Who is asked instead of us. The leader outlives it.
LeaderProxy::Leading leading(const Leader& leader, const std::string& own_url);

/// A leader that says nothing for so long is taken for frozen.
std::chrono::milliseconds frozen_after(Duration lease);

}  // namespace tutti
