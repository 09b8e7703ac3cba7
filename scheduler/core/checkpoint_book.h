// The checkpoints of one job, as the scheduler knows them, and the two choices made among them: where the
// next attempt begins, and which ones are no longer kept. Plain values; ControlPlane owns one per unfinished
// job and is the only one that changes rows (scheduler/core/control_checkpoints.cpp).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/rows.h"

namespace tutti {

class CheckpointBook {
 public:
  using Rows = std::map<std::string, CheckpointRow>;  // by path

  const Rows& rows() const { return rows_; }
  CheckpointRow* find(const std::string& path);
  const CheckpointRow* find(const std::string& path) const;
  CheckpointRow& put(CheckpointRow row);
  void erase(const std::string& path) { rows_.erase(path); }

  // Where the next attempt begins: the newest that is neither bad nor suspect nor about to be deleted. If
  // there is none, a retired one, then a suspect one. nullptr: none is left, it begins from scratch.
  const CheckpointRow* choose_resume() const;

  // Newest step of one that is not bad; -1 = none.
  std::int64_t newest_step() const;

  // Whether one that is not to be deleted is known to be good.
  bool keeps_a_good_one() const;

  // Whether this epoch has left one beyond that step that is not bad.
  bool has_newer(Epoch, std::int64_t step) const;

  // Paths that `policy` no longer keeps. Kept are the newest `keep`, every `keep_every`th step, the newest
  // from which a later one was made, the newest good one, and `in_use`. Suspect and bad ones do not count as
  // kept, and go when they are older than all that are. Nothing with `keep` 0.
  std::vector<std::string> choose_retired(const CheckpointPolicy& policy, const std::string& in_use) const;

 private:
  Rows rows_;
};

}  // namespace tutti
