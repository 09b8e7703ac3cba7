// Touching files with the rights of a job's user, on one thread: on a file server that squashes root, root
// sees less of a user's folders than the user does, and elsewhere root sees more than the job may lend it.
#pragma once

#include <sys/types.h>

#include <vector>

#include "worker/core/account.h"

namespace tutti::worker {

/// While it lives, file accesses of this thread are that user's. Without effect where we are not root. If it
/// cannot be done the thread has nobody's rights rather than ours.
class AsUser {
 public:
  explicit AsUser(const Account&);
  ~AsUser();
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;

 private:
  bool changed_ = false;
  std::vector<gid_t> groups_;  // ours
  gid_t gid_ = 0;
};

}  // namespace tutti::worker
