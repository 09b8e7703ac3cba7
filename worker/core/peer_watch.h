// What this node has acknowledged to others: the other half of a gang's lease (docs/design/0002-fence.md). A
// node without a scheduler goes on with an attempt only while all its peers acknowledge it; so when one of
// them says "not for longer than a lease", that node's part is dead.
//
//   1. `silence` never says more than the truth: what a former life of this worker acknowledged counts as
//      acknowledged when this one began.
//   2. What is refused is never acknowledged again.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti::worker {

class PeerWatch {
 public:
  explicit PeerWatch(Mono started) : started_(started) {}

  void acknowledged(const std::string& node, AttemptKey, Mono now);
  /// Since the last acknowledgement to `node` for this attempt, at least.
  Duration silence(const std::string& node, AttemptKey, Mono now) const;

  void refuse(AttemptKey);
  bool refused(AttemptKey key) const { return refused_.contains(key); }

 private:
  void forget_old(Mono now);

  Mono started_, looked_at_{};
  std::map<std::pair<std::string, AttemptKey>, Mono> acknowledged_;  // of the last hour
  std::set<AttemptKey> refused_;
  std::deque<AttemptKey> refused_by_age_;  // bounded
};

}  // namespace tutti::worker
