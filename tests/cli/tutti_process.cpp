#include "tests/cli/tutti_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

extern char** environ;

namespace tutti::cli::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLongest(20);

}  // namespace

std::vector<std::string> child_environment(const TuttiProcess::Environment& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    const std::string name = text.substr(0, text.find('='));
    if (!name.starts_with("TUTTI_") && name != "XDG_CONFIG_HOME" && name != "XDG_DATA_HOME" &&
        added.count(name) == 0)
      all.push_back(text);
  }
  for (const char* name : {"XDG_CONFIG_HOME", "XDG_DATA_HOME"})
    if (added.count(name) == 0) all.push_back(std::string(name) + "=/nonexistent");
  for (const auto& [name, value] : added) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (auto& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

std::string bin_folder() {
  const char* bin = std::getenv("TUTTI_BIN");
  if (bin == nullptr) throw std::runtime_error("TUTTI_BIN is not set: run the tests with ctest");
  return bin;
}

TuttiProcess::TuttiProcess(std::vector<std::string> arguments, std::string input,
                           const Environment& environment, int pass_fd) {
  arguments.insert(arguments.begin(), bin_folder() + "/tutti");
  std::vector<std::string> env = child_environment(environment);
  const std::vector<char*> argv = pointers(arguments), envp = pointers(env);
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
    throw std::runtime_error("pipe");
  if (input.size() > 60'000) throw std::runtime_error("input too long for a pipe");
  if (write(in[1], input.data(), input.size()) != static_cast<ssize_t>(input.size()))
    throw std::runtime_error("write");
  close(in[1]);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    if (pass_fd >= 0) fcntl(pass_fd, F_SETFD, 0);
    execve(argv[0], argv.data(), envp.data());
    _exit(126);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  out_fd_ = out[0];
  err_fd_ = err[0];
}

TuttiProcess::~TuttiProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (const int fd : {out_fd_, err_fd_})
    if (fd >= 0) close(fd);
}

bool TuttiProcess::pump(Clock::time_point until) {
  pollfd waits[] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
  if (out_fd_ < 0 && err_fd_ < 0) return false;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  if (left <= 0 || poll(waits, 2, static_cast<int>(left)) == 0)
    throw std::runtime_error("tutti took too long; output so far:\n" + out_ + "\nerrors:\n" + err_);
  const auto take = [](pollfd& wait, int& fd, std::string& into) {
    if (wait.revents == 0) return;
    char buffer[16384];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0) {
      into.append(buffer, static_cast<std::size_t>(n));
    } else {
      close(fd);
      fd = -1;
    }
  };
  take(waits[0], out_fd_, out_);
  take(waits[1], err_fd_, err_);
  return true;
}

void TuttiProcess::wait_for(const std::string& text, const std::string& in) {
  const auto until = Clock::now() + kLongest;
  while (in.find(text) == std::string::npos)
    if (!pump(until))
      throw std::runtime_error("tutti ended without saying '" + text + "':\n" + out_ + "\n" + err_);
}
void TuttiProcess::wait_for_output(const std::string& text) { wait_for(text, out_); }
void TuttiProcess::wait_for_error(const std::string& text) { wait_for(text, err_); }

void TuttiProcess::signal(int number) const { kill(pid_, number); }

Finished TuttiProcess::wait() {
  const auto until = Clock::now() + kLongest;
  while (pump(until)) {
  }
  // Both ends are closed, so it is at its end or has closed them: wait on its pidfd all the same, not for
  // ever.
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  pollfd ended{pidfd, POLLIN, 0};
  const bool in_time = poll(&ended, 1, 20'000) == 1;
  close(pidfd);
  if (!in_time) throw std::runtime_error("tutti does not end");
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), out_, err_};
}

Finished run_tutti(std::vector<std::string> arguments, std::string input,
                   const TuttiProcess::Environment& environment) {
  TuttiProcess process(std::move(arguments), std::move(input), environment);
  return process.wait();
}

}  // namespace tutti::cli::test
