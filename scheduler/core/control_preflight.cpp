// Control plane: what an all-reduce over a gang reached before its program started, against what other gangs
// of the same shape have reached lately. A fabric that is broken somewhere is found before hours are lost on
// it.
#include <algorithm>
#include <cstdio>
#include <string_view>
#include <utility>

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

constexpr std::string_view kEvidence = "{\"kind\":\"collective\"";  // so it stands in no string of it

}  // namespace

// Where there is no room for its shape nothing is known of it.
std::optional<ControlPlane::Compared> ControlPlane::compare(const AttemptRow& row,
                                                            const protocol::CollectiveResult& result) {
  const auto& first = row.gang.front();
  const std::string model = first.gpus.empty() ? "cpu" : cluster_.gpus.at(first.gpus.front()).row.model;
  const std::string shape = std::to_string(row.gang.size()) + " nodes, " + std::to_string(result.ranks) +
                            " ranks, " + result.backend + " on " + model;
  if (collectives_.size() >= kShapes && !collectives_.contains(shape)) return std::nullopt;
  auto& others = collectives_[shape];
  const double reached = result.gigabytes_per_second;
  Compared out{.text = "all-reduce of the gang: " + gigabytes(reached)};
  if (others.size() >= kEnough) {
    const double usual = median(others);
    out.text += "; the median of the last " + std::to_string(others.size()) + " of " + shape + " is " +
                gigabytes(usual);
    out.slow = reached < kTooSlow * usual;
  }
  others.push_back(reached);
  if (others.size() > kRemembered) others.pop_front();
  return out;
}

// It comes before the end of its attempt, unless that was given up meanwhile; then it is still worth to be
// known. A worker says it again after a reconnect, also to the next leader: that one learns from it, and does
// not stop what its predecessor has let run.
void ControlPlane::on_collective_result(Now now, NodeId from, const protocol::CollectiveResult& result) {
  const auto deciding = note<&ControlPlane::on_collective_result>(now, from, result);
  Attempt* attempt = find_live(result.key);
  RecentEnd* end = attempt == nullptr ? find_end(result.key, now) : nullptr;
  if (attempt == nullptr && end == nullptr) return;
  const AttemptRow& row = attempt != nullptr ? attempt->row : end->row;
  if (row.gang.front().node != from || result.gigabytes_per_second <= 0) return;
  const bool told = row.evidence_json.find(kEvidence) != std::string::npos;
  if (attempt != nullptr ? std::exchange(attempt->collective_judged, true) : told) return;
  const auto compared = compare(row, result);
  if (!compared) return;
  const std::string evidence = std::string(kEvidence) + ",\"detail\":" + quoted(compared->text) + "}";
  const Event event{.kind = "preflight", .from = "", .to = "", .detail = compared->text};
  if (end != nullptr) return supplement(*end, evidence, event, now);
  if (told) return;
  add_evidence(attempt->row, evidence);
  touch(*attempt);
  record_job(jobs_.at(result.key.job), now, event);
  if (compared->slow && row.state != AttemptState::stopping)
    begin_stop(*attempt, Cause::fabric, "preflight: " + compared->text, "KILL", Duration::zero(), now);
}

}  // namespace tutti
