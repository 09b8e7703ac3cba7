#include "tests/chaos/traffic.h"

#include <algorithm>

namespace tutti::chaos {

using namespace std::chrono_literals;

e2e::json::object forgiving(e2e::json::object spec) {
  e2e::json::object budget, backoff;
  for (const auto* cause :
       {"user", "unknown", "gpu", "node_lost", "launch", "network", "storage", "fabric", "hang"}) {
    budget[cause] = -1;
    backoff[cause] = {{"initial", "0s"}, {"max", "0s"}};
  }
  spec["retry"] = {{"budget", budget}, {"backoff", backoff}, {"no_progress_limit", 0}};
  return spec;
}

Traffic::Traffic(const e2e::Cluster& cluster, std::chrono::milliseconds every)
    : cluster_(cluster), thread_([this, every] { work(every); }) {}

Traffic::~Traffic() {
  try {
    stop();
  } catch (const std::exception&) {  // the lab has said more
  }
}

void Traffic::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::map<std::string, std::int64_t> Traffic::accepted() const {
  const std::lock_guard lock(mutex_);
  return accepted_;
}

bool Traffic::pause(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, time, [this] { return stop_; });
}

void Traffic::work(std::chrono::milliseconds every) {
  try {
    std::vector<e2e::Rest> schedulers;
    schedulers.push_back(cluster_.rest());
    if (cluster_.options().standby) schedulers.push_back(cluster_.standby_rest());
    if (schedulers.size() > 1)
      for (auto& rest : schedulers) rest.patience = 5s;  // one of them may be frozen, or cut off
    for (int i = 1; pause(every); ++i)
      if (!submit(schedulers, "traffic-" + std::to_string(i))) return;
  } catch (const std::exception& e) {
    trouble_ = e.what();
  }
}

bool Traffic::submit(std::vector<e2e::Rest>& schedulers, const std::string& key) {
  const auto spec = forgiving(cluster_.spec(key, cluster_.rank("--steps 20"), 1, 1));
  const auto until = e2e::Clock::now() + e2e::kPatience;
  while (true) {
    try {
      const auto id = e2e::number_of(schedulers.front().post("/v1/jobs", spec, key).as_object(), "id");
      const std::lock_guard lock(mutex_);
      accepted_[key] = id;
      return true;
    } catch (const e2e::Unreachable& e) {  // nobody knows whether it was taken; the key will tell
      ++unanswered_;
      if (e2e::Clock::now() >= until) {
        trouble_ = key + " is never answered: " + e.what();
        return false;
      }
      std::rotate(schedulers.begin(), schedulers.begin() + 1, schedulers.end());
      std::this_thread::sleep_for(50ms);  // the scheduler is away: a client tries again, not at once
    }
  }
}

}  // namespace tutti::chaos
