// The folder that holds one simulated machine, on disk: `state` (sim_state.h), `events` (append-only),
// `lock`, and `dev/nvidia0…` (regular files; who holds one open "uses" that GPU). Written by tutti-gpu-sim,
// read by any number of doubles at once.
//
// Invariants
// 1. `state` is replaced by rename: a reader sees the old text or the new one, never half of each.
// 2. Writers hold `lock` from reading the state to replacing it: two commands at once lose nothing.
// 3. `events` only grows, by whole lines; a reader keeps an offset, so each reader sees each event once.
// 4. The state is written before its event: who is woken by the event already finds the GPU tripped.
#pragma once

#include <functional>
#include <string>

#include "worker/nvml/double/sim_state.h"

namespace tutti::nvml::sim {

inline constexpr long long kMaxStateBytes = 1 << 20;
inline constexpr long long kMaxEventLogBytes = 64LL << 20;

struct Folder {
  std::string path;
  std::string state() const { return path + "/state"; }
  std::string events() const { return path + "/events"; }
  std::string devices() const { return path + "/dev"; }
  std::string lock() const { return path + "/lock"; }
};
// The folder meant by a path to it or to the state file in it.
Folder folder_of(const std::string& path);

std::optional<State> load_state(const Folder& folder, std::string& problem);

// These give an empty text, or why it could not be done.
std::string create_machine(const Folder& folder, NodePlan plan);
// Loads, lets `change` edit the state (its text, when not empty, refuses), stores.
std::string update_state(const Folder& folder, const std::function<std::string(State&)>& change);
std::string append_event(const Folder& folder, const Event& event);

}  // namespace tutti::nvml::sim
