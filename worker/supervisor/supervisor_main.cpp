// tutti-supervisor <attempt directory>: see supervisor.h. Started by the worker, which it outlives. Exit
// status: 0 told its end, 1 could not begin, 3 this attempt has had its supervisor.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "worker/supervisor/files.h"
#include "worker/supervisor/supervisor.h"

using namespace tutti::supervisor;

namespace {

void detach(const std::string& dir) {
  setsid();  // fails harmlessly when we are a leader already
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) throw_errno("subreaper");
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int s : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&blocked, s);
  sigprocmask(SIG_SETMASK, &blocked, nullptr);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  poke_file("/proc/self/oom_score_adj", "-500");  // the ranks shall go first; only root may
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const Fd log(
      open((dir + "/supervisor.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!null || !log) throw_errno("supervisor.log");
  dup2(null.get(), 0);
  dup2(log.get(), 1);
  dup2(log.get(), 2);
  (void)!mlockall(MCL_CURRENT);  // a page of ours must not wait for a disk when the lease runs out
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] != '/') {
    std::fprintf(stderr, "usage: tutti-supervisor <absolute path of the attempt's directory>\n");
    return 1;
  }
  const std::string dir = argv[1];
  try {
    const Fd lock(open((dir + "/supervisor.lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!lock) throw_errno("supervisor.lock");
    struct stat s{};
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0 || stat((dir + "/state.json").c_str(), &s) == 0) {
      std::fprintf(stderr, "tutti-supervisor: %s has had its supervisor\n", dir.c_str());
      return 3;
    }
    const auto text = read_file(dir + "/supervise.json", 16 << 20);
    if (!text) throw_errno("supervise.json");
    Config config = decode_config(*text);
    if (config.dir != dir) throw std::invalid_argument("supervise.json is of " + config.dir);
    detach(dir);
    Supervisor supervisor(std::move(config));
    supervisor.run();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-supervisor: %s\n", e.what());
    return 1;
  }
}
