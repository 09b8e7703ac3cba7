// Starts one process of an attempt as the job's user. Called by the supervisor's only thread
// (PR_SET_PDEATHSIG counts on that: it fires when the thread that forked ends).
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "worker/supervisor/fd.h"

namespace tutti::supervisor {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name, home, shell;
};
User look_up_user(uid_t uid, gid_t gid);  // asks the user database, which may hang

struct SpawnPlan {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string workdir;
  std::string log;         // absolute; opened as the user, appended to
  int out = -1, err = -1;  // instead of the log: the write ends of two pipes
  int in = -1;             // instead of /dev/null
  const User* user = nullptr;
  std::string cgroup;  // "" = none
};

struct Spawned {
  pid_t pid = 0;
  Fd trouble;  // once the child has ended: why it could not start its program, if that was so
};

// Returns as soon as the child exists; it may still fail to start its program, and then exits 127. Never
// waits for the child: its directory may lie on a file server that hangs. Throws std::system_error when there
// is no child. The child is killed with its parent, leads its own process group, has no new privileges and no
// descriptors but 0, 1, 2. Where we are root it has that user's groups, no capability and no way to one
// (root's own jobs keep theirs), writes no core dump unless it asks for one, and may lock memory and open
// files as far as the kernel lets it.
Spawned spawn(const SpawnPlan& plan);
// "cannot start mpirun: No such file or directory", or "" when it was started.
std::string read_trouble(const Fd& trouble);

}  // namespace tutti::supervisor
