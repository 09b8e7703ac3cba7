#include "worker/service/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <system_error>
#include <utility>

extern char** environ;

namespace tutti::worker {
namespace {

void check(int error, const std::string& what) {
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

struct Actions {
  posix_spawn_file_actions_t raw;
  Actions() { posix_spawn_file_actions_init(&raw); }
  ~Actions() { posix_spawn_file_actions_destroy(&raw); }
};
struct Attributes {
  posix_spawnattr_t raw;
  Attributes() { posix_spawnattr_init(&raw); }
  ~Attributes() { posix_spawnattr_destroy(&raw); }
};

int pidfd_of(pid_t pid) {
  const auto fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "pidfd_open " + std::to_string(pid));
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

}  // namespace

pid_t spawn_child(const SpawnRequest& request) {
  Actions actions;
  const auto file = [&](int to, const char* path, int flags) {
    check(posix_spawn_file_actions_addopen(&actions.raw, to, path, flags, 0600), "spawn");
  };
  const auto descriptor = [&](int from, int to) {
    check(posix_spawn_file_actions_adddup2(&actions.raw, from, to), "spawn");
  };
  if (request.in >= 0)
    descriptor(request.in, 0);
  else
    file(0, "/dev/null", O_RDONLY);
  if (!request.log.empty()) file(2, request.log.c_str(), O_WRONLY | O_CREAT | O_APPEND);
  if (request.out >= 0)
    descriptor(request.out, 1);
  else if (!request.log.empty())
    descriptor(2, 1);
  else
    file(1, "/dev/null", O_WRONLY);
  // Asio's sockets are not close-on-exec. A supervisor lives longer than we do: with our connection in its
  // hands the scheduler would not see us die.
  check(posix_spawn_file_actions_addclosefrom_np(&actions.raw, 3), "spawn");

  Attributes attributes;
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes.raw, &none);
  posix_spawnattr_setsigdefault(&attributes.raw, &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (request.own_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&attributes.raw, flags);

  std::vector<char*> argv;
  for (const auto& word : request.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  check(posix_spawn(&pid, argv[0], &actions.raw, &attributes.raw, argv.data(), environ),
        "start " + request.argv[0]);
  return pid;
}

Watched::Watched(boost::asio::io_context& io, pid_t pid, std::function<void()> on_end)
    : pid_(pid), on_end_(std::move(on_end)), fd_(io, pidfd_of(pid)) {
  wait();
}

// Asio may say "readable" without it being so: what epoll reported for a descriptor that was closed meanwhile
// goes to the one that took over its place in Asio. A read would see that and wait on; here we have to look.
void Watched::wait() {
  fd_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                 [this, alive = alive_](boost::system::error_code ec) {
                   if (!*alive || ec) return;
                   pollfd now{fd_.native_handle(), POLLIN, 0};
                   if (poll(&now, 1, 0) <= 0) return wait();
                   waitpid(pid_, nullptr, WNOHANG);  // reaps it if it is our child; otherwise ECHILD
                   const auto on_end = std::move(on_end_);
                   on_end();  // may destroy us
                 });
}

Watched::~Watched() { *alive_ = false; }

void Watched::signal(int number) { syscall(SYS_pidfd_send_signal, fd_.native_handle(), number, nullptr, 0); }

}  // namespace tutti::worker
