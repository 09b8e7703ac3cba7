// What can be learnt from files and directories about a PostgreSQL installation and a cluster. No processes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace tutti::db {

// Whom the server runs as. `change` is false when we are not root: then it runs as we do.
struct OsUser {
  bool change = false;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name;
};
OsUser server_user(const std::string& run_as);

// Directory with `postgres` and `initdb`. `major` nonzero: exactly that version (a cluster has decided).
std::string find_binaries(const std::string& wanted, int major);
int binary_major(const std::string& bin_directory);         // asks `postgres --version`
std::optional<int> cluster_major(const std::string& data);  // PG_VERSION; nothing: no cluster there

void make_private_directory(const std::string& path, const OsUser& owner);

// postmaster.pid: who holds the cluster, and is it ready (line 8)?
struct LockFile {
  pid_t pid = 0;
  bool ready = false;
};
std::optional<LockFile> read_lock_file(const std::string& data);

// Waits while an earlier server still holds the cluster (it stops by itself when its owner is dead). Removes
// the lock file if its process id now belongs to something that is no PostgreSQL. Throws when time is up.
void wait_until_unlocked(const std::string& data, std::chrono::milliseconds timeout);

// Settings as `-c name=value` pairs, scaled to this machine.
std::vector<std::pair<std::string, std::string>> recommended_settings(const std::string& data, bool fsync);

// The last lines of a log, for error messages.
std::string tail(const std::string& path);

}  // namespace tutti::db
