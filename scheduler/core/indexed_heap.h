// A 4-ary heap whose entries can be found again: push, pop, update and erase by id in O(log n).
// Used for ready jobs (by rank) and delayed jobs (by time). The order is total as long as Key's is.
// Not thread-safe; owned by whoever owns the control plane.
// Invariants: (1) parent key <= child key; (2) where_[entries_[i].id] == i for every i.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/model/assert.h"

namespace tutti {

template <class Key, class IdType>
class IndexedHeap {
 public:
  struct Entry {
    Key key;
    IdType id;
  };

  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  bool contains(IdType id) const { return where_.contains(id); }
  const Entry& top() const {
    TUTTI_ASSERT(!empty(), "top of an empty heap");
    return entries_.front();
  }
  // All entries, in heap order (not sorted).
  const std::vector<Entry>& entries() const { return entries_; }

  void push(IdType id, Key key) {
    TUTTI_ASSERT(!contains(id), "pushed twice");
    where_.emplace(id, entries_.size());
    entries_.push_back({std::move(key), id});
    sift_up(entries_.size() - 1);
  }

  Entry pop() {
    Entry e = top();
    erase(e.id);
    return e;
  }

  // False if it is not there.
  bool erase(IdType id) {
    auto it = where_.find(id);
    if (it == where_.end()) return false;
    const std::size_t hole = it->second;
    where_.erase(it);
    const std::size_t last = entries_.size() - 1;
    if (hole != last) {
      entries_[hole] = std::move(entries_[last]);
      where_[entries_[hole].id] = hole;
    }
    entries_.pop_back();
    if (hole != last) restore(hole);
    return true;
  }

  bool update(IdType id, Key key) {
    auto it = where_.find(id);
    if (it == where_.end()) return false;
    entries_[it->second].key = std::move(key);
    restore(it->second);
    return true;
  }

  bool invariants_hold() const {
    for (std::size_t i = 1; i < entries_.size(); ++i)
      if (entries_[i].key < entries_[parent(i)].key) return false;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      auto it = where_.find(entries_[i].id);
      if (it == where_.end() || it->second != i) return false;
    }
    return where_.size() == entries_.size();
  }

 private:
  static constexpr std::size_t kArity = 4;
  static std::size_t parent(std::size_t i) { return (i - 1) / kArity; }

  void restore(std::size_t i) {
    if (i > 0 && entries_[i].key < entries_[parent(i)].key)
      sift_up(i);
    else
      sift_down(i);
  }
  void swap_at(std::size_t a, std::size_t b) {
    std::swap(entries_[a], entries_[b]);
    where_[entries_[a].id] = a;
    where_[entries_[b].id] = b;
  }
  void sift_up(std::size_t i) {
    while (i > 0 && entries_[i].key < entries_[parent(i)].key) {
      swap_at(i, parent(i));
      i = parent(i);
    }
  }
  void sift_down(std::size_t i) {
    for (;;) {
      std::size_t best = i;
      for (std::size_t c = i * kArity + 1; c <= i * kArity + kArity && c < entries_.size(); ++c)
        if (entries_[c].key < entries_[best].key) best = c;
      if (best == i) return;
      swap_at(i, best);
      i = best;
    }
  }

  std::vector<Entry> entries_;
  std::unordered_map<IdType, std::size_t> where_;
};

}  // namespace tutti
