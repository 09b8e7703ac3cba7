// What jobs write and the worker reads: logs and progress. Stateless and blocking: both lie on the local
// disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/model/protocol.h"
#include "scheduler/model/secret_mask.h"

namespace tutti::worker {

/// The number of a log: a rank's own is its rank.
inline constexpr std::int32_t kLauncherLog = -1;
inline constexpr std::int32_t kSetupLog = -2;
std::string log_name(std::int32_t rank);  // under the attempt's directory

inline constexpr std::int32_t kMaxLogRead = 256 << 10;

/// Answers ReadLog but for its waiting. The job's user could write the folder: only regular files that are
/// his, reached without symbolic links, are read. `over`: the attempt has ended, so a file that ends is
/// complete.
/// Secrets are taken out, also those that cross the borders of chunks: what may be the beginning of one comes
/// with a later chunk.
protocol::LogChunk read_log(const std::string& dir, uid_t owner, const SecretMask& mask,
                            const protocol::ReadLog&, bool over);

/// What this rank wrote into its progress file; none if there is nothing readable. `age`: since it did.
std::optional<protocol::Progress> read_progress(const std::string& dir, uid_t owner, AttemptKey,
                                                std::int32_t rank, Duration* age = nullptr);

/// What tutti-collective-check wrote; none if there is nothing readable yet.
std::optional<protocol::CollectiveResult> read_collective(const std::string& dir, uid_t owner, AttemptKey);

}  // namespace tutti::worker
