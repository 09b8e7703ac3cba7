// `preflight: full`: an all-reduce over all ranks of a gang before its program starts. Checks the sums and
// measures how fast they come; rank 0 writes one JSON object (backend, bytes, ranks, gigabytes_per_second:
// bus bandwidth as NCCL's tests define it, bytes x 2 (n - 1) / n over the median time of a round).
#pragma once

#include <functional>
#include <memory>

#include "training/charlm/collective.h"

namespace tutti::collective_check {

/// `argv[1]`: the file. Exit status 0, or what charlm::Exit says.
int run_check(int argc, char** argv,
              const std::function<std::unique_ptr<charlm::Collective>(int*, char***)>& join);

}  // namespace tutti::collective_check
