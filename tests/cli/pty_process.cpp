#include "tests/cli/pty_process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

namespace tutti::cli::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLongest(20);

}  // namespace

PtyProcess::PtyProcess(std::vector<std::string> arguments, const TuttiProcess::Environment& environment,
                       int rows, int columns) {
  arguments.insert(arguments.begin(), bin_folder() + "/tutti");
  std::vector<std::string> env = child_environment(environment);
  const std::vector<char*> argv = pointers(arguments), envp = pointers(env);
  winsize size{};
  size.ws_row = static_cast<unsigned short>(rows);
  size.ws_col = static_cast<unsigned short>(columns);
  // Our own end of the slave keeps its settings to be looked at after the child is gone.
  if (openpty(&master_, &slave_, nullptr, nullptr, &size) != 0) throw std::runtime_error("openpty");
  for (const int fd : {master_, slave_}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    ioctl(slave_, TIOCSCTTY, 0);
    for (const int fd : {0, 1, 2}) dup2(slave_, fd);
    execve(argv[0], argv.data(), envp.data());
    _exit(126);
  }
}

PtyProcess::~PtyProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(master_);
  close(slave_);
}

void PtyProcess::type(const std::string& bytes) const {
  if (write(master_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    throw std::runtime_error("write to the terminal");
}

void PtyProcess::resize(int rows, int columns) const {
  winsize size{};
  size.ws_row = static_cast<unsigned short>(rows);
  size.ws_col = static_cast<unsigned short>(columns);
  ioctl(master_, TIOCSWINSZ, &size);  // the kernel tells the processes of the terminal
}

void PtyProcess::signal(int number) const { kill(pid_, number); }

bool PtyProcess::pump(int milliseconds) {
  pollfd wait{master_, POLLIN, 0};
  if (poll(&wait, 1, milliseconds) <= 0) return false;
  char buffer[8192];
  const ssize_t n = read(master_, buffer, sizeof buffer);
  if (n > 0) output_.append(buffer, static_cast<std::size_t>(n));
  return n > 0;
}

void PtyProcess::wait_for_output(const std::string& text) {
  const auto until = Clock::now() + kLongest;
  while (output_.find(text) == std::string::npos) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0 || !pump(static_cast<int>(left)))
      throw std::runtime_error("the terminal never showed '" + text + "':\n" + output_);
  }
}

termios PtyProcess::mode() const {
  termios mode{};
  tcgetattr(slave_, &mode);
  return mode;
}

bool PtyProcess::blocking() const { return (fcntl(slave_, F_GETFL) & O_NONBLOCK) == 0; }

int PtyProcess::wait() {
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  const auto until = Clock::now() + kLongest;
  while (true) {
    pollfd waits[] = {{pidfd, POLLIN, 0}, {master_, POLLIN, 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0 || poll(waits, 2, static_cast<int>(left)) <= 0) {
      close(pidfd);
      throw std::runtime_error("tutti does not end:\n" + output_);
    }
    if (waits[1].revents != 0) pump(0);
    if (waits[0].revents != 0) break;
  }
  close(pidfd);
  while (pump(0)) {
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

bool same_mode(const termios& a, const termios& b) {
  return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_lflag == b.c_lflag && a.c_cflag == b.c_cflag;
}

}  // namespace tutti::cli::test
