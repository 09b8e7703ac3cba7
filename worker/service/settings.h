// How a worker is set up. Filled by worker/main.cpp from its flags (and by tests), never changed afterwards.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "api/http/link.h"
#include "api/http/tls.h"
#include "scheduler/model/time.h"
#include "worker/core/account.h"

namespace tutti::worker {

/// Where a scheduler listens.
struct Peer {
  std::string host;
  std::uint16_t port = 0;
  bool tls = false;
};

struct Settings {
  std::vector<Peer> schedulers;  // tried in turn
  std::string token;             // "" = none
  http::TlsClientFiles tls;      // for schedulers behind https
  std::string node;
  std::string address;          // where other nodes reach this one
  std::uint16_t peer_port = 0;  // UDP, for other workers; 0: any free one, the same again if it can be had
  std::string queue = "default";
  std::string state_dir;  // absolute
  std::string boot_id;
  std::int32_t cpus = 0;
  std::int64_t memory_bytes = 0;
  std::map<std::string, std::string> labels;
  std::string join_cordoned;  // why nothing starts here until somebody opens the node; "" = it may at once
  std::string kill_mode = "auto";  // "auto" | "cgroup2" | "process-group"
  std::string cgroup_parent;
  bool gpus = true;  // false: no probe, the node has none
  std::string nvml_library;
  AccountPolicy accounts;
  Account job_user;  // as the policy wants it; else unused

  // What is watched beside the GPUs; "" = not.
  std::string kernel_log = "/dev/kmsg";
  std::string sysfs = "/sys";
  std::vector<std::string> interfaces;   // beside that of `address` and all InfiniBand ports
  std::vector<std::string> disks;        // beside the state directory and /tmp: must not be full
  std::string metrics_listen;            // HOST:PORT of the page for Prometheus; "" = none
  std::vector<std::string> check_paths;  // shared file systems: a file is written and read there
  bool gate = true;                      // quick checks before each attempt

  // Programs.
  std::string supervisor, rank, launch_agent, probe, node_check;
  std::string shell;  // tutti-shell; "" = not installed: no command of a person runs inside attempts
  std::string preflight, collective_mpi, collective_nccl;  // for `preflight: full`; "" = not installed
  std::string capture;  // "" = nothing is captured of a hang but what the worker sees itself
  std::vector<std::string> torchrun = {"torchrun"};
  std::string mpirun = "mpirun";

  // Images (docs/containers.md).
  std::string container;   // the tool that fetches them, or "bubblewrap"; "" = none are run here
  std::string bubblewrap;  // path of bwrap
  std::string image;       // path of tutti-image
  std::vector<std::string> container_mounts;
  std::int64_t image_cache_bytes = 100'000'000'000;

  // Times.
  std::chrono::milliseconds back_off_min{100}, back_off_max{2000};
  std::chrono::milliseconds connect_deadline{3000};
  std::chrono::milliseconds welcome_deadline{5000};
  std::chrono::milliseconds probe_deadline{3000};  // without a sign of life: it is killed
  std::chrono::milliseconds probe_start_deadline{
      15'000};  // for its first one: the driver may have to wake GPUs
  std::chrono::milliseconds links_every{1000}, disks_every{5'000};
  std::chrono::milliseconds check_deadline{5000};  // of each look at a disk or file system
  std::chrono::milliseconds scan_every{500};       // for checkpoints and progress
  std::chrono::milliseconds scan_deadline{
      10'000};  // the last scan; a hung file server must not hold the end up
  std::chrono::milliseconds resume_checksums{20'000};  // before a launch; the rest is read beside the job
  std::chrono::minutes verify_deadline{10};            // of the checksums of one checkpoint, beside the job
  std::chrono::minutes delete_deadline{10};            // of one checkpoint; the order comes again
  std::chrono::milliseconds account_deadline{10'000};  // for the user database
  std::chrono::milliseconds supervisor_deadline{10'000};  // to come up; half of it to go
  http::LinkOptions link;

  // Kept for their logs once their end is committed.
  std::size_t keep_attempts = 50;
  std::chrono::hours keep_for{24 * 7};
};

}  // namespace tutti::worker
