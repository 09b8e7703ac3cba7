// All that waits, in order and summed up by reason, as of a moment. One pass over the jobs makes it, and it is
// kept for longer the more there are: however often the queue is asked for, the control plane spends a few
// hundredths of its time on it.
//
// Called by: queue.cpp. Control thread. Jobs may have gone since: who shows one looks for it again.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "api/handlers/backend.h"
#include "api/handlers/waiting_sums.h"

namespace tutti::api {

class QueueKept {
 public:
  /// Jobs that differ in neither are seen by the same people and found by the same questions.
  struct Group {
    std::string queue, project, owner;
    std::size_t jobs = 0;
    std::map<std::string, WaitingSum> by_reason;
  };
  struct Entry {
    JobId id;
    std::uint32_t group = 0;
    std::uint32_t position = 0;  // in its queue, of those that are ready
    std::uint32_t reason = 0;    // the main one: number_of
  };
  /// What the nodes say is the same for all jobs of one shape and place.
  struct Kind {
    std::vector<Reason> reasons;  // without the place in the order
    int available = 0;            // of its nodes, so many could be had now
  };

  /// Looks again if what is known is too old for so many jobs, or of another leader's days.
  void look(const ControlPlane& plane, std::int64_t term, Now now);

  const std::vector<Group>& groups() const { return groups_; }
  const std::vector<Entry>& ready() const { return ready_; }    // as the planner looks at them
  const std::vector<Entry>& others() const { return others_; }  // delayed ones by time, then the rest
  /// Of a reason's code; nothing: no job waits for it.
  std::optional<std::uint32_t> number_of(std::string_view code) const;
  /// nullptr: it is of a kind that has not been looked at, and no more than `most` are, of all.
  const Kind* kind_of(const ControlPlane& plane, const planner::Waiting& waiting, Now now, std::size_t most);
  std::size_t kinds() const { return kinds_.size(); }

 private:
  std::uint32_t group_of(const Job& job);
  void count(const Job& job, std::string_view code, Entry& entry);
  void look_at_ready(const ControlPlane& plane, Now now);
  void look_at_others(const ControlPlane& plane);

  std::optional<Mono> at_;
  const ControlPlane* plane_ = nullptr;  // only compared
  std::int64_t term_ = 0;
  Duration lasts_{};
  std::vector<Group> groups_;
  std::map<std::tuple<std::string, std::string, std::string>, std::uint32_t, std::less<>> group_by_;
  std::vector<Entry> ready_, others_;
  std::vector<std::string> codes_;                   // of reasons; a few dozen
  std::map<std::tuple<int, int, int>, Kind> kinds_;  // shape, queue, project: quotas are of these
};

}  // namespace tutti::api
