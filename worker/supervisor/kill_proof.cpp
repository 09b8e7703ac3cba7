#include "worker/supervisor/kill_proof.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::supervisor {
namespace {

int millis_until(std::int64_t deadline_us) {
  return static_cast<int>(std::clamp<std::int64_t>((deadline_us - boot_us() + 999) / 1000, 0, 60'000));
}

// Kills by cgroup and waits for it to be empty. True when it is (or there is none).
bool empty_cgroup(const std::string& path, std::int64_t deadline_us) {
  while (true) {
    const Fd events(open((path + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
    if (!events) return true;
    kill_cgroup(path);
    char text[256];
    (void)!read(events.get(), text, sizeof text);  // arms the notification before the state is looked at
    if (!cgroup_populated(path).value_or(false)) return true;
    const int wait = millis_until(deadline_us);
    if (wait == 0) return false;
    pollfd changed{events.get(), POLLPRI, 0};
    poll(&changed, 1, std::min(wait, 50));  // looks again now and then, should a notification get lost
  }
}

// Kills the given processes and waits until they are gone. `still_ours` is asked once the pidfd pins the
// process. Returns how many were signalled.
int kill_pids(const std::vector<pid_t>& pids, const std::function<bool(pid_t)>& still_ours,
              std::int64_t deadline_us) {
  std::vector<Fd> killed;
  for (const pid_t pid : pids) {
    Fd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!fd || !still_ours(pid)) continue;
    if (syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0) == 0) killed.push_back(std::move(fd));
  }
  for (const Fd& fd : killed) {
    pollfd gone{fd.get(), POLLIN, 0};
    poll(&gone, 1, millis_until(deadline_us));
  }
  return static_cast<int>(killed.size());
}

// The simulated devices that are ours to clear: those the supervisor has locked, or that we can lock now
// because no supervisor lives that would.
class OwnDevices {
 public:
  OwnDevices(const Config& config, const KillScope& scope) {
    for (const Device& device : config.devices) {
      if (!device.simulated) continue;
      if (scope.supervisor != 0) {
        if (std::find(scope.held_devices.begin(), scope.held_devices.end(), device.path) !=
            scope.held_devices.end())
          paths_.push_back(device.path);
        continue;
      }
      Fd fd(open(device.path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd || flock(fd.get(), LOCK_EX | LOCK_NB) != 0) continue;
      paths_.push_back(device.path);
      locks_.push_back(std::move(fd));
    }
  }
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  std::vector<std::string> paths_;
  std::vector<Fd> locks_;
};

// A process that cleared its environment and left every group shows itself by the device it holds. Returns
// what holds one and is not the job's user's, "" = none.
std::string clear_devices(const Config& config, const OwnDevices& devices, std::int64_t deadline_us,
                          int& killed) {
  for (const auto& [pid, path] : find_holders(devices.paths())) {
    const auto ours = [&config, &path](pid_t p) { return owner_of(p) == config.uid && holds(p, path); };
    if (!ours(pid)) {
      if (holds(pid, path)) return "process " + describe(pid) + " holds " + path;
      continue;
    }
    killed += kill_pids({pid}, ours, deadline_us);
  }
  return {};
}

std::string what_lives(const std::vector<pid_t>& pids) {
  std::string text = "still alive:";
  for (std::size_t i = 0; i < pids.size() && i < 5; ++i) text += " " + describe(pids[i]);
  if (pids.size() > 5) text += " and " + std::to_string(pids.size() - 5) + " more";
  return text;
}

}  // namespace

KillResult kill_and_prove(const Config& config, std::int64_t deadline_us, const KillScope& scope) {
  KillResult result;
  const std::string cgroup = cgroup_of(config);
  const bool by_cgroup = !cgroup.empty() && cgroup_populated(cgroup).has_value();
  const OwnDevices devices(config, scope);
  std::string alive = "the deadline passed before the first look";
  int quiet_scans = 0;
  while (true) {
    const bool empty = cgroup.empty() || empty_cgroup(cgroup, deadline_us);
    const std::vector<pid_t> found = find_processes(config, scope.supervisor);
    const auto ours = [&](pid_t pid) { return belongs(pid, config, scope.supervisor); };
    int killed = kill_pids(found, ours, deadline_us);
    const std::string holder = clear_devices(config, devices, deadline_us, killed);
    result.killed += killed;
    quiet_scans = empty && found.empty() && killed == 0 && holder.empty() ? quiet_scans + 1 : 0;
    if (quiet_scans == 2) break;
    if (!holder.empty()) alive = holder;
    if (!empty) alive = "cgroup " + cgroup + " is still populated";
    if (!found.empty()) alive = what_lives(found);
    if (quiet_scans == 0 && boot_us() >= deadline_us) {
      result.how = alive;
      return result;
    }
    // What we could not signal does not tell us when it goes away: look again in a moment.
    if (killed == 0 && quiet_scans == 0) poll(nullptr, 0, std::min(10, millis_until(deadline_us)));
  }
  if (by_cgroup) remove_cgroup(cgroup);
  result.proven = true;
  result.how = by_cgroup ? "cgroup" : "scan";
  return result;
}

}  // namespace tutti::supervisor
