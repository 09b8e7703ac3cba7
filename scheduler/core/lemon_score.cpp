#include "scheduler/core/lemon_score.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

double days(Duration d) { return std::chrono::duration<double, std::chrono::days::period>(d).count(); }

// A fleet in which chance explains every difference, and one in which a few nodes have all the failures:
// beyond these the fit says more about few data than about the nodes.
constexpr double kSmallestShape = 0.1, kLargestShape = 10;
constexpr int kMostTerms = 1000;  // of the sums below; they need about √shape + x

// P(X ≤ x) by its power series; good for x < shape + 1.
double below_by_series(double shape, double x) {
  double term = 1 / shape, sum = term;
  for (int n = 1; n < kMostTerms && term > sum * 1e-15; ++n) {
    term *= x / (shape + n);
    sum += term;
  }
  return sum * std::exp(-x + shape * std::log(x) - std::lgamma(shape));
}

// P(X > x) by its continued fraction (modified Lentz); good for x ≥ shape + 1.
double above_by_fraction(double shape, double x) {
  constexpr double kTiny = 1e-300;
  double b = x + 1 - shape, c = 1 / kTiny, d = 1 / b, h = d;
  for (int n = 1; n < kMostTerms; ++n) {
    const double a = -n * (n - shape);
    b += 2;
    d = a * d + b;
    if (std::abs(d) < kTiny) d = kTiny;
    c = b + a / c;
    if (std::abs(c) < kTiny) c = kTiny;
    d = 1 / d;
    h *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return h * std::exp(-x + shape * std::log(x) - std::lgamma(shape));
}

}  // namespace

double gamma_above(double shape, double x) {
  if (x <= 0) return 1;
  return std::clamp(x < shape + 1 ? 1 - below_by_series(shape, x) : above_by_fraction(shape, x), 0.0, 1.0);
}

LemonCount count_lemon_failures(std::span<const LemonFailure> failures, Instant since, Instant now,
                                const LemonSettings& settings) {
  const double half = days(settings.half_life);
  const auto decay = [&](Instant at) { return std::exp2(-std::max(days(now - at), 0.0) / half); };
  LemonCount out;
  out.days = half / std::log(2.0) * (1 - decay(since));
  out.terms.reserve(failures.size());
  for (const auto& f : failures) {
    const double d = decay(f.at), weight = d / std::max(f.shared_by, 1);
    out.terms.push_back({f, d, weight});
    out.failures += weight;
    out.squares += weight * weight;
  }
  return out;
}

LemonFleet fit_lemon_fleet(std::span<const LemonCount> nodes) {
  double failures = 0, exposure = 0;
  for (const auto& n : nodes) {
    failures += n.failures;
    exposure += n.days;
  }
  if (failures <= 0 || exposure <= 0) return {};
  LemonFleet fleet{failures / exposure, kLargestShape};
  // By moments: what the nodes differ more than chance lets them is what their rates differ.
  double excess = 0, expected = 0;
  for (const auto& n : nodes) {
    const double mean = fleet.per_day * n.days;
    excess += (n.failures - mean) * (n.failures - mean) - n.squares;
    expected += mean * mean;
  }
  if (excess > 0) fleet.shape = std::clamp(expected / excess, kSmallestShape, kLargestShape);
  return fleet;
}

LemonScore score_lemon(const LemonCount& node, const LemonFleet& fleet, const LemonSettings& settings) {
  if (fleet.per_day <= 0) return {};
  const double shape = fleet.shape + node.failures, rate = fleet.shape / fleet.per_day + node.days;
  LemonScore out;
  out.per_day = shape / rate;
  out.ratio = out.per_day / fleet.per_day;
  out.probability = gamma_above(shape, settings.times_fleet * fleet.per_day * rate);
  out.flagged = out.probability >= settings.sure;
  return out;
}

double suspicion_of(const LemonScore& score) {
  double weight = std::clamp(std::log2(std::max(score.ratio, 1.0)) / 10, 0.0, 0.9);
  if (score.flagged) weight = std::max(weight, 0.5);
  return std::floor(weight * 10) / 10;
}

}  // namespace tutti
