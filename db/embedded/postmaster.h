// The server as our child process. A thread of its own forks it and reaps it: the kernel's parent-death
// signal follows the *thread* that forked, so that thread must live as long as the server does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "db/embedded/postgres_files.h"

namespace tutti::db {

// Starts `argv` as `user` in a session of its own (a Ctrl-C for us is not one for it), output to `log`.
// Runs between fork and exec, or fails with errno as exit status 127.
struct ChildOptions {
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string log;
  int death_signal = 0;  // sent to the child when the forking thread dies
};
pid_t spawn_child(const ChildOptions& options, const OsUser& user);

// Runs a helper such as initdb to its end. True: exit status 0. Killed when time is up.
bool run_to_end(const ChildOptions& options, const OsUser& user, std::chrono::milliseconds timeout);

class Postmaster {
 public:
  Postmaster(ChildOptions options, OsUser user, std::string data);
  ~Postmaster();  // kill if need be, join

  // Throws EmbeddedError if it ends before it is ready, or is not ready in time.
  void wait_ready(std::chrono::milliseconds timeout);
  // True: it has ended within the time.
  bool signal_and_wait(int signal, std::chrono::milliseconds timeout);
  bool running() const;
  pid_t pid() const;

 private:
  void run();

  ChildOptions options_;
  OsUser user_;
  std::string data_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  pid_t pid_ = 0;  // 0: not started yet, or could not be
  bool ended_ = false;
  int status_ = 0;  // of waitpid
  std::thread thread_;
};

}  // namespace tutti::db
