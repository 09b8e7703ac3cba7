// Reads what the kernel says of network links, under a root that tests can choose. Blocking (sysfs, local);
// called from the worker's thread for node checks only.
#pragma once

#include <string>
#include <vector>

#include "worker/node/links.h"

namespace tutti::node {

/// The interfaces named, and every InfiniBand port. `root` is "/sys" or its stand-in.
std::vector<LinkSample> read_links(const std::string& root, const std::vector<std::string>& interfaces);

}  // namespace tutti::node
