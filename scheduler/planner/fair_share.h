// Who has used how much lately against whose share: GPU-seconds per account, halved every half-life, in a
// tree of accounts with weights. The factor is that of Slurm's multifactor plugin: 2^(-usage/share), where an
// account's usage includes its part of what its siblings have used of their parent's. Pure, std only.
#pragma once

#include <vector>

#include "scheduler/model/time.h"

namespace tutti::planner {

class FairShare {
 public:
  explicit FairShare(Duration half_life) : half_life_(half_life) {}

  // parent -1: of the top level. Parents come before their children; weight > 0.
  void set_account(int account, int parent, double weight);
  void add(int account, double gpu_seconds, Instant at);
  // 1 = has used nothing, 1/2 = exactly its share among those that have used something, towards 0 beyond.
  double factor(int account) const;
  // Its part of everything that has been used lately, and what it was entitled to; 0..1.
  struct Standing {
    double used = 0, share = 1;
  };
  Standing standing(int account) const;

 private:
  struct Account {
    int parent = -1;
    double weight = 1;
    double own = 0;     // without its children
    double used = 0;    // with them
    double active = 0;  // weights of its children that have used something
  };
  double weight_at(Instant at) const;  // of usage at that time, on a scale that never needs decay
  Account& account(int id);
  void recount();  // after the tree has changed

  Duration half_life_;
  Instant base_{};
  bool begun_ = false;
  std::vector<Account> accounts_;
  Account top_;
};

}  // namespace tutti::planner
