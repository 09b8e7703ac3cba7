// One attempt's directory, `<state dir>/attempts/<job>-<epoch>`: who may see what in it, what is read back
// when the worker starts, how long it is kept. Blocking, local disk; called by the worker's thread (removal
// and kills: by its pool).
//
// The directory is root's, with mode 0711: the job's user passes through it, and can neither list it nor put
// anything into it. What is in it is either root's (0600) or that user's (0700, 0600, 0400); other users can
// read none of it. Where the worker is not root all of it is ours.
//
//   prepare.json    root  the Prepare, but for the values of secrets        written first
//   secrets.json    root  those (worker/supervisor/secrets_file.h)
//   lease           root  when its ranks must be dead: one int64, CLOCK_BOOTTIME µs (lease_file.h)
//   supervise.json  root  the supervisor's configuration, with the account  written before it is started
//   state.json, supervisor.*, shell-*.sock  root, the supervisor's and its worker's
//   end.json        root  the end as it is told                             written before it is told
//   retired         root  its end is committed: kept for logs only
//   evidence/ environment.json hang.json    root, for the record; evidence/kernel.log: the kernel log from
//   ten
//                   minutes before the failure on, as far as it is kept
//   logs/ progress/ tmp/ capture/ work/ private_tmp/   the user's, as are
//   stop, stop_deadline, hostfile, endpoints.json, agent_secret, rank.sock
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"
#include "scheduler/model/secret_mask.h"
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
  void write_launch(AttemptKey, const LaunchPlan&, const Account& user, const std::string& secret);
  void write_end(const protocol::AttemptStatus&);
  void retire(AttemptKey);

  bool retired(AttemptKey) const;
  std::optional<protocol::Prepare> read_prepare(AttemptKey) const;  // none: nothing was ever started
  std::optional<protocol::AttemptStatus> read_end(AttemptKey) const;
  std::optional<supervisor::Status> read_state(AttemptKey) const;
  std::optional<supervisor::Config> read_config(AttemptKey) const;
  /// Whose files they are; none: it never got as far.
  std::optional<Account> read_account(AttemptKey) const;
  SecretMask read_mask(AttemptKey) const;  // throws std::runtime_error when the secrets cannot be read

  /// Held by the supervisor for its life. Ours: there is none, and from now on none can start here.
  supervisor::Fd take_supervisor_lock(AttemptKey) const;
  void remove(AttemptKey) const;
  void remove_private_tmp(AttemptKey) const;
  /// Retired ones beyond the bounds, oldest first.
  std::vector<AttemptKey> expired() const;

 private:
  const Settings& settings_;
  std::string root_;
};

}  // namespace tutti::worker
