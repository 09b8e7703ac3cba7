// Where a backup is taken from or restored to: a PostgreSQL by its connection string, or the embedded one of
// a data directory, which is started for the time being when no scheduler runs it. And the programs of
// PostgreSQL that do the work. Used by backup.cpp and restore.cpp.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "db/embedded/embedded_postgres.h"

namespace tutti::cli {

struct SiteOptions {
  std::string data;  // "" = the data directory of `tutti up`; with `db`: only its files secret and token
  std::string db;    // "" = the embedded one of `data`
};

// The embedded PostgreSQL of a data directory whose scheduler runs is used as it is; else this holds the
// directory's lock, so that no scheduler starts there meanwhile.
class BackupSite {
 public:
  enum class For {
    reading,
    writing
  };  // for writing no scheduler may run in the data directory
  BackupSite(SiteOptions options, For what);
  ~BackupSite();
  BackupSite(const BackupSite&) = delete;
  BackupSite& operator=(const BackupSite&) = delete;

  // There is no embedded PostgreSQL yet where these options want one.
  static bool would_be_made(const SiteOptions& options);
  const std::string& connection_string() const { return connection_; }
  const std::string& data() const { return data_; }  // "" = none was named
  std::string name() const;                          // for people; without a password

 private:
  bool lock_data();
  void use_running_server();

  std::string data_, connection_;
  bool embedded_ = false;
  int lock_ = -1;
  std::unique_ptr<db::EmbeddedPostgres> server_;
};

// Below /tmp, for lists and for what programs print: where a backup goes to may be full. Goes with its
// contents.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The newest pg_dump or pg_restore that is installed; it must not be older than the server.
std::string find_postgres_program(const std::string& name, int server_major);

struct ProgramRun {
  std::vector<std::string> argv;
  std::string connection_string;  // "" = it talks to no server; a password goes by the environment
  std::string log;                // file for what it prints
  std::chrono::steady_clock::time_point until;
  std::function<void()> tick;  // twice a second
};
// What such a program calls itself at the server: of "pg_restore".
std::string application_of(const std::string& program);
// Throws Failure: it failed (with its last words), time was up, or somebody has pressed Ctrl-C; it is gone
// then.
void run_program(const ProgramRun& run);

// The connection string without its password, as words of libpq.
std::string without_password(const std::string& connection_string);

}  // namespace tutti::cli
