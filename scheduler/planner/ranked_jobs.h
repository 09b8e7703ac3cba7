// The jobs of a bucket, ordered by when they came, and how many come before one. Sorted blocks of a few
// hundred behind each other: 16 bytes a job where a search tree takes 64, and who comes last, as nearly all
// do, is appended.
//
// Costs, for n jobs: insert, erase O(log n + kBlock + n / kBlock) moves of memory; find_by_order,
// order_of_key O(n / kBlock) additions. Pure, std only, one thread. Iterators end with the next change.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti::planner {

class RankedJobs {
 public:
  using Place = std::pair<Instant, JobId>;
  static constexpr std::size_t kBlock = 512;

  class const_iterator {
   public:
    const Place& operator*() const { return (*blocks_)[block_][at_]; }
    const Place* operator->() const { return &**this; }
    const_iterator& operator++() {
      if (++at_ == (*blocks_)[block_].size()) ++block_, at_ = 0;
      return *this;
    }
    bool operator==(const const_iterator& other) const { return block_ == other.block_ && at_ == other.at_; }

   private:
    friend RankedJobs;
    using Blocks = std::vector<std::vector<Place>>;
    const_iterator(const Blocks& blocks, std::size_t block, std::size_t at)
        : blocks_(&blocks), block_(block), at_(at) {}
    const Blocks* blocks_;
    std::size_t block_, at_;
  };

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  const_iterator begin() const { return {blocks_, 0, 0}; }
  const_iterator end() const { return {blocks_, blocks_.size(), 0}; }

  void insert(const Place& place) {
    ++size_;
    if (blocks_.empty() || (blocks_.back().size() >= kBlock && blocks_.back().back() < place)) {
      blocks_.emplace_back().push_back(place);
      return;
    }
    const std::size_t b = std::min(block_for(place), blocks_.size() - 1);
    auto& block = blocks_[b];
    block.insert(std::ranges::lower_bound(block, place), place);
    if (block.size() <= kBlock) return;
    std::vector<Place> upper(block.begin() + kBlock / 2, block.end());
    block.resize(kBlock / 2);
    blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(b) + 1, std::move(upper));
  }

  void erase(const Place& place) {
    const std::size_t b = block_for(place);
    if (b == blocks_.size()) return;
    auto& block = blocks_[b];
    const auto at = std::ranges::lower_bound(block, place);
    if (at == block.end() || *at != place) return;
    block.erase(at);
    --size_;
    if (block.empty()) blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(b));
  }

  // Counted from 0; end() if there are not so many.
  const_iterator find_by_order(std::size_t order) const {
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      if (order < blocks_[b].size()) return {blocks_, b, order};
      order -= blocks_[b].size();
    }
    return end();
  }

  // How many come before it; it need not be there.
  std::size_t order_of_key(const Place& place) const {
    const std::size_t b = block_for(place);
    std::size_t before = 0;
    for (std::size_t i = 0; i < b; ++i) before += blocks_[i].size();
    if (b == blocks_.size()) return before;
    return before +
           static_cast<std::size_t>(std::ranges::lower_bound(blocks_[b], place) - blocks_[b].begin());
  }

 private:
  // The first block that does not end before it; blocks_.size(): all do.
  std::size_t block_for(const Place& place) const {
    const auto found =
        std::ranges::partition_point(blocks_, [&](const auto& block) { return block.back() < place; });
    return static_cast<std::size_t>(found - blocks_.begin());
  }

  std::vector<std::vector<Place>> blocks_;  // none is empty
  std::size_t size_ = 0;
};

}  // namespace tutti::planner
