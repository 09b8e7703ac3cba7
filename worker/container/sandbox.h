// The command that puts a program into the container: bubblewrap's words for an unpacked root. Reads the root
// and the node's device nodes; makes nothing.
//
// How it looks inside. `/` is a fresh tmpfs, in it each entry of the image read-only; folders of the image in
// which a mount point is missing are made anew and their entries put in one by one. /proc of a process
// namespace of its own: when the first process ends, the kernel kills all others, daemons too, and bubblewrap
// ends it with its parent, tutti-rank. So a container lives no longer than a rank without one (design 0002).
#pragma once

#include <string>
#include <vector>

#include "worker/container/container_plan.h"

namespace tutti::container {

struct Host {
  bool own_proc = true;              // /proc can be mounted in a namespace of our own
  std::vector<std::string> devices;  // nodes and folders of nodes: /dev/nvidia0, /dev/infiniband
  std::vector<std::string> driver;   // libraries of the GPU driver
};
/// What of them there is below `dev` ("/dev") and in the folders of libraries.
Host look_at_host(bool gpus, const std::string& dev, const std::vector<std::string>& library_folders);
std::vector<std::string> library_folders();

/// The last word is "--": the program follows. `variables`: of the image. Throws std::runtime_error that says
/// what of the spec cannot be had.
std::vector<std::string> sandbox_words(const ContainerPlan&, const std::string& root,
                                       const std::vector<std::string>& variables, const Host&);

/// Why a folder of the node may not be seen inside, whatever names it (`field`: "workdir"), "" = it may:
/// never
/// `/`, the worker's own folder, or what holds that. Links are resolved; it need not be there yet.
std::string why_not_shown(const ContainerPlan&, const std::string& field, const std::string& path);
/// Why a source of `mounts` may not be mounted, "" = it may: the same, and the node's --container-mounts.
std::string why_not_mounted(const ContainerPlan&, const std::string& source);

}  // namespace tutti::container
