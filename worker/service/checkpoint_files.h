// Checkpoints on disk: found, checked, deleted. Blocking, and perhaps on a file server that hangs: called on
// pools only, each call bounded by a deadline as far as the system calls come back. Users write these
// folders, and the worker looks with their rights (as_user.h); still nothing but regular files is opened, no
// symbolic link is followed below the job's checkpoint folder, and everything is reached from a descriptor of
// that folder.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "scheduler/model/protocol.h"
#include "scheduler/model/time.h"
#include "worker/core/actions.h"
#include "worker/supervisor/checkpoint_manifest.h"

namespace tutti::worker {

/// What has been looked at: path of the checkpoint → its COMPLETE.json, and how often it was not in order.
struct SeenCheckpoint {
  ino_t inode = 0;
  std::int64_t changed = 0;
  int looks = 0;
  bool told = false;
};
using SeenCheckpoints = std::map<std::string, SeenCheckpoint>;

struct FoundCheckpoints {
  std::vector<protocol::CheckpointFound> found;      // in order of their steps
  std::vector<protocol::CheckpointChecked> refused;  // what cannot be taken for a checkpoint, and why
  std::vector<std::string> listed;                   // paths of those whose checksums can be compared
};

/// New complete checkpoints `<dir>/step-*/COMPLETE.json`, those of earlier epochs left out; `epoch_in_file`
/// says whose the others are. What is not in order is looked at again and told at the third look (a file
/// server shows a directory's entries late), or at once if this is the `last` one.
FoundCheckpoints find_checkpoints(const std::string& dir, AttemptKey key, SeenCheckpoints& seen, bool last);

struct ChecksumResult {
  enum What {
    held,        // all of them
    unfinished,  // stopped, or out of time
    damaged,
    unreadable  // it cannot be said: `why`
  } what = held;
  std::string why;
};
/// Compares the checksums of one checkpoint. `stop` is asked between reads.
ChecksumResult compare_checksums(const std::string& dir, const std::string& path, std::int64_t step,
                                 std::int64_t epoch, const std::function<bool()>& stop);

/// Whether an attempt may begin from it: existence, epoch, sizes, and checksums until `stop`.
ResumeCheck check_resume(const std::string& dir, const protocol::Prepare& prepare,
                         const std::function<bool()>& stop);

/// Deletes what the order names, if it still is that and belongs to `owner`. First it gets another name, so
/// that a job that writes the same step again at this moment has a folder of its own.
protocol::CheckpointDeleted delete_checkpoint(const std::string& dir, uid_t owner,
                                              const protocol::DeleteCheckpoint& order,
                                              const std::function<bool()>& stop);

}  // namespace tutti::worker
