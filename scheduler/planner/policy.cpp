#include "scheduler/planner/policy.h"

#include <algorithm>
#include <array>

namespace tutti::planner {

namespace {

using namespace std::chrono_literals;

constexpr auto kPolicies = std::to_array<Policy>({
    {.name = "fair", .order = Order::mixed},
    {.name = "checkpoint",
     .order = Order::gittins,
     .reserves = false,
     .preempts = true,
     .guard_after = 24h,
     .guard_share = 0.25},
    {.name = "las",
     .order = Order::attained,
     .reserves = false,
     .preempts = true,
     .guard_after = 24h,
     .guard_share = 0.25},
    {.name = "easy", .order = Order::arrival, .guard_after = std::chrono::hours(1'000'000)},
    {.name = "fifo",
     .order = Order::arrival,
     .reserves = false,
     .strict = true,
     .guard_after = std::chrono::hours(1'000'000)},
    {.name = "srtf",
     .order = Order::remaining,
     .reserves = false,
     .preempts = true,
     .refresh = 1s,
     .guard_after = std::chrono::hours(1'000'000),
     .least_run = 0s},
    {.name = "srsf",
     .order = Order::remaining_area,
     .reserves = false,
     .preempts = true,
     .refresh = 1s,
     .guard_after = std::chrono::hours(1'000'000),
     .least_run = 0s},
});

}  // namespace

std::optional<Policy> find_policy(std::string_view name) {
  const auto found = std::ranges::find(kPolicies, name, &Policy::name);
  return found == kPolicies.end() ? std::nullopt : std::optional(*found);
}

std::string_view policy_names() { return "fair, checkpoint, las, easy, fifo, srtf, srsf"; }

}  // namespace tutti::planner
