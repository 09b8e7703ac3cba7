#include "worker/supervisor/rank_env.h"

#include <cstdlib>
#include <initializer_list>

namespace tutti::supervisor {
namespace {

std::optional<std::int32_t> number(const char* text) {
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (*end != '\0' || n < 0 || n > 1'000'000) return std::nullopt;
  return static_cast<std::int32_t>(n);
}

std::int32_t first_number(const GetEnv& env, std::initializer_list<const char*> names,
                          std::int32_t otherwise) {
  for (const char* name : names)
    if (const auto n = number(env(name))) return *n;
  return otherwise;
}

}  // namespace

RankIdentity read_identity(const GetEnv& env) {
  RankIdentity id;
  id.under_mpi =
      env("OMPI_COMM_WORLD_RANK") != nullptr || env("PMIX_RANK") != nullptr || env("PMI_RANK") != nullptr;
  id.rank = first_number(env, {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "RANK", "SLURM_PROCID"}, -1);
  id.world = first_number(env, {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE", "SLURM_NTASKS"}, 1);
  id.local_rank =
      first_number(env, {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "LOCAL_RANK", "SLURM_LOCALID"}, 0);
  id.local_world =
      first_number(env, {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "LOCAL_WORLD_SIZE"}, 1);
  return id;
}

std::map<std::string, std::string> variables_to_set(const RankIdentity& id, const GetEnv& env) {
  std::map<std::string, std::string> set;
  const auto unless_given = [&](const char* name, std::int32_t value) {
    if (env(name) == nullptr) set[name] = std::to_string(value);
  };
  if (id.under_mpi) {
    unless_given("RANK", id.rank);
    unless_given("WORLD_SIZE", id.world);
    unless_given("LOCAL_RANK", id.local_rank);
    unless_given("LOCAL_WORLD_SIZE", id.local_world);
    // OMPI_COMM_WORLD_NODE_RANK is another thing (the rank within its node). With the same number of ranks on
    // each node, in order, this is the node's; otherwise the worker has set NODE_RANK already.
    if (id.local_world > 0 && id.world % id.local_world == 0)
      unless_given("NODE_RANK", id.rank / id.local_world);
  }
  if (const char* progress = env("TUTTI_PROGRESS_FILE")) {
    std::string path = progress;
    for (std::size_t at; (at = path.find("%r")) != std::string::npos;)
      path.replace(at, 2, std::to_string(id.rank));
    if (path != progress) set["TUTTI_PROGRESS_FILE"] = path;
  }
  return set;
}

std::vector<std::string> devices_of(const RankIdentity& id, const std::string& list) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    if (end > at) all.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  if (static_cast<std::int32_t>(all.size()) == id.local_world && id.local_rank < id.local_world)
    return {all[static_cast<std::size_t>(id.local_rank)]};
  return all;
}

std::string shell_line(const std::string& run) {
  // `exit` in a trap takes the status of the command that ran before it. A trap also keeps the shell from
  // replacing itself by its last command, so the signal's two addressees, the shell and its command, always
  // both exist.
  return "trap exit TERM INT HUP USR1 USR2\n" + run;
}

ShellExit read_shell_status(int code) {
  if (code > 128 && code <= 128 + 64) return {0, code - 128};
  return {code, 0};
}

}  // namespace tutti::supervisor
