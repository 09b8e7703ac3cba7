#include "worker/service/as_user.h"

#include <grp.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>

namespace tutti::worker {
namespace {

// The system calls themselves: the library's functions change all threads.
bool set_thread_groups(const std::vector<std::uint32_t>& groups) {
  return syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
}
uid_t fs_uid() { return static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))); }
gid_t fs_gid() { return static_cast<gid_t>(setfsgid(static_cast<gid_t>(-1))); }

}  // namespace

AsUser::AsUser(const Account& user) {
  if (geteuid() != 0 || user.uid == 0) return;
  gid_ = fs_gid();
  const int n = getgroups(0, nullptr);
  groups_.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  if (n > 0) getgroups(n, groups_.data());
  changed_ = true;
  const bool grouped = set_thread_groups(user.groups);
  setfsgid(user.gid);
  setfsuid(user.uid);  // last: it takes the rights away that the others need
  if (grouped && fs_uid() == user.uid && fs_gid() == user.gid) return;
  setfsuid(65534);
  if (fs_uid() == 0) throw std::runtime_error("the rights of the job's user cannot be taken on");
}

AsUser::~AsUser() {
  if (!changed_) return;
  setfsuid(0);  // first: it gives those rights back
  setfsgid(gid_);
  set_thread_groups(groups_);
}

}  // namespace tutti::worker
