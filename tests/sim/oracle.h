// What must be true whatever happens, judged from the ranks themselves and from the rows, never from what the
// control plane believes (docs/design/0002-fence.md):
//   I1 no GPU is used by ranks of two attempts at once, and none is given away while a rank is on it;
//   I2 no two epochs of one job are alive at once; no rank starts before its attempt is in the store or after
//      the store says that it has ended; none lives when the store says so;
//   I3 a checkpoint is registered under the current epoch only;
//   I4 an acknowledged submission is in the store, once, and the same key names the same job for ever; who
//      leads knows of every job that has not ended;
//   I5 every GPU's time is accounted for: allocations are closed when all is over;
//   I6 a fault of the control plane alone kills nothing (runs with `benign` faults);
//   I7 a gang does not live on in part;
//   I8 no attempt begins from a checkpoint that is marked bad, is being deleted, or is of its own or a later
//      epoch; the only one of a job that can be used is never given up for deletion;
//   I9 what an attempt has written is registered when the store has its end by the word of its node,
//      which has looked and has not lost its power since;
//   and a job's history walks the edges of the state table, and schedules keep the rules of
//   schedule_oracle.h.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "db/memory/memory_reader.h"
#include "scheduler/core/control_plane.h"
#include "tests/sim/schedule_oracle.h"
#include "tests/sim/world.h"

namespace tutti::sim {

class Oracle {
 public:
  Oracle(World& world, std::shared_ptr<db::MemoryDatabase> database, bool benign)
      : world_(world), reader_(std::move(database)), benign_(benign) {}

  // ---- the ranks
  void rank_started(AttemptKey key, std::size_t node, int rank, const std::vector<std::string>& gpus);
  // SIGKILL is under way. `stuck`: in the kernel, takes no step but stays on its GPU.
  void rank_struck(AttemptKey key, std::size_t node, int rank, bool stuck);
  void rank_dead(AttemptKey key, std::size_t node, int rank, bool well);
  // A machine begins with an attempt; never twice with one epoch of a job, never with an older one.
  void begun(AttemptKey key, std::size_t node);
  void lease_ran_out(AttemptKey key, std::size_t node);
  // While a node is cut off, what is placed on it may never begin there.
  void node_is_cut(std::size_t node, bool is) { is ? void(cut_[node]++) : void(cut_[node]--); }
  void checkpoint_written(AttemptKey key, const std::string& path) {
    for (auto& [other, paths] : written_) paths.erase(path);  // jobs may share a folder
    written_[key].insert(path);
  }
  // After a boot nobody looks again for what a worker told just before.
  void power_is_lost() { written_.clear(); }
  void checkpoints_cannot_be_read(AttemptKey key) { written_.erase(key); }  // by the last look at them

  // ---- the store: a transaction has been applied
  void committed(const Batch& batch);
  // Whoever leads by the newest term has read it.
  void led(const ControlPlane& plane);

  // ---- people
  void acknowledged(const std::string& owner, const std::string& key, JobId id);

  // Every second. `excused`: nobody could act on a failure now.
  void sweep(bool excused, Duration limit);
  void at_end();
  std::size_t ranks_alive() const { return ranks_.size(); }
  std::size_t acknowledged_count() const { return acknowledged_.size(); }

 private:
  struct RankId {
    AttemptKey key;
    std::size_t node;
    int rank;
    auto operator<=>(const RankId&) const = default;
  };
  struct Rank {
    std::vector<std::string> gpus;
    bool stuck = false;
  };
  std::string text(AttemptKey key) const { return to_string(key.job) + "/" + to_string(key.epoch); }
  bool steps(AttemptKey key) const;  // a rank of it can take a step
  void check_history(const Batch& batch);
  void check_batch(const Batch& batch);
  void check_checkpoints(const Batch& batch, const std::map<JobId, Epoch>& epochs_before);
  void check_nothing_is_lost(const Batch& batch);

  World& world_;
  db::MemoryReader reader_;
  const bool benign_;
  std::map<RankId, Rank> ranks_;                             // processes that exist
  std::map<std::string, std::map<AttemptKey, int>> on_gpu_;  // by UUID
  std::map<JobId, std::map<Epoch, int>> stepping_;           // ranks that can take a step
  std::map<AttemptKey, Time> broken_since_;                  // I7: the first rank died badly
  std::set<AttemptKey> unwell_;                              // a rank of it has not ended by itself, and well
  std::map<std::pair<std::size_t, JobId>, Epoch> begun_;
  std::map<JobId, std::string> state_, attempt_state_;                 // by the history
  std::map<JobId, Epoch> epoch_;                                       // by the rows
  std::map<JobId, std::map<std::string, CheckpointRow>> checkpoints_;  // by path, as the rows say
  std::map<std::size_t, int> cut_;                                     // nodes, and by how many faults
  std::set<AttemptKey> placed_in_vain_;                                // where one of its nodes was cut off
  std::map<AttemptKey, std::set<std::string>> written_;  // paths; of attempts that have not ended
  std::set<AttemptKey> attempts_seen_;
  std::map<GpuId, std::string> uuid_;
  std::map<std::pair<std::string, std::string>, JobId> acknowledged_;
  ScheduleOracle schedules_;
};

}  // namespace tutti::sim
