// What tutti-checkpoint does on disk: begin, shard, commit. Nothing is a checkpoint before its COMPLETE.json
// has its name, and that is the last thing that happens. Blocking; throws CheckpointError.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tutti::supervisor {

// Statuses as in sysexits.h.
inline constexpr int kUsageError = 64;       // arguments or environment
inline constexpr int kIncomplete = 65;       // shards are missing, or changed after they were announced
inline constexpr int kFileTrouble = 74;      // disk full, read-only, …
inline constexpr int kEpochNotCurrent = 77;  // this attempt may not write any more

struct CheckpointError : std::runtime_error {
  CheckpointError(int code, const std::string& what) : std::runtime_error(what), status(code) {}
  int status;
};

class CheckpointWriter {
 public:
  /// `require_current` throws unless the epoch is the attempt's and may still write.
  CheckpointWriter(std::string dir, std::int64_t epoch, std::function<void()> require_current)
      : dir_(std::move(dir)), epoch_(epoch), require_current_(std::move(require_current)) {}

  /// Makes the folder of that step; what an earlier attempt has left there is no checkpoint any more.
  std::string begin(std::int64_t step);
  /// Files below it, or folders of them: made durable, their sizes and checksums noted. By any rank.
  void shard(std::int64_t step, const std::vector<std::string>& files);
  /// All noted shards become the manifest. `shards`: so many there must be. The path of the checkpoint.
  std::string commit(std::int64_t step, std::optional<std::int64_t> shards);

 private:
  std::string folder(std::int64_t step) const;
  std::string notes(std::int64_t step) const;

  std::string dir_;
  std::int64_t epoch_;
  std::function<void()> require_current_;
};

}  // namespace tutti::supervisor
