// A simulated GPU machine in a scratch folder, for one test. While it lives, the environment of this process
// points the double at it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/nvml/boot_clock.h"
#include "worker/nvml/double/sim_files.h"

namespace tutti::nvml::test {

inline std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// Where the build put its programs and libraries; tutti_test sets both.
inline std::string program(const std::string& name) { return from_environment("TUTTI_BIN") + "/" + name; }
inline std::string double_library() {
  return from_environment("TUTTI_LIB") + "/nvml-double/libnvidia-ml.so.1";
}
inline std::string old_double_library() {
  return from_environment("TUTTI_LIB") + "/nvml-double/libnvidia-ml-old.so.1";
}

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-nvml-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp: " + name);
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Machine {
 public:
  explicit Machine(unsigned gpus = 4, unsigned island_size = 8, std::vector<std::string> slices = {}) {
    sim::NodePlan plan;
    plan.node = "node-a";
    plan.gpus = gpus;
    plan.island_size = island_size;
    plan.slices = std::move(slices);
    EXPECT_EQ(sim::create_machine(folder(), plan), "");
    setenv("TUTTI_NVML_DOUBLE_STATE", path().c_str(), 1);
  }
  ~Machine() { unsetenv("TUTTI_NVML_DOUBLE_STATE"); }

  const std::string& path() const { return scratch_.path(); }
  sim::Folder folder() const { return {path()}; }

  sim::State state() const {
    std::string problem;
    auto state = sim::load_state(folder(), problem);
    EXPECT_TRUE(state) << problem;
    return state.value_or(sim::State{});
  }
  std::string uuid(unsigned gpu) const { return state().gpus.at(gpu).uuid; }

  void change(unsigned gpu, const std::function<void(sim::Gpu&)>& edit) {
    EXPECT_EQ(sim::update_state(folder(),
                                [&](sim::State& state) {
                                  edit(state.gpus.at(gpu));
                                  return std::string();
                                }),
              "");
  }
  void set_mode(unsigned gpu, sim::GpuMode mode) {
    change(gpu, [mode](sim::Gpu& each) { each.mode = mode; });
  }
  void misbehave(const std::string& text) {
    EXPECT_EQ(sim::update_state(folder(),
                                [&](sim::State& state) {
                                  std::string problem;
                                  const auto fault = sim::parse_fault(text, problem);
                                  if (fault) state.faults.push_back(*fault);
                                  return fault ? std::string() : problem;
                                }),
              "");
  }
  // What `tutti-gpu-sim xid` does.
  void inject_xid(unsigned gpu, unsigned xid) {
    change(gpu, [xid](sim::Gpu& each) { sim::apply_xid(each, xid); });
    EXPECT_EQ(sim::append_event(folder(), {boot_us(), uuid(gpu), kEventXid, xid}), "");
  }

 private:
  ScratchFolder scratch_;
};

}  // namespace tutti::nvml::test
