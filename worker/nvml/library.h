// Loads an NVML library at run time: the real one, or our double, through the same code. Called by the probe
// process and by the contract tests; nothing else in the worker touches NVML, because its calls can hang.
//
// Invariants
// 1. A path that was asked for is the only one tried: silently loading another library could show simulated
// GPUs
//    as real ones, or the reverse. Without one, libnvidia-ml.so.1 and then libnvidia-ml.so are tried.
// 2. Opening never fails by crashing: a missing, empty or foreign file and a library without the required
//    symbols all end in a reason a person can act on.
// 3. In `Symbols`, required pointers are never null; optional ones may be.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/nvml/abi.h"

namespace tutti::nvml {

struct Symbols {
#define TUTTI_NVML_MEMBER(name, arguments) abi::name name = nullptr;
  TUTTI_NVML_SYMBOLS(TUTTI_NVML_MEMBER, TUTTI_NVML_MEMBER)
#undef TUTTI_NVML_MEMBER
  abi::nvmlErrorString nvmlErrorString = nullptr;
  abi::tutti_nvml_double_version tutti_nvml_double_version = nullptr;
  abi::tutti_nvml_double_device_path tutti_nvml_double_device_path = nullptr;
};

class Library {
 public:
  struct Opened {
    std::unique_ptr<Library> library;  // null: see why
    std::string why;
  };
  // `path` empty: the system's library.
  static Opened open(const std::string& path);

  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  const Symbols& symbols() const { return symbols_; }
  const std::string& path() const { return path_; }
  bool simulated() const { return symbols_.tutti_nvml_double_version != nullptr; }
  // What this library can do beyond the required calls, as words for the node's inventory: "events", "ecc", …
  std::vector<std::string> capabilities() const;
  // "GPU is lost (15)": the library's own words and the number.
  std::string describe(Return code) const;

 private:
  Library(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

  void* handle_;
  std::string path_;
  Symbols symbols_;
};

}  // namespace tutti::nvml
