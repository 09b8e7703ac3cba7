#include "cli/children.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>

extern char** environ;

namespace tutti::cli {
namespace {

std::vector<std::string> merged_environment(const ChildPlan& plan) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const bool replaced =
        std::any_of(plan.environment.begin(), plan.environment.end(), [&](const auto& added) {
          return text.starts_with(added.first) && text.substr(added.first.size()).starts_with('=');
        });
    if (!replaced) all.emplace_back(text);
  }
  for (const auto& [name, value] : plan.environment) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (auto& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

// In the child: only what is safe after a fork.
[[noreturn]] void become(char* const* argv, char* const* env, int log, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);  // it died before prctl
  const int in = open("/dev/null", O_RDONLY);
  if (in < 0 || dup2(in, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) _exit(127);
  close_range(3, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) signal(number, SIG_DFL);
  execve(argv[0], argv, env);
  const char* why = std::strerror(errno);
  (void)!write(2, argv[0], std::strlen(argv[0]));
  (void)!write(2, ": ", 2);
  (void)!write(2, why, std::strlen(why));
  (void)!write(2, "\n", 1);
  _exit(127);
}

}  // namespace

std::chrono::milliseconds restart_pause(int failures) {
  if (failures <= 1) return std::chrono::milliseconds(0);
  return std::chrono::milliseconds(std::min(10'000, 200 << std::min(failures - 2, 10)));
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return "signal " + std::to_string(number) + " (" + strsignal(number) + ")";
  }
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

pid_t spawn(const ChildPlan& plan) {
  std::vector<std::string> arguments = plan.argv;
  std::vector<std::string> environment = merged_environment(plan);
  const std::vector<char*> argv = pointers(arguments), env = pointers(environment);
  const int log = open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) throw std::system_error(errno, std::generic_category(), plan.log);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) become(argv.data(), env.data(), log, parent);
  const int error = errno;
  close(log);
  if (pid < 0) throw std::system_error(error, std::generic_category(), "fork");
  setpgid(pid, pid);  // both do it: neither has to wait for the other
  return pid;
}

void Child::start(SteadyTime now) {
  start_at_.reset();
  started_at_ = now;
  pid_ = spawn(plan_);
}

void Child::ended(SteadyTime now, bool again) {
  pid_ = 0;
  early_ends_ = now - started_at_ >= kSteady ? 1 : early_ends_ + 1;
  start_at_.reset();
  if (again) start_at_ = now + restart_pause(early_ends_);
}

void Child::signal(int number) const {
  if (pid_ != 0) kill(pid_, number);  // not reaped yet, so the number is still its own
}

}  // namespace tutti::cli
