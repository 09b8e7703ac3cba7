// tutti-node-check: one look at one path, in a process of its own that can be killed: a file system that
// hangs must hang nobody else. Started by the worker; says one line and exits 0 (fine) or 1 (the line says
// why not).
//
//   tutti-node-check space PATH             prints what worker/node/space.h reads
//   tutti-node-check file FOLDER [UID GID]  creates, syncs, reads and removes a file there, as that user. A
//                                           folder that is not there yet: its nearest parent must be writable
//   tutti-node-check write FOLDER [UID GID] the same without the sync, which a busy disk can make slow
//   tutti-node-check account NAME           prints what the user database says of it (worker/core/account.h),
//                                           or "none". It may be a directory service that hangs as well
//
// UID GID may be followed by a list of groups: then the user database is not asked.
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "worker/core/account.h"
#include "worker/node/space.h"

namespace {

int fail(const std::string& what) {
  std::puts((what + ": " + std::strerror(errno)).c_str());
  return 1;
}

int look_at_space(const std::string& path) {
  struct statvfs info{};
  if (statvfs(path.c_str(), &info) != 0) return fail(path);
  tutti::node::Space s;
  s.free_bytes = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  s.total_bytes = static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize;
  s.free_files = info.f_favail;
  s.total_files = info.f_files;
  s.read_only = (info.f_flag & ST_RDONLY) != 0;
  std::puts(tutti::node::format_space(s).c_str());
  return 0;
}

constexpr std::string_view kPrefix = ".tutti-check-";
constexpr std::time_t kOld = 3600;  // no look takes so long: whoever made it was killed

std::string host() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return "host";
  return name;
}

// The folder may be shared by many machines, whose process numbers are alike.
std::string new_name() {
  std::uint64_t random = 0;
  (void)!getrandom(&random, sizeof random, 0);
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(random));
  return std::string(kPrefix) + host() + "-" + digits;
}

// What looks of this machine have left behind that were killed in the middle.
void remove_old(const std::string& folder) {
  const std::string ours = std::string(kPrefix) + host() + "-";
  std::error_code ec;
  int seen = 0;
  for (auto it = std::filesystem::directory_iterator(folder, ec);
       !ec && it != std::filesystem::directory_iterator() && ++seen <= 10'000; it.increment(ec)) {
    struct stat info{};
    if (!it->path().filename().string().starts_with(ours) || lstat(it->path().c_str(), &info) != 0) continue;
    if (S_ISREG(info.st_mode) && info.st_uid == geteuid() && std::time(nullptr) - info.st_mtime > kOld)
      unlink(it->path().c_str());
  }
}

int use_file(const std::string& folder, bool sync) {
  std::string path;
  int fd = -1;
  for (int tries = 0; fd < 0 && tries < 8; ++tries) {
    path = folder + "/" + new_name();
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd < 0) return fail("create a file in " + folder);
  const std::string_view text = "written by tutti-node-check\n";
  char back[64] = {};
  std::string step;
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    step = "write";
  else if (sync && fsync(fd) != 0)
    step = "fsync";
  else if (pread(fd, back, sizeof back, 0) != static_cast<ssize_t>(text.size()) || text != back)
    step = "read back";
  const int error = errno;
  if (unlink(path.c_str()) != 0 && step.empty()) return fail("remove " + path);
  errno = error;
  if (!step.empty()) return fail(step + " a file in " + folder);
  remove_old(folder);
  std::puts("ok");
  return 0;
}

int look_at_folder(const std::string& folder, bool sync) {
  std::error_code ec;
  std::filesystem::path at(folder);
  if (std::filesystem::is_directory(at, ec)) return use_file(folder, sync);
  if (std::filesystem::exists(at, ec)) {
    errno = ENOTDIR;
    return fail(folder);
  }
  while (at.has_parent_path() && at != at.parent_path() && !std::filesystem::exists(at, ec))
    at = at.parent_path();
  if (access(at.c_str(), W_OK | X_OK) != 0)
    return fail(folder + " is not there and cannot be made in " + at.string());
  std::puts("ok");
  return 0;
}

// With the groups that ranks have: a folder of the team is often writable for its group only.
int set_groups(uid_t uid, gid_t gid, const char* list) {
  if (list == nullptr) {
    const passwd* entry = getpwuid(uid);
    return entry != nullptr ? initgroups(entry->pw_name, gid) : setgroups(1, &gid);
  }
  std::vector<gid_t> groups;
  for (char* end = nullptr; *list != '\0'; list = *end == ',' ? end + 1 : end) {
    groups.push_back(static_cast<gid_t>(std::strtoul(list, &end, 10)));
    if (end == list) return -1;
  }
  return setgroups(groups.size(), groups.data());
}

int become(const char* user, const char* group, const char* groups) {
  const auto uid = static_cast<uid_t>(std::strtoul(user, nullptr, 10));
  const auto gid = static_cast<gid_t>(std::strtoul(group, nullptr, 10));
  if (uid == getuid() && gid == getgid()) return 0;
  if (set_groups(uid, gid, groups) != 0 || setgid(gid) != 0 || setuid(uid) != 0)
    return fail("become the job user");
  return 0;
}

constexpr std::size_t kMostGroups = 2000;  // what fits into the pipe to the worker

int look_up_account(const char* name) {
  errno = 0;
  const passwd* entry = getpwnam(name);
  if (entry == nullptr) {
    // getpwnam(3): these mean that there is no such name.
    if (errno != 0 && errno != ENOENT && errno != ESRCH && errno != EBADF && errno != EPERM)
      return fail("look up " + std::string(name));
    std::puts("none");
    return 1;
  }
  tutti::worker::Account account{.name = entry->pw_name,
                                 .home = entry->pw_dir,
                                 .shell = entry->pw_shell,
                                 .uid = entry->pw_uid,
                                 .gid = entry->pw_gid,
                                 .groups = {}};
  int count = kMostGroups;
  std::vector<gid_t> groups(kMostGroups);
  if (getgrouplist(name, account.gid, groups.data(), &count) < 0) {
    std::printf("%s is in more than %zu groups\n", name, kMostGroups);
    return 1;
  }
  account.groups.assign(groups.begin(), groups.begin() + count);
  const auto line = tutti::worker::format_account(account);
  if (!tutti::worker::parse_account(line) || line.find('\n') != std::string::npos) {
    std::printf("the entry of %s in the user database is malformed\n", name);
    return 1;
  }
  std::puts(line.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[1] : "";
  if (what == "space" && argc == 3) return look_at_space(argv[2]);
  if (what == "account" && argc == 3) return look_up_account(argv[2]);
  if ((what == "file" || what == "write") && (argc == 3 || argc == 5 || argc == 6)) {
    if (argc >= 5 && become(argv[3], argv[4], argc == 6 ? argv[5] : nullptr) != 0) return 1;
    return look_at_folder(argv[2], what == "file");
  }
  std::fputs("usage: tutti-node-check space PATH | {file|write} FOLDER [UID GID [GROUP,…]] | account NAME\n",
             stderr);
  return 2;
}
