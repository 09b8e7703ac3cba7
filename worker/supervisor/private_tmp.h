// A /tmp and a /var/tmp that only one attempt sees, in its own directory. Called by its supervisor, as root,
// before anything is started: all its children inherit its view of the file system.
#pragma once

#include "worker/supervisor/messages.h"

namespace tutti::supervisor {

inline constexpr const char* kPrivateTmp = "private_tmp";  // in the attempt's directory

/// From now on this process and its children see them. What of the attempt itself lies under /tmp (its
/// directory, our programs, simulated devices) is still seen there. Throws std::system_error.
void enter_private_tmp(const Config& config);

/// Mounts the tmpfs at <dir>/shm that the containers of this attempt have as /dev/shm, seen by this process
/// and its children only: it is gone with the last of them. Where we are not root in a user namespace of our
/// own. Throws std::system_error.
void mount_shm(const Config& config);

}  // namespace tutti::supervisor
