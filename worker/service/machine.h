// What this machine is: addresses, memory, boot, users, helper programs. Read once at the start (the network
// part again at each launch, which costs microseconds). Blocking, local.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/time.h"
#include "worker/service/settings.h"

namespace tutti::worker {

Now read_clocks();
inline std::int64_t to_boot_us(Now now) { return now.mono.time_since_epoch().count(); }

std::string read_boot_id();
/// The identity of a state directory, made at its first use and kept in it over reboots.
std::string instance_of(const std::string& state_dir);
std::string host_name();
std::int32_t count_cpus();
std::int64_t memory_size();

struct Interface {
  std::string name;    // "eth0"
  std::string subnet;  // "10.0.0.0/24"
};
/// The interface that has this IPv4 address, or else whose network it is in.
std::optional<Interface> find_interface(const std::string& address);
/// "mlx5_0,mlx5_1", "" = none.
std::string find_ib_hcas();
/// The address this machine has towards that host; sends nothing.
std::optional<std::string> address_towards(const Peer& peer);

/// `wanted` "" = SUDO_USER, else tutti-job (made if missing), when we are root; ourselves when we are not.
/// Throws std::runtime_error that says what to do.
Account find_job_user(const std::string& wanted, bool allow_root);
/// The same, but nobody is made: nullopt, it would be tutti-job.
std::optional<Account> known_job_user(const std::string& wanted, bool allow_root);
/// The first folder on the way to `path` that the user (none: anybody) may not pass through, "" = none.
std::string find_closed_folder(const std::string& path, const Account* user);

/// Helper programs: in `libexec`, or beside our own executable, or in ../libexec/tutti or ../lib/tutti.
std::optional<std::string> find_program(const std::string& name, const std::string& libexec);
/// How torchrun is called: our own script where it is found, else the one in PATH.
std::vector<std::string> find_torchrun();

}  // namespace tutti::worker
