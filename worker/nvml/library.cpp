// See library.h.
#include "worker/nvml/library.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace tutti::nvml {
namespace {

template <class Function>
Function find_symbol(void* handle, const char* name) {
  return reinterpret_cast<Function>(dlsym(handle, name));
}

// dlopen of a FIFO or device would block or worse; its own message for an empty file names no remedy.
std::string why_unloadable(const std::string& path) {
  if (path.find('/') == std::string::npos) return {};  // searched by the dynamic linker
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return path + ": " + std::strerror(errno);
  if (!S_ISREG(status.st_mode)) return path + ": not a regular file";
  if (status.st_size == 0) return path + ": the file is empty";
  return {};
}

// Fills the table; returns the names of required symbols that are absent.
std::string resolve(void* handle, Symbols& symbols) {
  std::string missing;
  auto require = [&missing](bool found, const char* name) {
    if (found) return;
    if (!missing.empty()) missing += ", ";
    missing += name;
  };
#define TUTTI_NVML_REQUIRED(name, arguments)            \
  symbols.name = find_symbol<abi::name>(handle, #name); \
  require(symbols.name != nullptr, #name);
#define TUTTI_NVML_OPTIONAL(name, arguments) symbols.name = find_symbol<abi::name>(handle, #name);
  TUTTI_NVML_SYMBOLS(TUTTI_NVML_REQUIRED, TUTTI_NVML_OPTIONAL)
  TUTTI_NVML_REQUIRED(nvmlErrorString, )
  TUTTI_NVML_OPTIONAL(tutti_nvml_double_version, )
  TUTTI_NVML_OPTIONAL(tutti_nvml_double_device_path, )
#undef TUTTI_NVML_REQUIRED
#undef TUTTI_NVML_OPTIONAL
  return missing;
}

}  // namespace

Library::Opened Library::open(const std::string& path) {
  std::vector<std::string> candidates;
  if (path.empty()) {
    candidates = {"libnvidia-ml.so.1", "libnvidia-ml.so"};
  } else {
    candidates = {path};
  }
  std::string why;
  for (const std::string& candidate : candidates) {
    if (!why.empty()) why += "; ";
    if (std::string problem = why_unloadable(candidate); !problem.empty()) {
      why += problem;
      continue;
    }
    void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* message = dlerror();
      why += message != nullptr ? message : candidate + ": cannot be loaded";
      continue;
    }
    std::unique_ptr<Library> library(new Library(handle, candidate));
    std::string missing = resolve(handle, library->symbols_);
    if (missing.empty()) return {std::move(library), {}};
    why += candidate + ": not an NVML library we can use, it lacks " + missing;
  }
  return {nullptr, "cannot load NVML: " + why};
}

Library::~Library() { dlclose(handle_); }

std::vector<std::string> Library::capabilities() const {
  const Symbols& s = symbols_;
  const std::pair<const char*, bool> words[] = {
      {"clock_reasons", s.nvmlDeviceGetCurrentClocksEventReasons != nullptr},
      {"ecc", s.nvmlDeviceGetTotalEccErrors != nullptr},
      {"events", s.nvmlEventSetCreate && s.nvmlDeviceRegisterEvents && s.nvmlEventSetWait_v2 &&
                     s.nvmlEventSetFree && s.nvmlDeviceGetSupportedEventTypes},
      {"fabric", s.nvmlDeviceGetGpuFabricInfoV != nullptr},
      {"fields", s.nvmlDeviceGetFieldValues != nullptr},
      {"handle_by_uuid", s.nvmlDeviceGetHandleByUUID != nullptr},
      {"memory", s.nvmlDeviceGetMemoryInfo != nullptr},
      {"nvlink_state", s.nvmlDeviceGetNvLinkState != nullptr},
      {"nvlink_topology", s.nvmlDeviceGetP2PStatus != nullptr},
      {"pci", s.nvmlDeviceGetPciInfo_v3 != nullptr},
      {"pcie_link", s.nvmlDeviceGetCurrPcieLinkWidth && s.nvmlDeviceGetMaxPcieLinkWidth},
      {"power", s.nvmlDeviceGetPowerUsage != nullptr},
      {"processes", s.nvmlDeviceGetComputeRunningProcesses_v3 != nullptr},
      {"remapped_rows", s.nvmlDeviceGetRemappedRows != nullptr},
      {"temperature", s.nvmlDeviceGetTemperature != nullptr},
      {"utilization", s.nvmlDeviceGetUtilizationRates != nullptr},
  };
  std::vector<std::string> present;
  for (const auto& [word, has] : words) {
    if (has) present.emplace_back(word);
  }
  return present;
}

std::string Library::describe(Return code) const {
  const char* text = symbols_.nvmlErrorString(code);
  return std::string(text != nullptr ? text : "no description") + " (" +
         std::to_string(static_cast<int>(code)) + ")";
}

}  // namespace tutti::nvml
