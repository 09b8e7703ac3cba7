#include "scheduler/model/job_spec.h"

namespace tutti {

std::string_view name(Launcher l) {
  switch (l) {
    case Launcher::direct: return "direct";
    case Launcher::mpirun: return "mpirun";
    case Launcher::torchrun: return "torchrun";
    case Launcher::script: return "script";
  }
  return "?";
}

std::optional<Launcher> parse_launcher(std::string_view s) {
  for (auto l : {Launcher::direct, Launcher::mpirun, Launcher::torchrun, Launcher::script})
    if (s == name(l)) return l;
  return std::nullopt;
}

}  // namespace tutti
