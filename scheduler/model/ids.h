// Strong identifiers. A JobId is not a NodeId, and neither is a number by accident.
// Made by the leader only (core/control_plane), stored as bigint, shown to users as decimal.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace tutti {

template <class Tag>
struct Id {
  std::int64_t value = 0;  // 0 = none; real ids start at 1

  constexpr Id() = default;
  constexpr explicit Id(std::int64_t v) : value(v) {}
  constexpr explicit operator bool() const { return value != 0; }
  constexpr auto operator<=>(const Id&) const = default;
};

template <class Tag>
std::string to_string(Id<Tag> id) {
  return std::to_string(id.value);
}

using JobId = Id<struct JobTag>;
using NodeId = Id<struct NodeTag>;
using GpuId = Id<struct GpuTag>;
using EventId = Id<struct EventTag>;  // position in the history of the whole cluster, strictly rising
using FaultId = Id<struct FaultTag>;
using Epoch = Id<struct EpochTag>;  // fencing number of an attempt: rises with each attempt of a job
using Term = Id<struct TermTag>;    // fencing number of a leader: rises with each leader

// One run of a job. Compared before anything else whenever a message about an attempt comes in.
struct AttemptKey {
  JobId job;
  Epoch epoch;
  constexpr auto operator<=>(const AttemptKey&) const = default;
};

}  // namespace tutti

template <class Tag>
struct std::hash<tutti::Id<Tag>> {
  std::size_t operator()(tutti::Id<Tag> id) const noexcept { return std::hash<std::int64_t>{}(id.value); }
};
template <>
struct std::hash<tutti::AttemptKey> {
  std::size_t operator()(const tutti::AttemptKey& k) const noexcept {
    return std::hash<std::int64_t>{}(k.job.value * 1000003 + k.epoch.value);
  }
};
