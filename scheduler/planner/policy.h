// How a pool is planned: in which order jobs are tried, whether the first that does not fit gets a
// reservation, whether running jobs may be preempted for better ones. Sources: docs/design/0006-planner.md.
#pragma once

#include <optional>
#include <string_view>

#include "scheduler/model/time.h"

namespace tutti::planner {

enum class Order : std::uint8_t {
  arrival,         // first come, first served
  mixed,           // fair share, shortness as far as it can be known, and age
  attained,        // least attained service, in levels
  gittins,         // most likely to end per second of service, by the history of its like
  remaining,       // clairvoyant: shortest remaining time. For scale, never live
  remaining_area,  // clairvoyant: least remaining GPU time
};

struct Policy {
  std::string_view name;
  Order order = Order::mixed;
  bool reserves =
      true;  // EASY backfill: the first job that does not fit gets a start that later ones keep free
  bool preempts = false;
  bool strict = false;  // nobody passes one that does not fit

  Duration refresh = std::chrono::seconds(60);    // keys are computed, and preemption is thought of, so often
  Duration guard_after = std::chrono::hours(72);  // who has waited so long without a break goes first
  double guard_share = 1;                         // of all GPUs that guarded jobs may hold together
  Duration least_run = std::chrono::minutes(15);  // before a job may be preempted (again)

  // Order::mixed: points for age (after age_limit; more beyond), fair share and shortness.
  double age_points = 1000, share_points = 2500, short_points = 10'000;
  double priority_points = 10'000;  // between priority 0 and 100
  Duration age_limit = std::chrono::hours(7 * 24);
  Duration half_life = std::chrono::hours(7 * 24);
};

// "easy", "fair", "checkpoint", "las", "fifo", "srtf", "srsf"; nullopt: no such policy.
std::optional<Policy> find_policy(std::string_view name);
std::string_view policy_names();  // for people

}  // namespace tutti::planner
