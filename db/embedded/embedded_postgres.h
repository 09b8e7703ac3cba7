// A private PostgreSQL for people who have none: `tutti up`, demos, tests. Makes a cluster in a directory,
// runs the server as a child on a unix socket in that directory, and stops it cleanly. Plain POSIX.
//
// Called by: scheduler/database.cpp (tutti up), tests. Any thread; one object per directory.
//
// Invariants
//  1. The server does not outlive its owner: it stops cleanly by itself when the owner's process dies.
//  2. It listens on no network address; its socket lies in a directory only its user (and root) can enter.
//  3. A cluster of another major version is refused, never touched.
//  4. Every wait has a deadline.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

namespace tutti::db {

class EmbeddedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct EmbeddedOptions {
  std::string directory;           // holds data/, the socket and log/; made if missing
  std::string database = "tutti";  // made if missing
  bool fsync = true;               // false: for tests, a power cut may lose everything
  // PostgreSQL refuses to run as root: when we are root, this user runs it and owns the directory.
  std::string run_as = "postgres";
  std::string bin_directory;  // empty: the highest version >= 15 under /usr/lib/postgresql, else PATH
  std::map<std::string, std::string> settings;  // on top of ours: name -> value
  std::chrono::milliseconds start_timeout{30000};
  std::chrono::milliseconds stop_timeout{30000};
};

class Postmaster;

class EmbeddedPostgres {
 public:
  explicit EmbeddedPostgres(EmbeddedOptions options);
  ~EmbeddedPostgres();  // stop()
  EmbeddedPostgres(const EmbeddedPostgres&) = delete;
  EmbeddedPostgres& operator=(const EmbeddedPostgres&) = delete;

  // What start() needs of this machine is there; makes and starts nothing. Throws EmbeddedError and says what
  // to do.
  void look() const;

  // Makes the cluster if there is none, starts the server, waits until it accepts connections, makes the
  // database. Throws EmbeddedError and says what to do.
  void start();

  // Fast shutdown, then immediate, then SIGKILL, each with a deadline. Does nothing if it is not running.
  void stop();

  bool running() const;
  int pid() const;                        // 0 = not running
  std::string connection_string() const;  // for libpq
  // The same server, another database (tests).
  std::string connection_string(const std::string& database) const;

 private:
  void make_cluster();
  void make_database();

  EmbeddedOptions options_;
  std::string bin_;
  std::unique_ptr<Postmaster> postmaster_;
};

}  // namespace tutti::db
