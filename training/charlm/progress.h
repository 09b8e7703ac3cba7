// $TUTTI_PROGRESS_FILE = {step, total, eta_s, compute_s, metrics}: how far this rank is, rewritten at most
// five times a second. compute_s is this rank's own mean time per step before the collective since the last
// report: in a gang all ranks have the same step time, and only this number names the slow one.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>

namespace tutti::charlm {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  // An empty path reports nothing.
  Progress(std::filesystem::path file, std::uint64_t first_step, std::uint64_t total);

  // After each step. `last` is written whatever the time. A full disk costs the report, not the run.
  void on_step(std::uint64_t step, Clock::duration compute, double loss, bool last);

 private:
  void write(std::uint64_t step, double loss, Clock::time_point now);

  std::filesystem::path file_;
  std::uint64_t total_;
  std::uint64_t first_step_;
  Clock::time_point started_;
  Clock::time_point written_{};
  Clock::duration compute_{};
  int steps_since_write_ = 0;
};

}  // namespace tutti::charlm
