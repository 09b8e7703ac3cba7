// See probe_messages.h.
#include "worker/nvml/probe_messages.h"

#include <boost/json.hpp>
#include <stdexcept>

namespace tutti::nvml {
namespace {

namespace json = boost::json;

constexpr std::pair<FaultKind, std::string_view> kFaultKinds[] = {
    {FaultKind::xid, "xid"},
    {FaultKind::ecc, "ecc"},
    {FaultKind::gpu_lost, "gpu_lost"},
    {FaultKind::reset_required, "reset_required"},
    {FaultKind::reboot_required, "reboot_required"},
    {FaultKind::drain_required, "drain_required"},
    {FaultKind::remap_pending, "remap_pending"},
    {FaultKind::remap_failed, "remap_failed"},
    {FaultKind::throttled, "throttled"},
    {FaultKind::nvlink_down, "nvlink_down"},
    {FaultKind::pcie_degraded, "pcie_degraded"},
    {FaultKind::fabric_not_ready, "fabric_not_ready"},
    {FaultKind::unreadable, "unreadable"},
};

template <class T>
void put(json::object& out, std::string_view key, const std::optional<T>& value) {
  if (!value) return;
  if constexpr (std::is_same_v<T, std::vector<unsigned>>) {
    out[key] = json::array(value->begin(), value->end());
  } else {
    out[key] = *value;
  }
}

json::object to_json(const GpuInfo& gpu) {
  json::object out{{"index", gpu.index},
                   {"uuid", gpu.uuid},
                   {"name", gpu.name},
                   {"memory_bytes", gpu.memory_bytes},
                   {"pci", gpu.pci},
                   {"serial", gpu.serial},
                   {"device_path", gpu.device_path}};
  put(out, "minor", gpu.minor);
  put(out, "nvlink_island", gpu.nvlink_island);
  return out;
}

json::object to_json(const Inventory& message) {
  json::array gpus;
  for (const GpuInfo& gpu : message.gpus) gpus.push_back(to_json(gpu));
  return {{"type", "inventory"},
          {"driver", message.driver},
          {"nvml", message.nvml},
          {"simulated", message.simulated},
          {"gpus", std::move(gpus)},
          {"unidentified", message.unidentified},
          {"capabilities", json::array(message.capabilities.begin(), message.capabilities.end())}};
}

json::object to_json(const Unavailable& message) {
  json::object out{{"type", "unavailable"}, {"reason", message.reason}};
  put(out, "code", message.code);
  return out;
}

json::object to_json(const Fault& message) {
  json::object out{{"type", "fault"},
                   {"uuid", message.uuid},
                   {"pci", message.pci},
                   {"kind", name_of(message.kind)},
                   {"boot_us", message.boot_us},
                   {"detail", message.detail}};
  put(out, "xid", message.xid);
  return out;
}

json::object to_json(const Recovered& message) {
  return {{"type", "recovered"},
          {"uuid", message.uuid},
          {"pci", message.pci},
          {"kind", name_of(message.kind)},
          {"boot_us", message.boot_us}};
}

json::object to_json(const GpuSample& gpu) {
  json::object out{{"uuid", gpu.uuid}};
  put(out, "utilization", gpu.utilization);
  put(out, "memory_used_bytes", gpu.memory_used_bytes);
  put(out, "power_mw", gpu.power_mw);
  put(out, "temperature_c", gpu.temperature_c);
  put(out, "processes", gpu.processes);
  put(out, "links_up", gpu.links_up);
  return out;
}

json::object to_json(const Sample& message) {
  json::array gpus;
  for (const GpuSample& gpu : message.gpus) gpus.push_back(to_json(gpu));
  return {{"type", "sample"}, {"at_boot_us", message.at_boot_us}, {"gpus", std::move(gpus)}};
}

json::object to_json(const Alive& message) { return {{"type", "alive"}, {"boot_us", message.boot_us}}; }

json::object to_json(const Processes& message) {
  json::object out{{"type", "processes"}, {"id", message.id}, {"uuid", message.uuid}};
  put(out, "pids", message.pids);
  put(out, "memory_used_bytes", message.memory_used_bytes);
  if (!message.error.empty()) out["error"] = message.error;
  return out;
}

// Reads the fields of one object; throws with the name of the field that does not fit.
class Fields {
 public:
  explicit Fields(const json::value& value) : object_(value.as_object()) {}

  template <class T>
  T get(std::string_view key) const {
    const json::value* value = object_.if_contains(key);
    if (value == nullptr) throw std::invalid_argument("'" + std::string(key) + "' is missing");
    return convert<T>(key, *value);
  }
  template <class T>
  std::optional<T> find(std::string_view key) const {
    const json::value* value = object_.if_contains(key);
    if (value == nullptr || value->is_null()) return std::nullopt;
    return convert<T>(key, *value);
  }

 private:
  template <class T>
  static T convert(std::string_view key, const json::value& value) {
    auto result = json::try_value_to<T>(value);
    if (!result) throw std::invalid_argument("'" + std::string(key) + "' has the wrong type or range");
    return std::move(*result);
  }
  const json::object& object_;
};

FaultKind read_kind(const Fields& fields) {
  const auto word = fields.get<std::string>("kind");
  const auto kind = parse_fault_kind(word);
  if (!kind) throw std::invalid_argument("unknown fault kind '" + word + "'");
  return *kind;
}

GpuInfo read_gpu_info(const Fields& fields) {
  GpuInfo gpu;
  gpu.index = fields.get<unsigned>("index");
  gpu.uuid = fields.get<std::string>("uuid");
  gpu.name = fields.get<std::string>("name");
  gpu.memory_bytes = fields.get<std::uint64_t>("memory_bytes");
  gpu.pci = fields.get<std::string>("pci");
  gpu.minor = fields.find<unsigned>("minor");
  gpu.serial = fields.get<std::string>("serial");
  gpu.device_path = fields.get<std::string>("device_path");
  gpu.nvlink_island = fields.find<unsigned>("nvlink_island");
  return gpu;
}

GpuSample read_gpu_sample(const Fields& fields) {
  GpuSample gpu;
  gpu.uuid = fields.get<std::string>("uuid");
  gpu.utilization = fields.find<unsigned>("utilization");
  gpu.memory_used_bytes = fields.find<std::uint64_t>("memory_used_bytes");
  gpu.power_mw = fields.find<unsigned>("power_mw");
  gpu.temperature_c = fields.find<unsigned>("temperature_c");
  gpu.processes = fields.find<std::vector<unsigned>>("processes");
  gpu.links_up = fields.find<std::uint64_t>("links_up");
  return gpu;
}

Message read_inventory(const Fields& fields) {
  Inventory message;
  message.driver = fields.get<std::string>("driver");
  message.nvml = fields.get<std::string>("nvml");
  message.simulated = fields.get<bool>("simulated");
  for (const json::value& gpu : fields.get<json::array>("gpus")) {
    message.gpus.push_back(read_gpu_info(Fields(gpu)));
  }
  message.unidentified = fields.get<unsigned>("unidentified");
  message.capabilities = fields.get<std::vector<std::string>>("capabilities");
  return message;
}

Message read_sample(const Fields& fields) {
  Sample message;
  message.at_boot_us = fields.get<std::int64_t>("at_boot_us");
  for (const json::value& gpu : fields.get<json::array>("gpus")) {
    message.gpus.push_back(read_gpu_sample(Fields(gpu)));
  }
  return message;
}

Message read_fault(const Fields& fields) {
  Fault message;
  message.uuid = fields.get<std::string>("uuid");
  message.pci = fields.get<std::string>("pci");
  message.kind = read_kind(fields);
  message.xid = fields.find<std::uint64_t>("xid");
  message.boot_us = fields.get<std::int64_t>("boot_us");
  message.detail = fields.get<std::string>("detail");
  return message;
}

Message read_recovered(const Fields& fields) {
  Recovered message;
  message.uuid = fields.get<std::string>("uuid");
  message.pci = fields.get<std::string>("pci");
  message.kind = read_kind(fields);
  message.boot_us = fields.get<std::int64_t>("boot_us");
  return message;
}

Message read_processes(const Fields& fields) {
  Processes message;
  message.id = fields.get<std::int64_t>("id");
  message.uuid = fields.get<std::string>("uuid");
  message.pids = fields.find<std::vector<unsigned>>("pids");
  message.memory_used_bytes = fields.find<std::uint64_t>("memory_used_bytes");
  message.error = fields.find<std::string>("error").value_or("");
  return message;
}

Message read_message(const Fields& fields) {
  const auto type = fields.get<std::string>("type");
  if (type == "alive") return Alive{fields.get<std::int64_t>("boot_us")};
  if (type == "fault") return read_fault(fields);
  if (type == "sample") return read_sample(fields);
  if (type == "processes") return read_processes(fields);
  if (type == "inventory") return read_inventory(fields);
  if (type == "recovered") return read_recovered(fields);
  if (type == "unavailable") return Unavailable{fields.get<std::string>("reason"), fields.find<int>("code")};
  throw std::invalid_argument("unknown type '" + type + "'");
}

// Runs `read` on the object in `line`; whatever is wrong with the line becomes a ParseError.
template <class T, class Read>
std::variant<T, ParseError> parse_line(std::string_view line, Read read) {
  if (line.size() > kMaxLineBytes) return ParseError{"the line is too long"};
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error) return ParseError{"not JSON: " + error.message()};
  if (!value.is_object()) return ParseError{"not a JSON object"};
  try {
    return read(Fields(value));
  } catch (const std::exception& problem) {
    return ParseError{problem.what()};
  }
}

}  // namespace

std::string_view name_of(FaultKind kind) {
  for (const auto& [value, name] : kFaultKinds) {
    if (value == kind) return name;
  }
  return "unknown";
}

std::optional<FaultKind> parse_fault_kind(std::string_view text) {
  for (const auto& [value, name] : kFaultKinds) {
    if (name == text) return value;
  }
  return std::nullopt;
}

std::string encode(const Message& message) {
  return std::visit([](const auto& each) { return json::serialize(to_json(each)); }, message);
}

std::string encode(const ProcessesCommand& command) {
  return json::serialize(json::object{{"cmd", "processes"}, {"uuid", command.uuid}, {"id", command.id}});
}

std::variant<Message, ParseError> parse_message(std::string_view line) {
  return parse_line<Message>(line, read_message);
}

std::variant<ProcessesCommand, ParseError> parse_command(std::string_view line) {
  return parse_line<ProcessesCommand>(line, [](const Fields& fields) {
    const auto word = fields.get<std::string>("cmd");
    if (word != "processes") throw std::invalid_argument("unknown command '" + word + "'");
    return ProcessesCommand{fields.get<std::string>("uuid"), fields.get<std::int64_t>("id")};
  });
}

}  // namespace tutti::nvml
