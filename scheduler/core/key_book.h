// Idempotency keys that are remembered, in the order in which they came, a million of them: some 25 bytes
// each beside owner and key. Records lie one behind the other in blocks; a table of places with linear
// probing finds them (Knuth, The Art of Computer Programming 3, 6.4, algorithms L and R).
//
// Owned by the control plane, one thread. Std only. Invariants: (1) each owner's key is there once; (2) the
// oldest goes first, and nothing else goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/ids.h"

namespace tutti {

class KeyBook {
 public:
  struct Known {
    std::uint64_t body_hash;
    JobId job;
  };
  struct OwnedKey {
    std::string owner;
    std::string key;
  };
  static constexpr std::size_t kLongest = 32 << 10;  // bytes of owner and key together

  std::size_t size() const { return size_; }
  void reserve(std::size_t keys);
  std::optional<Known> find(std::string_view owner, std::string_view key) const;
  /// Remembers it as the newest, unless it is there or too long.
  void add(std::string_view owner, std::string_view key, Known known);
  /// Takes the oldest away; there is one.
  OwnedKey forget_oldest();

 private:
  using Place = std::uint64_t;  // number of the block * kBlock + where in it
  // In the table: a place, with some bits of the hash above it, so that few records are looked at in vain.
  using Slot = std::uint64_t;
  static constexpr int kPlaceBits = 48;
  static constexpr Slot kNobody = ~Slot{0};
  static constexpr std::size_t kBlock = 64 << 10;
  struct Block {
    std::unique_ptr<char[]> bytes = std::make_unique_for_overwrite<char[]>(kBlock);
    std::size_t used = 0;
  };
  struct Head {
    std::uint64_t body_hash;
    std::int64_t job;
    std::uint16_t owner;  // bytes, and of the key behind it
    std::uint16_t key;
  };
  struct Record {
    Head head;
    std::string_view owner, key;
  };

  Record at(Place place) const;
  static std::uint64_t hash_of(std::string_view owner, std::string_view key);
  static Slot tag_of(std::uint64_t hash) { return hash >> kPlaceBits << kPlaceBits; }
  static Place place_of(Slot slot) { return slot & ((Slot{1} << kPlaceBits) - 1); }
  std::size_t home_of(std::uint64_t hash) const { return hash & (table_.size() - 1); }
  std::size_t slot_of(std::uint64_t hash, std::string_view owner,
                      std::string_view key) const;  // or a free one
  void vacate(std::size_t slot);
  void resize(std::size_t slots);

  std::deque<Block> blocks_;
  std::uint64_t first_block_ = 0;  // number of the first in blocks_
  std::size_t oldest_ = 0;         // where in that
  std::size_t size_ = 0;
  std::vector<Slot> table_;  // a power of two
};

}  // namespace tutti
