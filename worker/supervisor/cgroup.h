// The cgroup v2 directory of one attempt: the one way to kill that neither setsid nor a double fork escapes.
// Called by the supervisor and by kill_proof (there also from the worker). Plain file operations, no state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "worker/supervisor/messages.h"

namespace tutti::supervisor {

// The caller's own v2 directory, found from /proc/self/mountinfo (also in a hybrid tree), "" when there is
// none.
std::string find_own_cgroup();
// For tests: the same from given texts of mountinfo and /proc/self/cgroup.
std::string find_own_cgroup(const std::string& mountinfo, const std::string& own);

// Unique for an attempt and its directory: several workers may share one machine.
std::string cgroup_name(const Config& config);
// The directory this attempt has: the one its supervisor noted down, else the one it would choose. "" = none.
std::string cgroup_of(const Config& config);
// Makes it and notes it in `<dir>/cgroup`. Returns its path, or "" with the reason.
std::string create_cgroup(const Config& config, std::string& problem);

// Holds its processes together to so many bytes. False: the memory controller cannot be had here.
bool limit_memory(const std::string& path, std::int64_t bytes);

bool kill_cgroup(const std::string& path);
bool freeze_cgroup(const std::string& path);
// Whether any process that is not a zombie is in it; nothing when there is no such directory.
std::optional<bool> cgroup_populated(const std::string& path);
bool remove_cgroup(const std::string& path);  // with what is below it
// How often the kernel has killed in it for want of memory; nothing without the memory controller.
std::optional<std::int64_t> oom_kills(const std::string& path);

}  // namespace tutti::supervisor
