// Recorded workloads: CSV text, one row per job, first row the names of the columns.
//
//   job_id,submit_s,gpus,nodes,duration_s,user,queue,status,priority,limit_s
//
// Needed: submit_s, gpus, duration_s; the others may be missing or empty, further ones are ignored. A row
// that cannot be used is left out and named, the rest goes on. Pure, std only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::replay {

struct TraceJob {
  Duration submitted{};  // since the beginning of the trace
  int gpus = 0;
  Duration ran{};
  Duration limit{};
  int user = 0;  // numbers stand for names, in order of appearance
  int queue = 0;
};

struct TraceProblem {
  std::size_t line = 0;  // from 1, as editors count
  std::string reason;
};

struct Trace {
  std::vector<TraceJob> jobs;  // by time of submission
  std::size_t users = 0;
  bool has_users = false;  // else queues stand in for them
  std::vector<TraceProblem> problems;
};

// `no_limit`: the limit of jobs that have none.
Trace parse_trace(std::string_view csv, Duration no_limit = std::chrono::hours(30 * 24));

// A node fails at a time and comes back later. CSV: node,fail_s,down_s,level,class; the last two are not
// used.
struct NodeFault {
  int node = 0;  // from 0
  Duration at{};
  Duration down{};
};
struct Faults {
  std::vector<NodeFault> faults;  // by time
  std::vector<TraceProblem> problems;
};
Faults parse_faults(std::string_view csv);

// Jobs submitted in [from, to), times counted from `from`.
Trace cut(const Trace& trace, Duration from, Duration to);
// Submissions pressed together, or apart, until the work offered per second is `load` of `gpus`.
Trace with_load(const Trace& trace, double load, int gpus);
double offered_load(const Trace& trace, int gpus);

}  // namespace tutti::replay
