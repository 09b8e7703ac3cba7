// FNV-1a, 64 bits: the checksum of shards and the fingerprint ranks compare. It finds truncation and bit rot;
// it is no defence against someone who writes checkpoints on purpose, and need not be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tutti::charlm {

class Fingerprint {
 public:
  Fingerprint& add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) {
      hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3ULL;
    }
    return *this;
  }
  Fingerprint& add(std::uint64_t value) {
    for (int i = 0; i < 8; ++i) {
      hash_ = (hash_ ^ ((value >> (8 * i)) & 0xffU)) * 0x100000001b3ULL;
    }
    return *this;
  }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

}  // namespace tutti::charlm
