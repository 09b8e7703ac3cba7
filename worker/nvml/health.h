// Looks at one GPU through NVML: what is wrong with it now, and its load. Called by the probe on its poll
// thread; each function is a few NVML calls and keeps nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "worker/nvml/library.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::nvml {

using Conditions = std::map<FaultKind, std::string>;  // with the detail a person reads

// Cheap, every poll: does it answer, and what does the driver recommend?
Conditions look_briefly(const Library& library, Device device);
// Every sample interval and after each event: ECC, row remapping, clocks. What cannot be read stays as it was
// `before`: a GPU that stops answering is not cured of its ECC errors.
Conditions look_closely(const Library& library, Device device, const Conditions& before);

// Every deep interval, because it costs many calls: NVLinks, PCIe, fabric. `links_up`, one bit per NVLink, is
// what was ever seen up: a link that never was is not there, or not connected.
Conditions look_deeply(const Library& library, Device device, const Conditions& before,
                       std::uint64_t& links_up);

GpuSample take_sample(const Library& library, Device device, const std::string& uuid);
// Nothing but `error` when NVML cannot tell: an unanswered question is no proof.
Processes read_processes(const Library& library, Device device, const ProcessesCommand& command);

}  // namespace tutti::nvml
