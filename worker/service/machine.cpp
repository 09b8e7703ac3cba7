#include "worker/service/machine.h"

#include <arpa/inet.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <pwd.h>
#include <sched.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

extern char** environ;

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;

constexpr auto kDefaultJobUser = "tutti-job";

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string dotted(std::uint32_t host_order) {
  const in_addr a{htonl(host_order)};
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &a, text, sizeof text);
  return text;
}

std::optional<Account> look_up(const std::string& name) {
  std::vector<char> buffer(16 << 10);
  passwd entry{}, *found = nullptr;
  uid_t number = 0;
  const auto* last = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), last, number);
  const bool numeric = parsed.ec == std::errc() && parsed.ptr == last;
  const int error = numeric ? getpwuid_r(number, &entry, buffer.data(), buffer.size(), &found)
                            : getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0 || found == nullptr) return std::nullopt;
  Account account{.name = found->pw_name,
                  .home = found->pw_dir,
                  .shell = found->pw_shell,
                  .uid = found->pw_uid,
                  .gid = found->pw_gid,
                  .groups = {found->pw_gid}};
  int count = 1024;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  if (getgrouplist(found->pw_name, found->pw_gid, groups.data(), &count) >= 0)
    account.groups.assign(groups.begin(), groups.begin() + count);
  return account;
}

// 0, or the status of useradd, or 127.
int add_system_user(const std::string& name) {
  std::vector<std::string> words = {"useradd",          "--system",   "--user-group",
                                    "--no-create-home", "--home-dir", "/tmp",
                                    "--shell",          "/bin/sh",    name};
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return 127;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

fs::path own_folder() {
  std::error_code ec;
  return fs::read_symlink("/proc/self/exe", ec).parent_path();
}

}  // namespace

Now read_clocks() {
  timespec boot{};
  clock_gettime(CLOCK_BOOTTIME, &boot);
  Now now;
  now.mono = Mono(Duration(boot.tv_sec * 1'000'000LL + boot.tv_nsec / 1000));
  now.wall = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  return now;
}

std::string read_boot_id() { return first_line("/proc/sys/kernel/random/boot_id"); }

std::string instance_of(const std::string& state_dir) {
  const std::string path = state_dir + "/instance";
  if (const auto known = supervisor::read_file(path, 64); known && !known->empty()) return *known;
  const std::string fresh = first_line("/proc/sys/kernel/random/uuid");
  supervisor::replace_file(path, fresh, true);
  return fresh;
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::int32_t count_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<std::int32_t>(sysconf(_SC_NPROCESSORS_ONLN));
}

std::int64_t memory_size() {
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

std::optional<Interface> find_interface(const std::string& address) {
  in_addr wanted{};
  if (inet_pton(AF_INET, address.c_str(), &wanted) != 1) return std::nullopt;
  const auto target = ntohl(wanted.s_addr);
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::optional<Interface> by_network;
  for (const auto* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_netmask == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    const auto own = ntohl(reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr);
    const auto mask = ntohl(reinterpret_cast<const sockaddr_in*>(i->ifa_netmask)->sin_addr.s_addr);
    Interface found{i->ifa_name, dotted(own & mask) + "/" + std::to_string(std::popcount(mask))};
    if (own == target) return found;
    if ((own & mask) == (target & mask) && !by_network) by_network = std::move(found);
  }
  return by_network;
}

std::string find_ib_hcas() {
  std::vector<std::string> names;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator("/sys/class/infiniband", ec))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  std::string out;
  for (const auto& n : names) out += (out.empty() ? "" : ",") + n;
  return out;
}

std::optional<std::string> address_towards(const Peer& peer) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(peer.host.c_str(), std::to_string(peer.port).c_str(), &hints, &found) != 0)
    return std::nullopt;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  const supervisor::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in own{};
  socklen_t length = sizeof own;
  if (!fd || connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0)
    return std::nullopt;
  return dotted(ntohl(own.sin_addr.s_addr));
}

std::optional<Account> known_job_user(const std::string& wanted, bool allow_root) {
  if (geteuid() != 0) {
    Account me{.name = std::to_string(geteuid()), .uid = geteuid(), .gid = getegid(), .groups = {getegid()}};
    if (auto known = look_up(me.name)) me = *std::move(known);
    if (!wanted.empty() && wanted != me.name && wanted != std::to_string(me.uid))
      throw std::runtime_error("jobs can only run as " + me.name +
                               ", since the worker is not root; leave --job-user out");
    return me;
  }
  if (!wanted.empty()) {
    if (auto user = look_up(wanted)) {
      if (user->uid == 0 && !allow_root)
        throw std::runtime_error(
            "jobs never run as root without --allow-root-jobs; name another user with "
            "--job-user, or leave it out");
      return *user;
    }
    throw std::runtime_error("there is no user " + wanted + "; make it, or name another with --job-user");
  }
  const char* sudo = std::getenv("SUDO_USER");
  if (sudo != nullptr && std::strcmp(sudo, "root") != 0)
    if (auto user = look_up(sudo)) return *user;
  return look_up(kDefaultJobUser);
}

Account find_job_user(const std::string& wanted, bool allow_root) {
  if (auto user = known_job_user(wanted, allow_root)) return *user;
  if (const int status = add_system_user(kDefaultJobUser); status != 0)
    throw std::runtime_error("cannot make the system user tutti-job that jobs run as (useradd: status " +
                             std::to_string(status) + "); make it, or name another with --job-user");
  if (auto user = look_up(kDefaultJobUser)) return *user;
  throw std::runtime_error("useradd made tutti-job, but it is not found; name a user with --job-user");
}

std::string find_closed_folder(const std::string& path, const Account* user) {
  if (user != nullptr && user->uid == 0) return {};
  fs::path walked;
  for (const auto& part : fs::path(path)) {
    walked /= part;
    struct stat s{};
    if (stat(walked.c_str(), &s) != 0) continue;
    const bool open = user != nullptr && s.st_uid == user->uid   ? s.st_mode & S_IXUSR
                      : user != nullptr && s.st_gid == user->gid ? s.st_mode & S_IXGRP
                                                                 : s.st_mode & S_IXOTH;
    if (!open) return walked;
  }
  return {};
}

std::optional<std::string> find_program(const std::string& name, const std::string& libexec) {
  const auto own = own_folder();
  std::vector<fs::path> folders = {own, own / "../libexec/tutti", own / "../lib/tutti"};
  if (!libexec.empty()) folders = {libexec};
  for (const auto& folder : folders) {
    const auto path = (folder / name).lexically_normal();
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

// Installed beside the programs or in share/; in a source tree the programs are in build/NAME/bin.
std::vector<std::string> find_torchrun() {
  const auto own = own_folder();
  for (const auto* place : {"torchrun", "../share/tutti/torchrun", "../../../training/torchrun"}) {
    const auto path = (own / place).lexically_normal();
    if (access(path.c_str(), R_OK) == 0) return {"/usr/bin/python3", path};
  }
  return {"torchrun"};
}

}  // namespace tutti::worker
