#include "worker/supervisor/proc_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <unordered_map>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

std::string proc(pid_t pid, const char* leaf) { return "/proc/" + std::to_string(pid) + "/" + leaf; }

void for_each_entry(const std::string& path, const std::function<void(const char*)>& visit) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir))
    if (entry->d_name[0] != '.') visit(entry->d_name);
  closedir(dir);
}

void for_each_pid(const std::function<void(pid_t)>& visit) {
  for_each_entry("/proc", [&](const char* name) {
    if (name[0] >= '1' && name[0] <= '9') visit(static_cast<pid_t>(std::atoi(name)));
  });
}

struct Kin {
  char state = 'X';
  pid_t parent = 0;
  int threads = 0;
  // A zombie leader may have living threads: such a process runs on.
  bool alive() const { return state != 'X' && (state != 'Z' || threads > 1); }
};

Kin kin_of(pid_t pid) {
  const auto stat = read_file(proc(pid, "stat"), 1024);
  if (!stat) return {};
  const std::size_t name_end = stat->rfind(')');  // the name may hold spaces and parentheses
  if (name_end == std::string::npos || name_end + 4 >= stat->size()) return {};
  Kin kin;  // from fields 3, 4 and 20 of proc(5)
  std::sscanf(stat->c_str() + name_end + 2,
              "%c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d", &kin.state, &kin.parent,
              &kin.threads);
  return kin;
}

bool holds_variable(const std::string& environ, std::string_view name, const std::string& value) {
  const std::string entry = std::string(name) + "=" + value;
  for (std::size_t at = environ.find(entry); at != std::string::npos; at = environ.find(entry, at + 1)) {
    const std::size_t end = at + entry.size();
    if ((at == 0 || environ[at - 1] == '\0') && (end == environ.size() || environ[end] == '\0')) return true;
  }
  return false;
}

bool bears_marker(pid_t pid, const Kin& kin, const Config& config) {
  bool found = false;
  const auto look = [&](const std::string& path) {
    const auto environ = read_file(path, 8 << 20);
    found = found || (environ && holds_variable(*environ, kKeyVariable, key_text(config.key)) &&
                      holds_variable(*environ, kDirVariable, config.dir));
  };
  look(proc(pid, "environ"));
  if (!found && kin.state == 'Z')  // the dead leader's is empty, its threads' is not
    for_each_entry(proc(pid, "task"), [&](const char* tid) { look(proc(pid, "task/") + tid + "/environ"); });
  return found;
}

// Of one process; within a walk over all of them each is read once.
using KinOf = std::function<Kin(pid_t)>;

bool descends(pid_t pid, pid_t root, const KinOf& kin) {
  constexpr int kDeepest = 1000;  // pids may be reused while we climb: no loop without an end
  for (int steps = 0; root != 0 && pid > 1 && steps < kDeepest; ++steps) {
    pid = kin(pid).parent;
    if (pid == root) return true;
  }
  return false;
}

bool belongs(pid_t pid, const Config& config, pid_t root, const KinOf& kin_of_any) {
  if (pid == getpid() || pid == root) return false;
  const Kin kin = kin_of_any(pid);
  return kin.alive() &&
         (descends(pid, root, kin_of_any) || (owner_of(pid) == config.uid && bears_marker(pid, kin, config)));
}

}  // namespace

std::string key_text(AttemptKey key) { return to_string(key.job) + "-" + to_string(key.epoch); }

bool belongs(pid_t pid, const Config& config, pid_t root) { return belongs(pid, config, root, kin_of); }

std::vector<pid_t> find_processes(const Config& config, pid_t root) {
  std::unordered_map<pid_t, Kin> read;
  const KinOf once = [&](pid_t pid) {
    const auto known = read.find(pid);
    return known != read.end() ? known->second : read[pid] = kin_of(pid);
  };
  std::vector<pid_t> found;
  for_each_pid([&](pid_t pid) {
    if (belongs(pid, config, root, once)) found.push_back(pid);
  });
  return found;
}

namespace {

struct Wanted {
  const std::string* path;
  std::string_view leaf;  // with its slash
  struct stat is{};
};

std::vector<Wanted> existing(const std::vector<std::string>& paths) {
  std::vector<Wanted> files;
  for (const std::string& path : paths) {
    Wanted file{.path = &path, .leaf = std::string_view(path).substr(path.rfind('/'))};
    if (stat(path.c_str(), &file.is) == 0) files.push_back(file);
  }
  return files;
}

void find_held(pid_t pid, const std::vector<Wanted>& files, std::vector<Holder>& found) {
  const std::string fds = proc(pid, "fd");
  for_each_entry(fds, [&](const char* name) {
    const std::string link = fds + "/" + name;
    char target[PATH_MAX];
    // The text first: stat() of a descriptor may touch a dead file server.
    const ssize_t n = readlink(link.c_str(), target, sizeof target);
    if (n <= 0 || target[0] != '/') return;
    const std::string_view whole(target, static_cast<std::size_t>(n));
    const std::string_view leaf = whole.substr(whole.rfind('/'));
    for (const Wanted& file : files) {
      struct stat s{};
      if (leaf != file.leaf || stat(link.c_str(), &s) != 0 || s.st_dev != file.is.st_dev ||
          s.st_ino != file.is.st_ino)
        continue;
      const auto same = [&](const Holder& h) { return h.pid == pid && h.path == *file.path; };
      if (std::ranges::none_of(found, same)) found.push_back({pid, *file.path});
    }
  });
}

}  // namespace

std::vector<Holder> find_holders(const std::vector<std::string>& paths) {
  const std::vector<Wanted> files = existing(paths);
  std::vector<Holder> found;
  if (files.empty()) return found;
  for_each_pid([&](pid_t pid) {
    if (pid != getpid()) find_held(pid, files, found);
  });
  return found;
}

std::vector<pid_t> find_holders(const std::string& path) {
  std::vector<pid_t> pids;
  for (const Holder& holder : find_holders(std::vector{path})) pids.push_back(holder.pid);
  return pids;
}

bool holds(pid_t pid, const std::string& path) {
  const std::vector paths{path};
  std::vector<Holder> found;
  if (pid != getpid()) find_held(pid, existing(paths), found);
  return !found.empty();
}

std::string describe(pid_t pid) {
  std::string name = read_file(proc(pid, "comm"), 64).value_or("gone");
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return std::to_string(pid) + " (" + name + ")";
}

bool stat_in_root(const std::string& root, const char* name, struct stat& into) {
  const Fd folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return false;
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  int tries = 0;
  long fd = -1;
  // EAGAIN: something was renamed while the kernel looked.
  do fd = syscall(SYS_openat2, folder.get(), name, &how, sizeof how);
  while (fd < 0 && errno == EAGAIN && ++tries < 4);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM)) return fstatat(folder.get(), name, &into, 0) == 0;
  const Fd file(static_cast<int>(fd));
  return file && fstat(file.get(), &into) == 0;
}

// Not the owner of its folder: that is root for a process that does not let itself be dumped.
uid_t owner_of(pid_t pid) {
  const auto status = read_file(proc(pid, "status"), 4096);
  const auto at = status ? status->find("\nUid:\t") : std::string::npos;
  if (at == std::string::npos) return static_cast<uid_t>(-1);
  return static_cast<uid_t>(std::strtoul(status->c_str() + at + 6, nullptr, 10));
}

}  // namespace tutti::supervisor
