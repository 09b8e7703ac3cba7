// `tutti up`: a whole cluster on this machine, in the foreground: scheduler with a PostgreSQL of its own, and
// workers over simulated GPUs. Called by main.cpp, in the main thread (see children.h).
//
// What people can rely on
// 1. A scheduler or worker that dies is started again; its port and its nodes' names stay the same.
// 2. SIGINT and SIGTERM stop everything in order (workers, then ranks and supervisors, then the scheduler and
// its
//    database) and leave no process behind. Jobs are not cancelled: those that ran lose their attempt, as if
//    the machine had been switched off, and go on from their last checkpoint at the next `tutti up`. A second
//    signal does not wait for anything.
// 3. When `tutti up` itself is killed, scheduler and workers end by SIGTERM; ranks live on under their
// supervisors,
//    and the workers of the next `tutti up` take them over.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace tutti::cli {

struct UpOptions {
  std::string data;  // empty: default_data_directory()
  int workers = 2;
  int gpus = 4;  // per worker
  std::string gpu_model = "H100";
  int port = 7070;  // 0: any
  std::string listen = "127.0.0.1";
  std::string libexec, nvml_library, job_user;
  int cpus = 0;       // per worker; 0: what the worker finds
  int ready_fd = -1;  // gets the URL, one line, when everything is up
  bool write_context = false;
  bool namespaces =
      false;  // nodes are network and host-name namespaces where possible; then `listen` is the bridge
  int start_timeout_seconds = 60;
  std::vector<std::string> scheduler_flags, worker_flags;  // handed on as they are
};

int run_up(const UpOptions& options, std::ostream& out, std::ostream& err);

}  // namespace tutti::cli
