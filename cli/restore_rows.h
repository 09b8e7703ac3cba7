// What restored rows must become before a scheduler may lead on them: above every term, id and epoch that was
// given away after the backup, with nothing running. Used by restore.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <pqxx/pqxx>
#include <string>

namespace tutti::cli {

// How far each number jumps. A cluster that takes a million submissions between two backups wants more
// frequent backups.
inline constexpr std::int64_t kTermGap =
    1 << 20;  // a leader that is killed each second needs twelve days for that
inline constexpr std::int64_t kJobGap = 1'000'000, kEpochGap = 1'000'000;
inline constexpr std::int64_t kMachineGap = 1'000'000;    // nodes, GPUs
inline constexpr std::int64_t kEventGap = 1'000'000'000;  // events, faults

struct RestorePlan {
  std::string taken_at;  // of the backup
  std::int64_t term = 0;
  std::chrono::seconds quiet{};
};

// `minutes` < 0: as long as a worker may go on without this scheduler by default: ten minutes while a former
// leader renews its lease, ten more by its gang, and one for the margin.
std::chrono::seconds quiet_time(double minutes);

struct RestoreResult {
  std::int64_t jobs = 0, requeued = 0, next_job = 0;
};
// One transaction; the table `leader` is empty before it and has its row after it. The schema is that of this
// program.
RestoreResult raise_above_the_past(pqxx::connection& session, const RestorePlan& plan);

}  // namespace tutti::cli
