// COMPLETE.json: what a checkpoint says of itself. Written by jobs or by tutti-checkpoint, read by the
// worker. Plain form `{"step":5,"epoch":1,"time":…,"shards":8,"bytes":…}`. With a list of its files it can be
// checked:
// `"shards":[{"file":"rank-0.bin","bytes":4096,"crc32c":"89abcdef"},…]`; `save_seconds` is what it cost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::supervisor {

inline constexpr std::string_view kAskEpoch = R"({"ask":"epoch"})";  // rank_server.h
inline constexpr const char* kComplete = "COMPLETE.json";
inline constexpr std::size_t kMaxManifest = 16 << 20;
inline constexpr std::size_t kMaxShards = 65'536;

struct Shard {
  std::string file;  // below the folder of the checkpoint
  std::int64_t bytes = 0;
  std::optional<std::uint32_t> crc32c;
  bool operator==(const Shard&) const = default;
};

struct Manifest {
  std::int64_t step = -1;
  std::int64_t epoch = -1;
  std::int64_t bytes = 0;  // of all shards; 0: not said
  std::int32_t shards = 0;
  std::int64_t save_us = 0;  // 0: not said
  std::vector<Shard> list;   // empty: the plain form
};

struct ParsedManifest {
  std::optional<Manifest> manifest;
  std::string why;  // there is none
};
ParsedManifest parse_manifest(std::string_view text);
std::string write_manifest(const Manifest& manifest, std::string_view time);

/// "" or why it may not be the name of a shard: it must stay below the folder of its checkpoint.
std::string why_no_shard_name(std::string_view file);

/// CRC-32C (Castagnoli), of pieces one after the other.
class Crc32c {
 public:
  void add(const void* data, std::size_t size);
  std::uint32_t value() const;

 private:
  std::uint32_t state_ = 0xFFFFFFFF;
};
std::string crc_text(std::uint32_t crc);  // 8 hex digits
std::optional<std::uint32_t> parse_crc(std::string_view text);

}  // namespace tutti::supervisor
