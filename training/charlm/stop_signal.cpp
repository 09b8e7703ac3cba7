#include "training/charlm/stop_signal.h"

#include <poll.h>

#include <csignal>
#include <system_error>

namespace tutti::charlm {

namespace {

volatile std::sig_atomic_t stop_noted = 0;

extern "C" void note_stop(int) { stop_noted = 1; }

}  // namespace

void install_stop_signal() {
  struct sigaction action{};
  action.sa_handler = &note_stop;
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_signalled() { return stop_noted != 0; }

bool stop_wanted(const std::filesystem::path& stop_file) {
  std::error_code ignored;
  return stop_signalled() || (!stop_file.empty() && std::filesystem::exists(stop_file, ignored));
}

void pause_until(std::chrono::steady_clock::time_point until) {
  // Closed against the race "checked, then signalled, then slept": SIGTERM is blocked for the check and let
  // in by ppoll only.
  sigset_t term;
  sigset_t before;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  while (!stop_signalled()) {
    const auto left = until - std::chrono::steady_clock::now();
    if (left <= left.zero()) break;
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    const timespec timeout{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
    ::ppoll(nullptr, 0, &timeout, &before);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace tutti::charlm
