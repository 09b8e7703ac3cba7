#include "worker/core/node_conditions.h"

#include <algorithm>

#include "scheduler/model/condition_table.h"

namespace tutti::worker {
namespace {
constexpr std::size_t kMaxConditions = 128;
constexpr std::size_t kMaxIncidents = 32;
constexpr std::size_t kMaxKinds = 64;
constexpr std::int64_t kSameIncidentUs = 10'000'000;
}  // namespace

bool NodeConditions::begin(const std::string& kind, const std::string& subject, const std::string& detail,
                           std::int64_t boot_us) {
  if (const auto known = all_.find({kind, subject}); known != all_.end()) {
    known->second.detail = detail;
    return false;
  }
  if (all_.size() >= kMaxConditions) return false;
  all_[{kind, subject}] = {detail, boot_us};
  return changed_ = true;
}

bool NodeConditions::end(const std::string& kind, const std::string& subject) {
  if (all_.erase({kind, subject}) == 0) return false;
  return changed_ = true;
}

void NodeConditions::incident(const std::string& kind, const std::string& detail, std::int64_t boot_us) {
  const auto last = last_incident_.find(kind);
  if (last != last_incident_.end() && boot_us - last->second < kSameIncidentUs && boot_us >= last->second) {
    for (auto& i : untold_)
      if (i.kind == kind) {
        ++i.more;
        return;
      }
    return;
  }
  if (last == last_incident_.end() && last_incident_.size() >= kMaxKinds) return;
  last_incident_[kind] = boot_us;
  untold_.push_back({kind, detail, boot_us, 0});
  if (untold_.size() > kMaxIncidents) untold_.pop_front();
  changed_ = true;
}

std::string NodeConditions::why_closed() const {
  for (const auto& [key, c] : all_)
    if (judge_condition(key.first).effect != ConditionEffect::watch)
      return key.first + (key.second.empty() ? "" : " " + key.second) + ": " + c.detail;
  return {};
}

protocol::NodeHealth NodeConditions::take_message(std::int64_t now_boot_us) {
  protocol::NodeHealth out;
  const auto age = [&](std::int64_t since) { return std::max<std::int64_t>(0, now_boot_us - since); };
  for (const auto& [key, c] : all_)
    out.conditions.push_back({key.first, key.second, c.detail, age(c.since_us)});
  for (auto& i : untold_)
    out.incidents.push_back({i.kind,
                             i.detail + (i.more > 0 ? " (and " + std::to_string(i.more) + " more)" : ""),
                             age(i.boot_us)});
  untold_.clear();
  changed_ = false;
  return out;
}

}  // namespace tutti::worker
