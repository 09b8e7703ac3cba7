// What the container of an attempt's ranks is to be on one node. Made by worker/core (launch_plan.cpp) from
// the spec, written by the worker to `<attempt dir>/container.json`, carried out by tutti-image as the job's
// user: first fetched and laid out (before `setup`), then entered by every rank. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/job_spec.h"

namespace tutti::container {

/// Names in an attempt's directory.
inline constexpr auto kPlanFile = "container.json";    // the worker's; the job's user only reads it
inline constexpr auto kFolder = "container";           // the user's: what tutti-image makes
inline constexpr auto kWordsFile = "container/words";  // so a job could change it: docs/containers.md
inline constexpr auto kShm = "shm";  // the tmpfs that is /dev/shm inside, mounted by the supervisor

/// How a node gets images. All are run by bubblewrap: docs/containers.md says why.
inline constexpr std::string_view kTools[] = {"podman", "enroot", "apptainer", "bubblewrap"};

struct ContainerPlan {
  std::string image;
  std::string tool;        // of kTools
  std::string bubblewrap;  // path of bwrap
  std::string cache;       // folder of unpacked images, the user's
  std::int64_t cache_bytes = 0;
  std::string dir;       // the attempt's
  std::string programs;  // folder of tutti-rank and the others, seen inside
  std::string workdir;   // of the spec; "" = none
  std::string checkpoint_dir;
  std::string user, home;
  std::uint32_t uid = 0, gid = 0;
  std::vector<Mount> mounts;                // of the spec
  std::vector<std::string> mount_folders;   // sources must lie below one of them; none: anywhere…
  std::string closed;                       // …but not here: the worker's own folder
  std::vector<std::string> also;            // seen at the same path: simulated devices and their library
  bool gpus = false;                        // device nodes and the driver's libraries
  bool shm = false;                         // <dir>/shm is there
  std::vector<std::string> user_variables;  // names that an image's own must not overwrite
};

std::string encode(const ContainerPlan&);
/// Throws std::invalid_argument.
ContainerPlan decode_plan(std::string_view json);

}  // namespace tutti::container
