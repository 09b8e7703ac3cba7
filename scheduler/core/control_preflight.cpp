// Control plane: what an all-reduce over a gang reached before its program started, against what other gangs
// of the same shape have reached lately. A fabric that is broken somewhere is found before hours are lost on
// it.
#include <algorithm>
#include <cstdio>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/core/quoted.h"

namespace tutti {
namespace {

constexpr std::size_t kRemembered = 64;  // of each shape
constexpr std::size_t kShapes = 1024;
constexpr std::size_t kEnough = 5;  // fewer say nothing about what is usual
constexpr double kTooSlow = 0.5;    // of the median

double median(std::deque<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

std::string gigabytes(double n) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g GB/s", n);
  return text;
}

}  // namespace

void ControlPlane::on_collective_result(Now now, NodeId from, const protocol::CollectiveResult& result) {
  const auto deciding = note<&ControlPlane::on_collective_result>(now, from, result);
  Attempt* attempt = find_live(result.key);
  if (attempt == nullptr || attempt->row.gang.front().node != from || result.gigabytes_per_second <= 0)
    return;
  if (std::exchange(attempt->collective_judged, true)) return;  // said again after a reconnect
  const auto& first = attempt->row.gang.front();
  const std::string model = first.gpus.empty() ? "cpu" : cluster_.gpus.at(first.gpus.front()).row.model;
  const std::string shape = std::to_string(attempt->row.gang.size()) + " nodes, " +
                            std::to_string(result.ranks) + " ranks, " + result.backend + " on " + model;
  if (collectives_.size() >= kShapes && !collectives_.contains(shape)) return;
  auto& others = collectives_[shape];
  const double reached = result.gigabytes_per_second;
  const bool known = others.size() >= kEnough;
  const double usual = known ? median(others) : 0;
  std::string text = "all-reduce of the gang: " + gigabytes(reached);
  if (known)
    text += "; the median of the last " + std::to_string(others.size()) + " of " + shape + " is " +
            gigabytes(usual);
  others.push_back(reached);
  if (others.size() > kRemembered) others.pop_front();
  add_evidence(*attempt, "{\"kind\":\"collective\",\"detail\":" + quoted(text) + "}");
  touch(*attempt);
  record_job(jobs_.at(result.key.job), now, {.kind = "preflight", .from = "", .to = "", .detail = text});
  if (!known || reached >= kTooSlow * usual || attempt->row.state == AttemptState::stopping) return;
  begin_stop(*attempt, Cause::fabric, "preflight: " + text, "KILL", Duration::zero(), now);
}

}  // namespace tutti
