#include "scheduler/planner/fair_share.h"

#include <cmath>

namespace tutti::planner {

// Instead of halving the past, the present weighs twice as much each half-life; shares are the same.
double FairShare::weight_at(Instant at) const {
  return std::exp2(to_seconds(at - base_) / to_seconds(half_life_));
}

FairShare::Account& FairShare::account(int id) {
  const auto i = static_cast<std::size_t>(id);
  if (i >= accounts_.size()) accounts_.resize(i + 1);
  return accounts_[i];
}

void FairShare::set_account(int id, int parent, double weight) {
  if (parent >= 0) account(parent);
  Account& a = account(id);
  if (a.parent == parent && a.weight == weight) return;
  a.parent = parent;
  a.weight = weight;
  if (a.used > 0) recount();
}

void FairShare::recount() {
  for (auto& a : accounts_) a.used = a.active = 0;
  top_.active = 0;
  for (std::size_t i = 0; i < accounts_.size(); ++i)
    for (int at = static_cast<int>(i); at >= 0; at = account(at).parent) account(at).used += accounts_[i].own;
  for (const auto& a : accounts_)
    if (a.used > 0) (a.parent < 0 ? top_ : accounts_[static_cast<std::size_t>(a.parent)]).active += a.weight;
}

void FairShare::add(int id, double gpu_seconds, Instant at) {
  if (gpu_seconds <= 0) return;
  if (!begun_) base_ = at, begun_ = true;
  double w = weight_at(at);
  if (w > 1e100) {  // start a new scale long before a double is at its end
    for (auto& a : accounts_) a.used /= w, a.own /= w;
    top_.used /= w;
    base_ = at;
    w = 1;
  }
  account(id).own += gpu_seconds * w;
  for (int i = id; i >= 0;) {
    Account& a = account(i);
    Account& above = a.parent < 0 ? top_ : account(a.parent);
    if (a.used <= 0) above.active += a.weight;
    a.used += gpu_seconds * w;
    i = a.parent;
  }
  top_.used += gpu_seconds * w;
}

FairShare::Standing FairShare::standing(int id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= accounts_.size() || top_.used <= 0) return {};
  const Account& a = accounts_[static_cast<std::size_t>(id)];
  const Account& above = a.parent < 0 ? top_ : accounts_[static_cast<std::size_t>(a.parent)];
  const double among = above.active + (a.used > 0 ? 0 : a.weight);
  const double part = a.weight / among, used = a.used / top_.used;
  if (a.parent < 0) return {used, part};
  const Standing parent = standing(a.parent);
  return {used + (parent.used - used) * part, parent.share * part};
}

double FairShare::factor(int id) const {
  const Standing s = standing(id);
  return std::exp2(-s.used / s.share);
}

}  // namespace tutti::planner
