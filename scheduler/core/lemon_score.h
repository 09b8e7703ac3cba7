// How bad a node is, from the failures that were blamed on it: a decayed count, shrunk to what the fleet
// does. Repaired nodes come back and bad batches age out, so a list that is never forgotten is worthless; a
// half-life of weeks finds next week's faults several times better than chance (bench/lemon_replay.cpp
// measures it).
//
// Called by: the control plane (placement weight, node view, quarantine rule), lemon_replay. Any thread:
// pure.
//
// The model (Gamma-Poisson). The rates of the nodes are drawn from Gamma(shape, shape / fleet rate); a node
// with S decayed failures in E decayed days has the rate Gamma(shape + S, shape / fleet rate + E).
//  1. Decayed: what happened a half-life ago counts half, in S as well as in E.
//  2. Shared: while no node of a gang of n has been named, each of them carries 1/n of the failure.
//  3. Shrunk: few failures move a node little away from the fleet, however few the fleet has.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti {

struct LemonSettings {
  Duration half_life = std::chrono::days(21);  // > 0
  double times_fleet = 4;                      // a lemon fails so many times as often as the fleet …
  double sure = 0.95;                          // … with at least this probability
};

struct LemonFailure {
  Instant at;
  std::int32_t shared_by = 1;  // nodes of the gang while none is named; 1 = this node is to blame
};

struct LemonTerm {  // for people: why the score is what it is; the weights add up to `failures`
  LemonFailure failure;
  double decay = 1;   // (0, 1], by age
  double weight = 1;  // decay / shared_by
};

struct LemonCount {
  double failures = 0;  // S
  double squares = 0;   // Σ weight²: the variance that chance alone would give to S
  double days = 0;      // E
  std::vector<LemonTerm> terms;
};

struct LemonFleet {
  double per_day = 0;  // failures of a node and day; 0 = none has failed
  double shape = 1;    // small = nodes differ much
};

struct LemonScore {
  double per_day = 0;      // expected failures a day
  double ratio = 1;        // over the fleet; the placement weight, and the order of the list
  double probability = 0;  // that the rate is above times_fleet × fleet
  bool flagged = false;
};

/// `since`: from when on failures of this node would be known. Failures before it count; those dated after
/// `now` (a clock was set back) count as if they were of now.
LemonCount count_lemon_failures(std::span<const LemonFailure> failures, Instant since, Instant now,
                                const LemonSettings& settings = {});

/// Of all nodes of the fleet, the one to be judged among them.
LemonFleet fit_lemon_fleet(std::span<const LemonCount> nodes);

LemonScore score_lemon(const LemonCount& node, const LemonFleet& fleet, const LemonSettings& settings = {});

/// 0..0.9 in tenths: so much later a node is taken than others. One like them has none, twice the fleet's
/// rate is 0.1, a lemon at least 0.5.
double suspicion_of(const LemonScore& score);

/// P(X > x) of a Gamma distribution with `shape` > 0 and rate 1.
double gamma_above(double shape, double x);

}  // namespace tutti
