#include "scheduler/core/key_book.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "scheduler/model/assert.h"

namespace tutti {

KeyBook::Record KeyBook::at(Place place) const {
  const char* bytes = blocks_[place / kBlock - first_block_].bytes.get() + place % kBlock;
  Record r;
  std::memcpy(&r.head, bytes, sizeof r.head);
  r.owner = {bytes + sizeof r.head, r.head.owner};
  r.key = {r.owner.data() + r.owner.size(), r.head.key};
  return r;
}

std::uint64_t KeyBook::hash_of(std::string_view owner, std::string_view key) {
  constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;  // spreads what differs in few bits (Knuth 3, 6.4)
  const std::hash<std::string_view> hash;
  const std::uint64_t h = (hash(key) ^ (hash(owner) * kGolden)) * kGolden;
  return h ^ (h >> 32);
}

std::size_t KeyBook::slot_of(std::uint64_t hash, std::string_view owner, std::string_view key) const {
  for (std::size_t slot = home_of(hash);; slot = (slot + 1) & (table_.size() - 1)) {
    if (table_[slot] == kNobody) return slot;
    if (tag_of(table_[slot]) != tag_of(hash)) continue;
    const Record r = at(place_of(table_[slot]));
    if (r.key == key && r.owner == owner) return slot;
  }
}

std::optional<KeyBook::Known> KeyBook::find(std::string_view owner, std::string_view key) const {
  if (size_ == 0) return std::nullopt;
  const Slot found = table_[slot_of(hash_of(owner, key), owner, key)];
  if (found == kNobody) return std::nullopt;
  const Head head = at(place_of(found)).head;
  return Known{head.body_hash, JobId(head.job)};
}

void KeyBook::reserve(std::size_t keys) {
  std::size_t slots = std::max<std::size_t>(64, table_.size());
  while (slots * 3 <= keys * 4) slots *= 2;
  if (slots > table_.size()) resize(slots);
}

void KeyBook::add(std::string_view owner, std::string_view key, Known known) {
  if (owner.size() + key.size() > kLongest) return;
  reserve(size_ + 1);
  const std::uint64_t hash = hash_of(owner, key);
  const std::size_t slot = slot_of(hash, owner, key);
  if (table_[slot] != kNobody) return;
  const std::size_t bytes = sizeof(Head) + owner.size() + key.size();
  if (blocks_.empty() || blocks_.back().used + bytes > kBlock) blocks_.emplace_back();
  Block& block = blocks_.back();
  char* to = block.bytes.get() + block.used;
  const Head head{known.body_hash, known.job.value, static_cast<std::uint16_t>(owner.size()),
                  static_cast<std::uint16_t>(key.size())};
  std::memcpy(to, &head, sizeof head);
  std::memcpy(to + sizeof head, owner.data(), owner.size());
  std::memcpy(to + sizeof head + owner.size(), key.data(), key.size());
  table_[slot] = tag_of(hash) | ((first_block_ + blocks_.size() - 1) * kBlock + block.used);
  block.used += bytes;
  ++size_;
}

KeyBook::OwnedKey KeyBook::forget_oldest() {
  TUTTI_ASSERT(size_ > 0, "no key is remembered");
  const Record r = at(first_block_ * kBlock + oldest_);
  OwnedKey gone{std::string(r.owner), std::string(r.key)};
  vacate(slot_of(hash_of(r.owner, r.key), r.owner, r.key));
  oldest_ += sizeof(Head) + r.owner.size() + r.key.size();
  --size_;
  if (oldest_ == blocks_.front().used) {
    blocks_.pop_front();
    ++first_block_;
    oldest_ = 0;
  }
  return gone;
}

// The hole is closed by those behind it that would not be found across it (algorithm R).
void KeyBook::vacate(std::size_t hole) {
  const std::size_t mask = table_.size() - 1;
  for (std::size_t slot = (hole + 1) & mask; table_[slot] != kNobody; slot = (slot + 1) & mask) {
    const Record r = at(place_of(table_[slot]));
    if (((slot - home_of(hash_of(r.owner, r.key))) & mask) < ((slot - hole) & mask)) continue;
    table_[hole] = table_[slot];
    hole = slot;
  }
  table_[hole] = kNobody;
}

void KeyBook::resize(std::size_t slots) {
  const std::vector<Slot> old = std::exchange(table_, std::vector<Slot>(slots, kNobody));
  for (const Slot slot : old) {
    if (slot == kNobody) continue;
    const Record r = at(place_of(slot));
    table_[slot_of(hash_of(r.owner, r.key), r.owner, r.key)] = slot;
  }
}

}  // namespace tutti
