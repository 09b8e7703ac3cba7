// The rows of the campaign (docs/design/0009-chaos.md has the list): each is one function that does one
// injection in a lab and waits for what has to follow. To add a row: write the function, add its line in
// rows.cpp.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tests/chaos/lab.h"

namespace tutti::chaos {

struct Row {
  const char* name;
  const char* title;
  void (*inject)(Lab&);               // null: `missing` says why
  int injections;                     // of one run by default
  bool control_fault = false;         // of the control plane alone: no gang may end
  std::vector<Target> targets{};      // p50 and p99 that are aimed at
  LabOptions (*options)() = nullptr;  // null: a plain lab
  const char* missing = nullptr;
};
std::span<const Row> rows();

// rows_process.cpp
void rank_dies(Lab&);
void user_error(Lab&);
void worker_killed(Lab&);
void worker_and_supervisors_killed(Lab&);
void crash_loop(Lab&);
void worker_frozen(Lab&);
// rows_gpu.cpp
void xid(Lab&);
void gpu_lost(Lab&);
void nvml_hangs(Lab&);
// rows_node.cpp
void power_off(Lab&);
void reboot(Lab&);
void deaf_scheduler(Lab&);
void deaf_node(Lab&);
void split(Lab&);
void short_cut(Lab&);
void flapping(Lab&);
void disk_full(Lab&);
LabOptions with_small_disk();
void file_server_stalls(Lab&);
LabOptions with_checked_files();
void three_nodes(Lab&);
void seven_nodes(Lab&);
// rows_control.cpp
void scheduler_killed(Lab&);
void leader_killed(Lab&);
LabOptions with_standby();
void leader_paused(Lab&);
void leader_cut_off(Lab&);
LabOptions with_leader_apart();
void scheduler_killed_and_a_fault(Lab&);
void scheduler_away(Lab&);
void scheduler_frozen(Lab&);
void database_restarts(Lab&);
LabOptions with_own_database();
void clock_of_a_worker(Lab&);
void clock_of_the_scheduler(Lab&);
LabOptions with_fake_clocks();
std::string why_no_fake_clocks();  // "" = there are
// rows_slow.cpp
void rank_hangs(Lab&);
void straggler(Lab&);
void checkpoint_corrupt(Lab&);
// rows_random.cpp
void overlapping(Lab&);
void anything(Lab&);

}  // namespace tutti::chaos
