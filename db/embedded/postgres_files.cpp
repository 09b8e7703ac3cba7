#include "db/embedded/postgres_files.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "db/embedded/embedded_postgres.h"

namespace tutti::db {
namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr int kOldestMajor = 15;

bool has_binaries(const fs::path& bin) {
  return ::access((bin / "postgres").c_str(), X_OK) == 0 && ::access((bin / "initdb").c_str(), X_OK) == 0;
}

std::vector<fs::path> candidates() {
  std::vector<std::pair<int, fs::path>> versions;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ec)) {
    const int major = std::atoi(entry.path().filename().c_str());
    if (major > 0) versions.emplace_back(major, entry.path() / "bin");
  }
  std::sort(versions.rbegin(), versions.rend());
  std::vector<fs::path> found;
  for (auto& v : versions) found.push_back(v.second);
  const char* path = std::getenv("PATH");
  for (std::string rest = path ? path : ""; !rest.empty();) {
    const auto colon = rest.find(':');
    if (const auto dir = rest.substr(0, colon); !dir.empty()) found.emplace_back(dir);
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return found;
}

// State letter of /proc/<pid>/stat and the command's name; 'X' = no such process.
std::pair<char, std::string> process_state(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(in, line)) return {'X', ""};
  const auto open = line.find('('), close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 2 >= line.size()) return {'X', ""};
  return {line[close + 2], line.substr(open + 1, close - open - 1)};
}

}  // namespace

OsUser server_user(const std::string& run_as) {
  OsUser user;
  if (::geteuid() != 0) return user;
  const passwd* entry = ::getpwnam(run_as.c_str());
  if (!entry)
    throw EmbeddedError("PostgreSQL refuses to run as root and there is no user '" + run_as +
                        "': create it, or start as an ordinary user");
  if (entry->pw_uid == 0) throw EmbeddedError("PostgreSQL refuses to run as root: choose another user");
  user.change = true;
  user.uid = entry->pw_uid;
  user.gid = entry->pw_gid;
  user.name = run_as;
  int n = 64;
  user.groups.resize(static_cast<std::size_t>(n));
  if (::getgrouplist(run_as.c_str(), user.gid, user.groups.data(), &n) < 0) n = 0;
  user.groups.resize(static_cast<std::size_t>(n));
  return user;
}

int binary_major(const std::string& bin) {
  // A fixed program of a directory that was chosen by the operator; the path is quoted for the shell.
  std::string quoted = "'";
  for (char c : bin) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  FILE* out = ::popen((quoted + "/postgres' --version 2>/dev/null").c_str(), "re");
  if (!out) return 0;
  char line[128] = {};
  if (!std::fgets(line, sizeof line, out)) line[0] = 0;
  ::pclose(out);
  const char* digits = std::strpbrk(line, "0123456789");  // "postgres (PostgreSQL) 15.14 (Debian …)"
  return digits ? std::atoi(digits) : 0;
}

std::string find_binaries(const std::string& wanted, int major) {
  std::vector<fs::path> places = wanted.empty() ? candidates() : std::vector<fs::path>{wanted};
  int best = 0;
  for (const auto& bin : places) {
    if (!has_binaries(bin)) continue;
    const int found = binary_major(bin.string());
    if (major ? found == major : found >= kOldestMajor) return bin.string();
    best = std::max(best, found);
  }
  const std::string where = wanted.empty() ? "under /usr/lib/postgresql or in PATH" : "in " + wanted;
  if (major)
    throw EmbeddedError("the data directory was made by PostgreSQL " + std::to_string(major) +
                        ", but there is none of that version " + where +
                        ": install it, or migrate the data with pg_upgrade or pg_dump");
  throw EmbeddedError("no PostgreSQL " + std::to_string(kOldestMajor) + " or newer " + where +
                      (best ? " (found " + std::to_string(best) + ")" : std::string()) +
                      ": install the package `postgresql`, or give a connection string instead");
}

std::optional<int> cluster_major(const std::string& data) {
  std::ifstream in(data + "/PG_VERSION");
  int major = 0;
  if (in >> major) return major;
  return std::nullopt;
}

void make_private_directory(const std::string& path, const OsUser& owner) {
  std::error_code ec;
  fs::create_directories(path, ec);
  if (ec) throw EmbeddedError("cannot make " + path + ": " + ec.message());
  if (::chmod(path.c_str(), 0700) != 0 || (owner.change && ::chown(path.c_str(), owner.uid, owner.gid) != 0))
    throw EmbeddedError("cannot set owner and mode of " + path + ": " + std::strerror(errno));
}

std::optional<LockFile> read_lock_file(const std::string& data) {
  std::ifstream in(data + "/postmaster.pid");
  std::string line;
  LockFile lock;
  for (int n = 1; std::getline(in, line); ++n) {
    if (n == 1) lock.pid = static_cast<pid_t>(std::atol(line.c_str()));
    if (n == 8) lock.ready = line.compare(0, 5, "ready") == 0;
  }
  if (lock.pid <= 0) return std::nullopt;
  return lock;
}

void wait_until_unlocked(const std::string& data, milliseconds timeout) {
  const auto until = steady_clock::now() + timeout;
  while (true) {
    const auto lock = read_lock_file(data);
    if (!lock) return;
    const auto [state, command] = process_state(lock->pid);
    if (state == 'X') return;  // the server sees itself that the file is left over
    const bool dead = state == 'Z';
    if (!dead && command != "postgres" && command != "postmaster") {
      // The number was given to another process meanwhile (a container restarted): the server would believe
      // it.
      ::unlink((data + "/postmaster.pid").c_str());
      return;
    }
    const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0)
      throw EmbeddedError("the data directory " + data + " is in use by process " +
                          std::to_string(lock->pid) + (dead ? " (dead, but not reaped by its parent)" : "") +
                          ": stop it first");
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, lock->pid, 0));
    if (fd < 0) continue;
    pollfd p{fd, POLLIN, 0};
    // Its end is a signal; that a zombie is reaped by its parent is not, so that is asked for again.
    if (!dead)
      ::poll(&p, 1, static_cast<int>(left.count()));
    else
      std::this_thread::sleep_for(std::min(left, milliseconds(10)));
    ::close(fd);
  }
}

std::vector<std::pair<std::string, std::string>> recommended_settings(const std::string& data, bool fsync) {
  const auto mb = [](std::uintmax_t bytes) { return bytes >> 20; };
  const std::uintmax_t memory = mb(static_cast<std::uintmax_t>(::sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<std::uintmax_t>(::sysconf(_SC_PAGE_SIZE)));
  std::error_code ec;
  const fs::space_info disk = fs::space(data, ec);
  const std::uintmax_t free = ec ? 4096 : mb(disk.available);
  const auto buffers = fsync ? std::clamp<std::uintmax_t>(memory / 8, 64, 1024) : 64;
  const auto wal = fsync ? std::clamp<std::uintmax_t>(free / 10, 256, 8192) : 256;
  std::vector<std::pair<std::string, std::string>> out = {
      {"shared_buffers", std::to_string(buffers) + "MB"},
      {"max_wal_size", std::to_string(wal) + "MB"},
      {"checkpoint_timeout", "15min"},
      {"autovacuum_naptime", "15s"},
      {"jit", "off"},
      {"max_connections", "100"},
      {"client_connection_check_interval", "2s"},
  };
  if (!fsync) {
    out.emplace_back("fsync", "off");
    out.emplace_back("full_page_writes", "off");
  }
  return out;
}

std::string tail(const std::string& path) {
  std::ifstream in(path, std::ios::ate);
  if (!in) return "";
  const auto size = static_cast<long>(in.tellg());
  const long from = std::max(0L, size - 1500);
  in.seekg(from);
  std::string text(static_cast<std::size_t>(size - from), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text;
}

}  // namespace tutti::db
