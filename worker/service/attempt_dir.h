// One attempt's directory, `<state dir>/attempts/<job>-<epoch>`: who may see what in it, what is read back
// when the worker starts, how long it is kept. Blocking, local disk; called by the worker's thread (removal
// and kills: by its pool).
//
//   prepare.json    the Prepare, as it came (0600: it has the secret)     written first
//   lease           when its ranks must be dead: one int64, CLOCK_BOOTTIME µs (lease_file.h)
//   supervise.json  the supervisor's configuration (0600)                 written before it is started
//   state.json, supervisor.*, logs/, stop, stop_deadline                  the supervisor's
//   hostfile, endpoints.json, agent_secret, environment.json              for launchers and the record
//   progress/ tmp/ capture/ work/                                         the job user's
//   kernel.log      the kernel log from ten minutes before the failure on, as far as it is kept (0600)
//   end.json        the end as it is told (0600)                          written before it is told
//   retired         its end is committed: kept for logs only
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"
#include "worker/core/launch_plan.h"
#include "worker/service/settings.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

class AttemptDirs {
 public:
  explicit AttemptDirs(const Settings& settings);  // makes `attempts`

  std::string path(AttemptKey) const;
  std::vector<AttemptKey> list() const;
  bool exists(AttemptKey) const;

  // All of these throw std::system_error.
  void create(AttemptKey, const protocol::Prepare&);
  void write_preparation(AttemptKey, const Preparation&);
  void write_launch(AttemptKey, const LaunchPlan&, const std::string& secret);
  void write_end(const protocol::AttemptStatus&);
  void retire(AttemptKey);

  bool retired(AttemptKey) const;
  std::optional<protocol::Prepare> read_prepare(AttemptKey) const;  // none: nothing was ever started
  std::optional<protocol::AttemptStatus> read_end(AttemptKey) const;
  std::optional<supervisor::Status> read_state(AttemptKey) const;
  std::optional<supervisor::Config> read_config(AttemptKey) const;

  /// Held by the supervisor for its life. Ours: there is none, and from now on none can start here.
  supervisor::Fd take_supervisor_lock(AttemptKey) const;
  void remove(AttemptKey) const;
  /// Retired ones beyond the bounds, oldest first.
  std::vector<AttemptKey> expired() const;

 private:
  void give(const std::string& path) const;  // to the job user

  const Settings& settings_;
  std::string root_;
};

}  // namespace tutti::worker
