// A job as submitted, with every default filled in. Read from YAML or JSON by api/wire/job_spec_codec,
// immutable afterwards, shared by pointer. Names and meaning are those of the user's spec.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/states.h"
#include "scheduler/model/time.h"

namespace tutti {

enum class Launcher : std::uint8_t {
  direct,    // one process per GPU, rendezvous by MASTER_ADDR, RANK, …
  mpirun,    // Open MPI starts the ranks; the workers are its remote agents
  torchrun,  // one torchrun agent per node
  script     // `run` once, on node 0
};
std::string_view name(Launcher);
std::optional<Launcher> parse_launcher(std::string_view);

struct Resources {  // per node
  int gpus = 0;
  std::string gpu_model;          // empty: any; else matched as a case-insensitive part of the device's name
  int cpus = 0;                   // 0: not counted (jobs without GPUs: 1)
  std::int64_t memory_bytes = 0;  // 0: not counted
  bool operator==(const Resources&) const = default;
};

struct Backoff {
  Duration initial{};
  Duration max{};
  bool operator==(const Backoff&) const = default;
};

enum class ExitAction : std::uint8_t {
  restart,  // start again, not charged
  never     // fail, whatever the budget
};

struct RetryPolicy {
  std::map<Cause, int> budget;       // overrides of the defaults in core/retry.h; -1 = no limit
  std::map<Cause, Backoff> backoff;  // likewise
  std::map<int, ExitAction> exit_codes;
  int no_progress_limit = 3;
};

struct StopPolicy {
  std::string signal = "TERM";
  Duration grace = std::chrono::seconds(30);
};

struct CheckpointPolicy {
  std::string dir;  // empty: the job writes none
};

struct JobSpec {
  std::string name;
  std::string project = "default";
  std::string queue = "default";
  int priority = 50;  // 0..100, higher first
  std::map<std::string, std::string> labels;

  int nodes = 1;
  Resources resources;
  std::vector<std::string> exclude_nodes;

  std::string workdir;
  std::map<std::string, std::string> env;
  Launcher launcher = Launcher::direct;
  int procs_per_node = 1;  // "auto" is resolved when the spec is read: one per GPU, at least 1
  std::string setup;
  std::string run;

  std::optional<Duration> time_limit;  // of one attempt's running time
  std::optional<Instant> begin_time;

  bool preemptible = true;
  StopPolicy stop;
  CheckpointPolicy checkpoint;
  RetryPolicy retry;
  bool compat_slurm = false;

  int ranks() const { return launcher == Launcher::script ? 1 : nodes * procs_per_node; }
};

using SpecPtr = std::shared_ptr<const JobSpec>;

}  // namespace tutti
