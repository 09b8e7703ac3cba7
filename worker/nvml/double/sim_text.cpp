// The text forms of sim_state.h: key = value lines, one [gpu] section per GPU, so that a person can read and
// edit them; and the lines of the event log.
#include <charconv>
#include <cstdio>
#include <functional>
#include <map>
#include <sstream>

#include "worker/nvml/double/sim_state.h"

namespace tutti::nvml::sim {
namespace {

constexpr std::string_view kHeader = "tutti-gpu-sim state 1";

constexpr std::pair<GpuMode, std::string_view> kModeNames[] = {
    {GpuMode::healthy, "healthy"},
    {GpuMode::throttled, "throttled"},
    {GpuMode::pcie_degraded, "pcie_degraded"},
    {GpuMode::pcie_slow, "pcie_slow"},
    {GpuMode::fabric_not_ready, "fabric_not_ready"},
    {GpuMode::remap_pending, "remap_pending"},
    {GpuMode::ecc, "ecc"},
    {GpuMode::link_down, "link_down"},
    {GpuMode::remap_failed, "remap_failed"},
    {GpuMode::reset_required, "reset_required"},
    {GpuMode::lost, "lost"},
};

constexpr std::pair<CallFault::Kind, std::string_view> kFaultNames[] = {
    {CallFault::Kind::hang, "hang"},
    {CallFault::Kind::slow, "slow"},
    {CallFault::Kind::fail, "fail"},
    {CallFault::Kind::crash, "crash"},
};

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end;
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::optional<long long> parse_milliseconds(std::string_view text) {
  if (text == "forever") return -1;
  const auto unit = text.find_first_not_of("0123456789");
  long long number = 0;
  if (!parse_number(text.substr(0, unit), number)) return std::nullopt;
  const std::string_view suffix = unit == std::string_view::npos ? "" : text.substr(unit);
  if (suffix == "ms") return number;
  if (suffix == "s") return number * 1000;
  if (suffix == "m") return number * 60'000;
  return std::nullopt;
}

using Setter = std::function<bool(std::string_view)>;

template <class Number>
Setter number_into(Number& target) {
  return [&target](std::string_view text) { return parse_number(text, target); };
}
Setter text_into(std::string& target) {
  return [&target](std::string_view text) {
    target = text;
    return true;
  };
}

std::map<std::string_view, Setter> machine_keys(State& state) {
  return {
      {"node", text_into(state.node)},
      {"driver_version", text_into(state.driver_version)},
      {"nvml_version", text_into(state.nvml_version)},
      {"cuda_version", number_into(state.cuda_version)},
      {"fault",
       [&state](std::string_view text) {
         std::string problem;
         auto fault = parse_fault(text, problem);
         if (fault) state.faults.push_back(*fault);
         return fault.has_value();
       }},
  };
}

std::map<std::string_view, Setter> gpu_keys(Gpu& gpu) {
  return {
      {"index", number_into(gpu.index)},
      {"minor", number_into(gpu.minor)},
      {"uuid", text_into(gpu.uuid)},
      {"name", text_into(gpu.name)},
      {"serial", text_into(gpu.serial)},
      {"memory_bytes", number_into(gpu.memory_bytes)},
      {"pci_domain", number_into(gpu.pci_domain)},
      {"pci_bus", number_into(gpu.pci_bus)},
      {"pci_device_id", number_into(gpu.pci_device_id)},
      {"nvlink_island", number_into(gpu.nvlink_island)},
      {"device_path", text_into(gpu.device_path)},
      {"slice_of", text_into(gpu.slice_of)},
      {"last_xid", number_into(gpu.last_xid)},
      {"corrected_errors", number_into(gpu.corrected_errors)},
      {"uncorrected_errors", number_into(gpu.uncorrected_errors)},
      {"mode",
       [&gpu](std::string_view text) {
         auto mode = parse_mode(text);
         if (mode) gpu.mode = *mode;
         return mode.has_value();
       }},
  };
}

}  // namespace

std::string_view name_of(GpuMode mode) {
  for (const auto& [value, name] : kModeNames) {
    if (value == mode) return name;
  }
  return "unknown";
}

std::optional<GpuMode> parse_mode(std::string_view text) {
  for (const auto& [value, name] : kModeNames) {
    if (name == text) return value;
  }
  return std::nullopt;
}

std::string format_fault(const CallFault& fault) {
  std::string text;
  for (const auto& [kind, name] : kFaultNames) {
    if (kind == fault.kind) text = name;
  }
  text += ":" + fault.call;
  switch (fault.kind) {
    case CallFault::Kind::hang:
    case CallFault::Kind::slow:
      return text + (fault.value < 0 ? ":forever" : ":" + std::to_string(fault.value) + "ms");
    case CallFault::Kind::fail: return text + ":" + std::to_string(fault.value);
    case CallFault::Kind::crash: break;
  }
  return text;
}

std::optional<CallFault> parse_fault(std::string_view text, std::string& problem) {
  if (text == "driver_not_loaded") return CallFault{CallFault::Kind::fail, "*", 9};
  if (text == "version_mismatch") return CallFault{CallFault::Kind::fail, "*", 18};
  problem = "'" + std::string(text) +
            "' is none of hang:CALL:10s, hang:CALL:forever, slow:CALL:20ms, fail:CALL:CODE, crash:CALL, "
            "driver_not_loaded, version_mismatch (CALL is an NVML function or *)";
  const auto first = text.find(':');
  if (first == std::string_view::npos) return std::nullopt;
  const auto second = text.find(':', first + 1);
  CallFault fault;
  bool known = false;
  for (const auto& [kind, name] : kFaultNames) {
    if (name != text.substr(0, first)) continue;
    fault.kind = kind;
    known = true;
  }
  fault.call = text.substr(first + 1, second == std::string_view::npos ? second : second - first - 1);
  if (!known || fault.call.empty()) return std::nullopt;
  const std::string_view value = second == std::string_view::npos ? "" : text.substr(second + 1);
  switch (fault.kind) {
    case CallFault::Kind::hang:
    case CallFault::Kind::slow: {
      auto milliseconds = parse_milliseconds(value);
      if (!milliseconds) return std::nullopt;
      fault.value = *milliseconds;
      return fault;
    }
    case CallFault::Kind::fail:
      if (!parse_number(value, fault.value)) return std::nullopt;
      return fault;
    case CallFault::Kind::crash: break;
  }
  if (!value.empty()) return std::nullopt;
  return fault;
}

std::string format_state(const State& state) {
  std::ostringstream out;
  out << kHeader << "\nnode = " << state.node << "\ndriver_version = " << state.driver_version
      << "\nnvml_version = " << state.nvml_version << "\ncuda_version = " << state.cuda_version << "\n";
  for (const CallFault& fault : state.faults) out << "fault = " << format_fault(fault) << "\n";
  for (const Gpu& gpu : state.gpus) {
    out << "\n[gpu]\nindex = " << gpu.index << "\nminor = " << gpu.minor << "\nuuid = " << gpu.uuid
        << "\nname = " << gpu.name << "\nserial = " << gpu.serial << "\nmemory_bytes = " << gpu.memory_bytes
        << "\npci_domain = " << gpu.pci_domain << "\npci_bus = " << gpu.pci_bus
        << "\npci_device_id = " << gpu.pci_device_id << "\nnvlink_island = " << gpu.nvlink_island
        << "\ndevice_path = " << gpu.device_path << "\nslice_of = " << gpu.slice_of
        << "\nmode = " << name_of(gpu.mode) << "\nlast_xid = " << gpu.last_xid
        << "\ncorrected_errors = " << gpu.corrected_errors
        << "\nuncorrected_errors = " << gpu.uncorrected_errors << "\n";
  }
  return out.str();
}

std::optional<State> parse_state(std::string_view text, std::string& problem) {
  State state;
  state.gpus.reserve(kMaxGpus);  // the setters hold references into it
  auto keys = machine_keys(state);
  unsigned line_number = 0;
  auto fail = [&problem, &line_number](std::string_view why) {
    problem = "line " + std::to_string(line_number) + ": " + std::string(why);
    return std::nullopt;
  };
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
    ++line_number;
    if (line_number == 1) {
      if (line != kHeader) return fail("not a tutti-gpu-sim state file");
      continue;
    }
    if (line.empty() || line.front() == '#') continue;
    if (line == "[gpu]") {
      if (state.gpus.size() == kMaxGpus) return fail("too many GPUs");
      keys = gpu_keys(state.gpus.emplace_back());
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) return fail("expected 'key = value'");
    const auto setter = keys.find(trim(line.substr(0, equals)));
    if (setter == keys.end()) return fail("unknown key '" + std::string(trim(line.substr(0, equals))) + "'");
    if (!setter->second(trim(line.substr(equals + 1))))
      return fail("bad value for " + std::string(setter->first));
  }
  if (line_number == 0) {
    problem = "the state file is empty";
    return std::nullopt;
  }
  return state;
}

std::string format_event(const Event& event) {
  return std::to_string(event.boot_us) + " " + event.uuid + " " + std::to_string(event.type) + " " +
         std::to_string(event.data) + "\n";
}

std::optional<Event> parse_event(std::string_view line) {
  std::istringstream in{std::string(line)};
  Event event;
  if (!(in >> event.boot_us >> event.uuid >> event.type >> event.data)) return std::nullopt;
  return event;
}

std::optional<unsigned long long> parse_bytes(std::string_view text) {
  static constexpr std::pair<std::string_view, unsigned long long> kUnits[] = {
      {"", 1},           {"MB", 1'000'000}, {"GB", 1'000'000'000},
      {"MiB", 1U << 20}, {"GiB", 1U << 30}, {"TB", 1'000'000'000'000},
  };
  const auto unit = text.find_first_not_of("0123456789");
  unsigned long long number = 0;
  if (!parse_number(text.substr(0, unit), number)) return std::nullopt;
  const std::string_view suffix = unit == std::string_view::npos ? "" : text.substr(unit);
  for (const auto& [name, factor] : kUnits) {
    if (name == suffix && number <= 1'000'000'000'000'000ULL / factor) return number * factor;
  }
  return std::nullopt;
}

}  // namespace tutti::nvml::sim
