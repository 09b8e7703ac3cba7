#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace tutti::sim {

void World::at(Time when, std::function<void()> what) {
  queue_.push_back({std::max(when, now_), seq_++, std::move(what)});
  std::push_heap(queue_.begin(), queue_.end(), later);
}

bool World::step() {
  if (queue_.empty() || failure_) return false;
  std::pop_heap(queue_.begin(), queue_.end(), later);
  Event event = std::move(queue_.back());
  queue_.pop_back();
  now_ = event.at;
  ++events_;
  event.what();
  return !failure_;
}

void World::fail(std::string why) {
  if (failure_) return;
  log([&] { return "FAILED: " + why; });
  failure_ = std::move(why);
}

void World::print(const std::string& line) const {
  std::printf("%11.6f %s\n", to_seconds(now_), line.c_str());
}

}  // namespace tutti::sim
