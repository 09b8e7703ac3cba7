// Finds an attempt's processes in /proc when no cgroup holds them. Called by kill_proof and the supervisor.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "worker/supervisor/messages.h"

namespace tutti::supervisor {

// In the environment of every process of an attempt; the directory tells apart the workers of one machine.
inline constexpr std::string_view kKeyVariable = "TUTTI_ATTEMPT_KEY";
inline constexpr std::string_view kDirVariable = "TUTTI_ATTEMPT_DIR";
std::string key_text(AttemptKey key);  // "7-3"

// Whether a living process of the attempt's user bears the marker or, when `root` is not 0, descends from it.
// Another user could copy the marker, and keep the attempt's end from being proven for ever.
bool belongs(pid_t pid, const Config& config, pid_t root);
// All of them (not zombies), without the caller and without `root`.
std::vector<pid_t> find_processes(const Config& config, pid_t root);
// Those that have one of the files open, and which, without the caller. One walk over all descriptors.
struct Holder {
  pid_t pid;
  std::string path;
};
std::vector<Holder> find_holders(const std::vector<std::string>& paths);
std::vector<pid_t> find_holders(const std::string& path);
bool holds(pid_t pid, const std::string& path);

std::string describe(pid_t pid);  // "4711 (python3)"
// What a process that has `root` for its `/` finds under a name, absolute links in it too (an image's /bin/sh
// may be one to /bin/busybox). False with errno set.
bool stat_in_root(const std::string& root, const char* name, struct stat& into);
uid_t owner_of(pid_t pid);  // its real user; -1 when it is gone

}  // namespace tutti::supervisor
