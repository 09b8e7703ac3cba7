// Small blocking file and clock helpers of the supervisor. Everything here is local disk or /proc.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/secret_mask.h"
#include "worker/supervisor/fd.h"

namespace tutti::supervisor {

std::int64_t boot_us();  // CLOCK_BOOTTIME

[[noreturn]] void throw_errno(const std::string& what);  // std::system_error from errno

// At most `limit` bytes; nothing when it cannot be read.
std::optional<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20);
// One write() into an existing file, as cgroup and /proc files want it. False with errno set.
bool poke_file(const std::string& path, std::string_view text);
// Readers see the old text or the new one, never half. `durable` adds fsync. Throws std::system_error.
void replace_file(const std::string& path, std::string_view text, bool durable, mode_t mode = 0644);

// What a job's user may have put in the place of a file: opened without following a link at its end, without
// waiting for a FIFO; nothing if it is no regular file.
struct RegularFile {
  Fd fd;
  struct stat info{};
};
std::optional<RegularFile> open_regular(const std::string& path);
// … and nothing if it is not that user's own: a hard link could lend us somebody else's file.
std::optional<RegularFile> open_regular_of(uid_t owner, const std::string& path);

// The last `limit` bytes of a log that the job's user could write, from a line start where possible. Runs as
// root: so no symlinks, regular files only, and only the user's own. Made valid UTF-8, secrets taken out. ""
// when there is nothing.
std::string log_tail(const std::string& path, uid_t owner, const SecretMask& mask, std::size_t limit = 4096);

// A unix stream socket under `dir`, whose path may be longer than sun_path. Both throw std::system_error.
Fd listen_unix(const std::string& dir, const std::string& name, mode_t mode, uid_t owner);
Fd connect_unix(const std::string& dir, const std::string& name);

}  // namespace tutti::supervisor
