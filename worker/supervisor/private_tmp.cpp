#include "worker/supervisor/private_tmp.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

void make_folder(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) throw_errno("mkdir " + path);
}

void make_folders(const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at + 1);
    make_folder(path.substr(0, at), 0755);
  }
}

void bind_mount(const std::string& from, const std::string& to) {
  if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    throw_errno("mount " + from + " on " + to);
}

// Folders of the attempt below `hidden`, held before they are hidden.
std::vector<std::pair<std::string, Fd>> hold(const Config& config, const std::string& hidden) {
  std::set<std::string> folders = {config.dir};
  if (!config.programs.empty()) folders.insert(config.programs);
  for (const Device& d : config.devices)
    if (d.simulated) folders.insert(d.path.substr(0, d.path.rfind('/')));
  std::vector<std::pair<std::string, Fd>> out;
  for (const auto& folder : folders) {
    if (!folder.starts_with(hidden + "/")) continue;
    if (!out.empty() && folder.starts_with(out.back().first + "/")) continue;  // seen through that one
    Fd fd(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd) throw_errno("open " + folder);
    out.emplace_back(folder, std::move(fd));
  }
  return out;
}

}  // namespace

void enter_private_tmp(const Config& config) {
  if (unshare(CLONE_NEWNS) != 0) throw_errno("a view of the file system of its own");
  // What is mounted outside later is seen inside, and not the other way round.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) throw_errno("mount / as slave");
  const std::string root = config.dir + "/" + kPrivateTmp;
  make_folder(root, 0700);  // root's, as what is in it: a job must not rename what we make there
  const std::pair<const char*, const char*> folders[] = {{"/tmp", "/tmp"}, {"/var_tmp", "/var/tmp"}};
  for (const auto& [leaf, hidden] : folders) {
    const std::string own = root + leaf;
    make_folder(own, 0700);
    if (chmod(own.c_str(), 01777) != 0) throw_errno("chmod " + own);
  }
  const Fd var_tmp(open((root + "/var_tmp").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!var_tmp) throw_errno("open " + root + "/var_tmp");
  for (const auto& [leaf, hidden] : folders) {
    struct stat there{};  // one that is a link to the other is hidden with it
    if (lstat(hidden, &there) != 0 || !S_ISDIR(there.st_mode)) continue;
    const auto held = hold(config, hidden);
    bind_mount(hidden == std::string("/tmp") ? root + leaf : "/proc/self/fd/" + std::to_string(var_tmp.get()),
               hidden);
    for (const auto& [folder, fd] : held) {
      make_folders(folder);
      bind_mount("/proc/self/fd/" + std::to_string(fd.get()), folder);
    }
  }
}

void mount_shm(const Config& config) {
  const auto path = config.dir + "/shm";
  make_folder(path, 0700);
  const auto uid = geteuid();
  const auto gid = getegid();
  if (uid != 0) {
    if (unshare(CLONE_NEWUSER) != 0) throw_errno("a user namespace of its own (for shm_size)");
    const auto identity = [](unsigned id) { return std::to_string(id) + " " + std::to_string(id) + " 1"; };
    if (!poke_file("/proc/self/setgroups", "deny") || !poke_file("/proc/self/uid_map", identity(uid)) ||
        !poke_file("/proc/self/gid_map", identity(gid)))
      throw_errno("map the user of its namespace");
  }
  if (unshare(CLONE_NEWNS) != 0) throw_errno("a view of the file system of its own");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) throw_errno("mount / as slave");
  auto options = "mode=0700,uid=" + std::to_string(config.uid) + ",gid=" + std::to_string(config.gid);
  if (config.shm_bytes > 0) options += ",size=" + std::to_string(config.shm_bytes);
  if (mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) != 0)
    throw_errno("mount a tmpfs for /dev/shm");
}

}  // namespace tutti::supervisor
