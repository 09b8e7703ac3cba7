#include "training/charlm/progress.h"

#include <boost/json.hpp>
#include <cstdio>
#include <utility>

#include "training/charlm/durable_file.h"
#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

namespace {

constexpr std::chrono::milliseconds kMinInterval{200};

double in_seconds(Progress::Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

Progress::Progress(std::filesystem::path file, std::uint64_t first_step, std::uint64_t total)
    : file_(std::move(file)), total_(total), first_step_(first_step), started_(Clock::now()) {}

void Progress::on_step(std::uint64_t step, Clock::duration compute, double loss, bool last) {
  if (file_.empty()) return;
  compute_ += compute;
  ++steps_since_write_;
  const auto now = Clock::now();
  if (!last && now - written_ < kMinInterval) return;
  try {
    write(step, loss, now);
  } catch (const Failure& failure) {
    std::fprintf(stderr, "charlm: no progress report: %s\n", failure.what());
  }
  written_ = now;
  compute_ = {};
  steps_since_write_ = 0;
}

void Progress::write(std::uint64_t step, double loss, Clock::time_point now) {
  const double per_step = in_seconds(now - started_) / static_cast<double>(step - first_step_);
  const boost::json::object report{
      {"step", step},
      {"total", total_},
      {"eta_s", per_step * static_cast<double>(total_ - step)},
      {"compute_s", in_seconds(compute_) / steps_since_write_},
      {"metrics", {{"loss", loss}, {"step_s", per_step}}},
  };
  write_file(file_, boost::json::serialize(report) + "\n", Durability::survives_process);
}

}  // namespace tutti::charlm
