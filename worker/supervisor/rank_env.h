// Who a rank is, from what its launcher put into the environment. Pure; used by tutti-rank.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tutti::supervisor {

// nullptr = not set, as getenv.
using GetEnv = std::function<const char*(const char*)>;

struct RankIdentity {
  std::int32_t rank = -1;  // -1: no launcher said
  std::int32_t world = 1;
  std::int32_t local_rank = 0;
  std::int32_t local_world = 1;
  bool under_mpi = false;
};

// Open MPI's own words go before RANK, which a user may have set for all.
RankIdentity read_identity(const GetEnv& env);

// What the program needs beside what it inherits: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK
// under MPI (never over a value the user gave), and TUTTI_PROGRESS_FILE with %r replaced.
std::map<std::string, std::string> variables_to_set(const RankIdentity& id, const GetEnv& env);

// The device files this rank is to hold open: its own where there is one per local rank, else all.
std::vector<std::string> devices_of(const RankIdentity& id, const std::string& list);

// A line for `sh -c` whose trap keeps the shell alive until its foreground command has dealt with a stop
// signal. Then the shell ends with that command's status and runs nothing further.
std::string shell_line(const std::string& run);

// What a shell's status says of its command: above 128 it was killed by a signal.
struct ShellExit {
  int code = 0, signal = 0;
};
ShellExit read_shell_status(int code);

}  // namespace tutti::supervisor
