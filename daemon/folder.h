// Folders that a service writes: at its start, and for --check-config, which makes nothing. Blocking; any
// thread.
#pragma once

#include <string>

namespace tutti::daemon {

/// Throws std::runtime_error, with the flag's name, if `folder` cannot be read, written and searched, or is
/// not there and cannot be made. Tried, for what is allowed is not always possible (a read-only disk, /proc):
/// a folder is made in it, or in the nearest one that is there, and removed again. A disk that is only full
/// is no matter of the configuration.
void look_at_folder(const std::string& flag, const std::string& folder);

/// The same, and makes it, with those above it.
void make_folder(const std::string& flag, const std::string& folder);

}  // namespace tutti::daemon
