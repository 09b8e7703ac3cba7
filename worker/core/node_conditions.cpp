#include "worker/core/node_conditions.h"

#include <algorithm>

#include "scheduler/model/condition_table.h"

namespace tutti::worker {
namespace {
constexpr std::size_t kMaxConditions = 128;
constexpr std::size_t kMaxKinds = 64;
constexpr std::size_t kMaxTold = 64;
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

bool NodeConditions::end_all(const std::string& kind) {
  if (std::erase_if(all_, [&](const auto& c) { return c.first.first == kind; }) == 0) return false;
  return changed_ = true;
}

void NodeConditions::incident(const std::string& kind, const std::string& detail, std::int64_t boot_us) {
  tick(boot_us);
  const auto known = lately_.find(kind);
  if (known != lately_.end()) {
    for (auto& i : untold_)
      if (i.kind == kind) {
        ++i.more;
        return;
      }
    auto& lately = known->second;
    ++lately.untold;
    lately.detail = detail;
    lately.detail_us = boot_us;
    return;
  }
  if (lately_.size() >= kMaxKinds) return;
  lately_[kind] = {boot_us, 0, "", 0};
  untold_.push_back({kind, detail, boot_us, 0});
  changed_ = true;
}

void NodeConditions::tick(std::int64_t boot_us) {
  for (auto it = lately_.begin(); it != lately_.end();) {
    auto& [kind, lately] = *it;
    if (boot_us >= lately.begun_us && boot_us - lately.begun_us < kSameIncidentUs) {
      ++it;
    } else if (lately.untold == 0) {
      it = lately_.erase(it);
    } else {
      untold_.push_back({kind, lately.detail, lately.detail_us, lately.untold - 1});
      changed_ = true;
      lately = {boot_us, 0, "", 0};
      ++it;
    }
  }
}

std::string NodeConditions::why_closed() const {
  for (const auto& [key, c] : all_)
    if (judge_condition(key.first).effect != ConditionEffect::watch)
      return key.first + (key.second.empty() ? "" : " " + key.second) + ": " + c.detail;
  return {};
}

void NodeConditions::begin_anew() {
  for (; !told_.empty(); told_.pop_back()) untold_.push_front(std::move(told_.back().incident));
}

void NodeConditions::arrived(std::int64_t heartbeat) {
  std::erase_if(told_, [&](const Told& t) { return t.after < heartbeat; });
}

protocol::NodeHealth NodeConditions::take_message(std::int64_t now_boot_us, std::int64_t heartbeat) {
  protocol::NodeHealth out;
  const auto age = [&](std::int64_t since) { return std::max<std::int64_t>(0, now_boot_us - since); };
  for (const auto& [key, c] : all_)
    out.conditions.push_back({key.first, key.second, c.detail, age(c.since_us)});
  for (auto& i : untold_)
    out.incidents.push_back({i.kind,
                             i.detail + (i.more > 0 ? " (and " + std::to_string(i.more) + " more)" : ""),
                             age(i.boot_us)});
  for (auto& i : untold_) told_.push_back({std::move(i), heartbeat});
  while (told_.size() > kMaxTold) told_.pop_front();
  untold_.clear();
  changed_ = false;
  return out;
}

}  // namespace tutti::worker
